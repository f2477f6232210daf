//! Why a chat template could not be used.

use crate::gguf::GgufError;

/// Why a chat template could not be read or rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum TemplateError {
    /// The template refused the conversation with `raise_exception`; the message is the template author's, meant for
    /// whoever sent the conversation.
    #[error("the chat template refuses this conversation: {message}")]
    Raised { message: String },

    /// The source is not a template.
    #[error("the chat template is broken at line {line}: {message}")]
    Syntax { line: u32, message: String },

    /// The template asks for something that cannot be done, such as an attribute of an undefined value.
    #[error("the chat template fails at line {line}: {message}")]
    Failed { line: u32, message: String },

    /// The template exceeds a limit that no honest template comes near.
    #[error("the chat template exceeds the limit of {limit} {what} (at line {line})")]
    Limit { line: u32, what: &'static str, limit: u64 },

    /// There is no template of the name asked for.
    #[error("the model has no chat template named `{name}`; it has {}", known.join(", "))]
    UnknownName { name: String, known: Vec<String> },

    /// `tokenizer_config.json` holds templates in an unknown form.
    #[error("`chat_template` should be a text, or a list of objects with the texts `name` and `template`")]
    Config,

    /// The model file does not give what a template needs.
    #[error("cannot read the chat template: {source}")]
    Gguf {
        #[from]
        source: GgufError,
    },
}

impl TemplateError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            TemplateError::Raised { .. } => Some("change the order or roles of the messages as the message says"),
            TemplateError::Syntax { .. } | TemplateError::Failed { .. } | TemplateError::Limit { .. } => {
                Some("the fault is in the model file's template; completions without a chat template still work")
            }
            _ => None,
        }
    }
}
