//! An answer apart from any API: the blocks that it consists of, in order, and why it ended.

use serde_json::Value;

use super::WireError;
use super::probe::Usage;

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// The model ended its turn.
    Stop,
    /// This stop string was met.
    StopSequence(String),
    /// No more tokens were allowed.
    Length,
    /// The model waits for its tools.
    ToolCalls,
    /// The model or a filter would not say it.
    Refused,
}

impl Finish {
    /// Reads chat's `finish_reason`; `stop_reason` beside it is vLLM's, and ours: the stop string that was met.
    pub(super) fn of_chat(reason: &str, stop_reason: Option<&Value>) -> Result<Self, WireError> {
        Ok(match reason {
            "stop" | "eos" | "eos_token" => match stop_reason.and_then(Value::as_str) {
                Some(stop) => Self::StopSequence(stop.to_owned()),
                None => Self::Stop,
            },
            "length" => Self::Length,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::Refused,
            other => {
                return Err(WireError::answer("choices[0].finish_reason", format!("'{other}' is no way to end")));
            }
        })
    }

    pub(super) fn to_chat(&self) -> &'static str {
        match self {
            Self::Stop | Self::StopSequence(_) => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::Refused => "content_filter",
        }
    }

    /// Reads Anthropic's `stop_reason` and `stop_sequence`.
    pub(super) fn of_messages(reason: &str, stop_sequence: Option<&Value>) -> Result<Self, WireError> {
        Ok(match reason {
            "end_turn" => Self::Stop,
            "stop_sequence" => match stop_sequence.and_then(Value::as_str) {
                Some(stop) => Self::StopSequence(stop.to_owned()),
                None => Self::Stop,
            },
            "max_tokens" | "model_context_window_exceeded" => Self::Length,
            "tool_use" => Self::ToolCalls,
            "refusal" => Self::Refused,
            other => return Err(WireError::answer("stop_reason", format!("'{other}' is no way to end here"))),
        })
    }

    /// Anthropic's `stop_reason` and `stop_sequence`.
    pub(super) fn to_messages(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Stop => ("end_turn", None),
            Self::StopSequence(stop) => ("stop_sequence", Some(stop)),
            Self::Length => ("max_tokens", None),
            Self::ToolCalls => ("tool_use", None),
            Self::Refused => ("refusal", None),
        }
    }

    /// Some servers say that an answer with calls just stopped; clients would not run the tools.
    pub(super) fn with_calls(self) -> Self {
        if self == Self::Stop { Self::ToolCalls } else { self }
    }

    /// Whether the answer may end in the middle of a call's arguments.
    pub(super) fn may_cut(&self) -> bool {
        matches!(self, Self::Length | Self::Refused)
    }
}

/// What a block of an answer is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// Thoughts.
    Thinking,
    /// Thoughts that the server withholds, sealed.
    Redacted {
        /// The seal.
        data: String,
    },
    /// Text.
    Text,
    /// A refusal in words.
    Refusal,
    /// The call of a tool; its text is the arguments, a JSON object.
    Call {
        /// What the tool's answer refers to.
        id: String,
        /// Which tool.
        name: String,
    },
}

/// One block of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) kind: Kind,
    /// Text, thoughts or arguments.
    pub(super) text: String,
    /// Anthropic's seal on thoughts; empty if there is none.
    pub(super) signature: String,
    /// Log probabilities of a text's tokens.
    pub(super) logprobs: Vec<Value>,
}

impl Block {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), signature: String::new(), logprobs: Vec::new() }
    }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reply {
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    pub(super) created: Option<u64>,
    pub(super) blocks: Vec<Block>,
    pub(super) finish: Finish,
    pub(super) usage: Option<Usage>,
}
