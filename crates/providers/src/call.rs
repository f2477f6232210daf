//! What a caller hands in.

use bytes::Bytes;
use hyper::HeaderMap;
use tokio::time::Instant;

use crate::target::Target;
use crate::trace::TraceContext;
use crate::wire::Api;

/// One request to whichever target answers it.
pub struct Call<'a> {
    /// Makes the request for a target.
    pub outgoing: &'a dyn Outgoing,
    /// How the answer is wanted.
    pub delivery: Delivery,
    /// When the caller gives up, retries and the end of the answer included.
    pub deadline: Instant,
    /// The span that attempts stand below; targets are told of it.
    pub trace: Option<TraceContext>,
}

/// How an answer is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// When it is complete: one that breaks off is tried again like one that never came.
    Whole,
    /// From its first byte on; what fails after that is told in the body and never tried again.
    Stream,
}

/// A request as one target takes it.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Which of the target's APIs.
    pub api: Api,
    /// Headers to pass on. Credentials, `host` and those of the connection are never taken from here.
    pub headers: HeaderMap,
    /// The body, JSON.
    pub body: Bytes,
}

/// Why a request cannot be made for a target; the call goes on with the next and, if none is left, gives it back.
pub type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Makes requests: model names and dialects differ from target to target. Asked once per target and call.
pub trait Outgoing: Send + Sync {
    /// The request for a target.
    ///
    /// # Errors
    /// When it cannot be expressed there.
    fn outbound(&self, target: &Target) -> Result<Outbound, Refusal>;
}

impl<F> Outgoing for F
where
    F: Fn(&Target) -> Result<Outbound, Refusal> + Send + Sync,
{
    fn outbound(&self, target: &Target) -> Result<Outbound, Refusal> {
        self(target)
    }
}
