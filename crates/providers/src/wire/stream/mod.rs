//! Streamed answers, event by event.

mod same;

use same::Same;

use super::probe::Probe;
use super::{AnswerOptions, Api, SseEvent, UpstreamError, WireError};

/// Most bytes of a streamed answer's text and arguments that are kept to complete its last events.
pub const MAX_ANSWER_BYTES: usize = 32 << 20;

/// How far a streamed answer is.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Its end was not seen yet.
    Open,
    /// Its end event was seen.
    Complete,
    /// The server ended it with an error, which the client was told as an event of its API.
    Failed(UpstreamError),
}

/// One streamed answer on its way from the server's API to the client's.
#[derive(Debug)]
pub struct Stream {
    same: Same,
    from: Api,
    probe: Probe,
    outcome: Outcome,
}

impl Stream {
    /// A stream that comes in the server's API, `from`, and goes out in the client's, `to`.
    ///
    /// # Errors
    /// [`WireError::Pair`] if there is no way.
    pub fn new(from: Api, to: Api, options: AnswerOptions) -> Result<Self, WireError> {
        if from != to || from == Api::Embeddings {
            return Err(WireError::Pair { client: to, upstream: from });
        }
        Ok(Self { same: Same::new(from, options), from, probe: Probe::default(), outcome: Outcome::Open })
    }

    /// Takes one event of the server and appends those that the client gets for it. Events after the end are ignored.
    ///
    /// # Errors
    /// [`WireError::Answer`] if the event is not what its API promises, [`WireError::TooLarge`] if the answer is too
    /// long. The stream cannot go on then; tell the client with [`super::error_event`].
    pub fn push(&mut self, event: &SseEvent, out: &mut Vec<SseEvent>) -> Result<(), WireError> {
        if self.outcome != Outcome::Open {
            return Ok(());
        }
        self.probe.raw_event(self.from, event);
        self.outcome = self.same.push(event, out)?;
        Ok(())
    }

    /// Says that the server's stream is over.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if its end event never came.
    pub fn finish(&mut self, _out: &mut Vec<SseEvent>) -> Result<(), WireError> {
        match self.outcome {
            Outcome::Open => Err(WireError::Truncated { expected: same::end_event(self.from) }),
            _ => Ok(()),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What the server said of the answer so far: model, usage, why it ended.
    #[must_use]
    pub fn probe(&self) -> &Probe {
        &self.probe
    }
}
