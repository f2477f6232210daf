//! From a request body to what the engine is asked.
//!
//! Everything here runs on a blocking thread: parsing megabytes of JSON, rendering a template and tokenising are CPU
//! work that would hold up every other connection of its thread.

mod chat;
mod completion;
mod sampling;
mod structured;
mod tools;

use std::sync::Arc;

use bantam_engine::GenerateRequest;

use crate::answer::CallStyle;
use crate::model::ServedModel;

pub(crate) use chat::chat;
pub(crate) use completion::completion;
pub(crate) use sampling::token_ids;

/// A request that is ready for the engine.
pub(crate) struct Prepared {
    pub(crate) model: Arc<ServedModel>,
    /// The field the prompts came from, for errors about them.
    pub(crate) input: &'static str,
    pub(crate) prompts: Vec<PromptTokens>,
    /// Answers per prompt.
    pub(crate) n: usize,
    /// Everything but prompt and choice.
    pub(crate) options: GenerateRequest,
    pub(crate) delivery: Delivery,
    /// Whether log-probabilities are shown: they may be computed for us only.
    pub(crate) shows_logprobs: bool,
    /// Where the answers call tools.
    pub(crate) calls: CallStyle,
}

/// One prompt.
pub(crate) struct PromptTokens {
    pub(crate) ids: Vec<u32>,
    /// The text to put before the answer.
    pub(crate) echo: Option<String>,
}

/// How the answer is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    Stream { include_usage: bool },
}
