//! The APIs there are.

use std::fmt;

use serde::Deserialize;

/// An API that a client or a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// OpenAI's `POST /v1/chat/completions`; the pivot.
    Chat,
    /// OpenAI's `POST /v1/completions`; only as it is.
    Completions,
    /// OpenAI's `POST /v1/embeddings`; only as it is.
    Embeddings,
    /// OpenAI's `POST /v1/responses`.
    Responses,
    /// Anthropic's `POST /v1/messages`.
    Messages,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Chat, Self::Completions, Self::Embeddings, Self::Responses, Self::Messages];

    /// The path of its URL under the base that ends before `/v1`.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
        }
    }

    /// A short name, as in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Messages => "messages",
        }
    }

    /// Whether a client of this API can be served by a server that speaks `upstream`.
    #[must_use]
    pub fn can_reach(self, upstream: Self) -> bool {
        use Api::{Chat, Messages, Responses};
        self == upstream || matches!((self, upstream), (Chat | Responses, Messages) | (Messages | Responses, Chat))
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
