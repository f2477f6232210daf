//! The error object every `/v1/*` route answers with.

use serde::{Deserialize, Serialize};

/// The body of an error answer, and the `data:` of an error inside a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorObject,
}

/// What went wrong, in the four fields OpenAI's clients read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorObject {
    /// For people: what is wrong and how to put it right.
    pub message: String,
    /// The class of error, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The path of the field at fault, such as `messages[0].role`.
    pub param: Option<String>,
    /// For programs: the exact fault, such as `model_not_found`.
    pub code: Option<String>,
}
