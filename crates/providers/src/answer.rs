//! What a caller gets back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use hyper::{HeaderMap, StatusCode};

use crate::error::Fault;
use crate::streaming::Streaming;
use crate::target::Target;
use crate::trace::TraceContext;

/// An answer, of whatever status: a target's word is the caller's to judge once nothing is left to try.
#[derive(Debug)]
pub struct Answered {
    /// Who answered.
    pub target: Arc<Target>,
    /// With which status.
    pub status: StatusCode,
    /// With which headers.
    pub headers: HeaderMap,
    /// The body. Dropping it ends the request at the target at once.
    pub body: AnswerBody,
    /// Every attempt, in order; the last brought this answer.
    pub attempts: Vec<Attempt>,
}

/// One attempt at one target.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The target.
    pub target: Arc<Target>,
    /// From the beginning of the call to that of the attempt.
    pub started: Duration,
    /// From the beginning of the attempt to the first byte of the answer's body, if one came.
    pub first_byte: Option<Duration>,
    /// From the beginning of the attempt to its outcome: the end of the answer, or its first byte in a stream.
    pub took: Duration,
    /// What came of it.
    pub outcome: Outcome,
    /// What happened then.
    pub next: Next,
    /// Its own span, which the target was told, where the call has one.
    pub trace: Option<TraceContext>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer of this status.
    Status(u16),
    /// None, or an incomplete one.
    Fault(Fault),
}

/// What happened after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Its answer was handed over, or its fault told.
    Told,
    /// Another attempt in the same group.
    Retried,
    /// The next group was tried.
    FellBack,
}

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody(pub(crate) BodyKind);

#[derive(Debug)]
pub(crate) enum BodyKind {
    Whole(Bytes),
    Streaming(Box<Streaming>),
}

impl AnswerBody {
    /// The whole body, if it was handed over whole.
    #[must_use]
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.0 {
            BodyKind::Whole(bytes) => Some(bytes),
            BodyKind::Streaming(_) => None,
        }
    }

    /// The rest of the body in one piece.
    ///
    /// # Errors
    /// The fault that ended it early.
    pub async fn collect(mut self) -> Result<Bytes, Fault> {
        if let BodyKind::Whole(bytes) = self.0 {
            return Ok(bytes);
        }
        let mut all = Vec::new();
        while let Some(piece) = self.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all.into())
    }
}

/// Pieces as they come. Ends after an error.
impl Stream for AnswerBody {
    type Item = Result<Bytes, Fault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            BodyKind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            BodyKind::Streaming(streaming) => streaming.poll_piece(cx),
        }
    }
}
