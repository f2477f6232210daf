//! Streamed answers, event by event.

mod chat_in;
mod chat_out;
mod messages_in;
mod messages_out;
mod responses_out;
mod same;
mod sequence;

use serde_json::Value;

use self::chat_in::ChatReader;
use self::chat_out::ChatWriter;
use self::messages_in::MessagesReader;
use self::messages_out::MessagesWriter;
use self::responses_out::ResponsesWriter;
use self::same::Same;
use self::sequence::{Closing, Sequence, Step};
use super::fault::event_error;
use super::probe::Probe;
use super::{AnswerOptions, Api, ApiFault, SseEvent, UpstreamError, WireError, error_event};

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

#[derive(Debug)]
enum Route {
    Same(Same),
    Translated(Box<Translated>),
}

#[derive(Debug)]
struct Translated {
    reader: Reader,
    sequence: Sequence,
    writer: Writer,
}

#[derive(Debug)]
enum Reader {
    Chat(ChatReader),
    Messages(MessagesReader),
}

#[derive(Debug)]
enum Writer {
    Chat(ChatWriter),
    Messages(MessagesWriter),
    Responses(ResponsesWriter),
}

impl Writer {
    fn write(&mut self, step: Step, out: &mut Vec<SseEvent>) {
        match self {
            Self::Chat(writer) => writer.write(step, out),
            Self::Messages(writer) => writer.write(step, out),
            Self::Responses(writer) => writer.write(step, out),
        }
    }
}

/// One streamed answer on its way from the server's API to the client's.
#[derive(Debug)]
pub struct Stream {
    route: Route,
    from: Api,
    to: Api,
    probe: Probe,
    outcome: Outcome,
}

impl Stream {
    /// A stream that comes in the server's API, `from`, and goes out in the client's, `to`.
    ///
    /// # Errors
    /// [`WireError::Pair`] if there is no way.
    pub fn new(from: Api, to: Api, options: AnswerOptions) -> Result<Self, WireError> {
        if !to.can_reach(from) || from == Api::Embeddings {
            return Err(WireError::Pair { client: to, upstream: from });
        }
        let route = if from == to {
            Route::Same(Same::new(from, options))
        } else {
            let (reader, closing) = match from {
                Api::Messages => (Reader::Messages(MessagesReader::default()), Closing::Said),
                _ => (Reader::Chat(ChatReader::new(&options.id)), Closing::Next),
            };
            let writer = match to {
                Api::Messages => Writer::Messages(MessagesWriter::new(options)),
                Api::Responses => Writer::Responses(ResponsesWriter::new(options)),
                _ => Writer::Chat(ChatWriter::new(options)),
            };
            Route::Translated(Box::new(Translated { reader, sequence: Sequence::new(closing), writer }))
        };
        Ok(Self { route, from, to, probe: Probe::default(), outcome: Outcome::Open })
    }

    /// Takes one event of the server and appends those that the client gets for it. Events after the end are ignored.
    ///
    /// # Errors
    /// [`WireError::Answer`] if the event is not what its API promises, [`WireError::TooLarge`] if the answer is too
    /// long. The stream cannot go on then; tell the client with [`error_event`].
    pub fn push(&mut self, event: &SseEvent, out: &mut Vec<SseEvent>) -> Result<(), WireError> {
        if self.outcome != Outcome::Open {
            return Ok(());
        }
        self.outcome = match &mut self.route {
            Route::Same(same) => {
                self.probe.raw_event(self.from, event);
                same.push(event, out)?
            }
            Route::Translated(translated) => {
                translated.push(event, &mut self.probe, self.to, out).map_err(WireError::in_answer)?
            }
        };
        Ok(())
    }

    /// Says that the server's stream is over.
    ///
    /// # Errors
    /// [`WireError::Truncated`] if its end event never came; tell the client with [`error_event`].
    pub fn finish(&self) -> Result<(), WireError> {
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

impl Translated {
    fn push(
        &mut self,
        event: &SseEvent,
        probe: &mut Probe,
        to: Api,
        out: &mut Vec<SseEvent>,
    ) -> Result<Outcome, WireError> {
        let mut outcome = Outcome::Open;
        if event.data.starts_with("[DONE]") {
            // Anthropic's streams have an end of their own.
            if let Reader::Chat(reader) = &mut self.reader {
                reader.end(&mut self.sequence)?;
                outcome = Outcome::Complete;
            }
        } else {
            let value: Value = serde_json::from_str(&event.data)
                .map_err(|e| WireError::answer("data", format!("an event is not valid JSON: {e}")))?;
            if let Some(error) = event_error(&value) {
                out.push(error_event(to, &ApiFault::from(&error)));
                return Ok(Outcome::Failed(error));
            }
            match &mut self.reader {
                Reader::Chat(reader) => {
                    probe.event(Api::Chat, &value);
                    reader.read(value, &mut self.sequence)?;
                }
                Reader::Messages(reader) => {
                    probe.event(Api::Messages, &value);
                    if reader.read(value, &mut self.sequence)? {
                        outcome = Outcome::Complete;
                    }
                }
            }
        }
        for step in self.sequence.steps.drain(..) {
            self.writer.write(step, out);
        }
        Ok(outcome)
    }
}
