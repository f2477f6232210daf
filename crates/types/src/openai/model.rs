//! `GET /v1/models`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The models a server offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelList {
    /// Always `list`.
    pub object: Cow<'static, str>,
    /// One entry per model.
    pub data: Vec<ModelObject>,
}

/// One model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelObject {
    /// The name to put in a request's `model`.
    pub id: String,
    /// Always `model`.
    pub object: Cow<'static, str>,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// Who runs it.
    pub owned_by: Cow<'static, str>,
    /// Our extension: how many tokens prompt and answer may have together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<usize>,
    /// Our extension: whether `/v1/chat/completions` works, that is whether the model has a chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<bool>,
    /// Our extension: elements of a vector, if the model is an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<usize>,
}
