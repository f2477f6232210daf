//! The small model's answer as a whole, and how sure it is, before anybody sees it.

use bantam_ledger::TokenCounts;
use bantam_providers::wire::probe::{Probe, Said, for_each_logprob};
use bantam_providers::wire::{self, AnswerOptions, Api, SseEvent, WireError};
use bantam_router::{Check, SmallAnswer};
use futures::StreamExt;
use serde_json::Value;

use super::account::{Account, Answerer};
use super::{Answered, Asked};
use crate::counted;
use crate::error::ApiError;
use crate::reply::{Logprobs, Noted, Part, Reply};

/// An answer and what it shows of itself.
pub(super) struct Gathered {
    pub(super) answered: Answered,
    pub(super) tokens: TokenCounts,
    pub(super) finish: Option<String>,
    /// Absent where nobody told them.
    logprobs: Option<Logprobs>,
}

impl Gathered {
    /// What it shows to the router.
    pub(super) fn shown(&self) -> SmallAnswer {
        let mean = self.logprobs.map(|l| l.sum / l.tokens.max(1) as f64);
        SmallAnswer {
            mean_logprob: mean,
            min_logprob: self.logprobs.map(|l| l.least),
            tokens: self.logprobs.map(|l| l.tokens),
            margin: None,
            check: self.is_cut().then_some(Check::Failed),
        }
    }

    /// How sure the model is of it: the geometric mean of its tokens' probabilities, if they are known. An answer that was cut inspires no confidence.
    pub(super) fn confidence(&self) -> Option<f64> {
        let known = self.logprobs.filter(|l| l.tokens > 0)?;
        Some(if self.is_cut() { 0.0 } else { (known.sum / known.tokens as f64).exp() })
    }

    /// An answer that was cut is none. The APIs have each a word of their own for it.
    fn is_cut(&self) -> bool {
        matches!(self.finish.as_deref(), Some("length" | "max_tokens" | "max_output_tokens" | "incomplete"))
    }
}

/// Whether a request asks for the probabilities that tell how sure an answer is: models elsewhere show none unasked.
pub(super) fn asks_for_logprobs(asked: &Asked) -> bool {
    let logprobs = asked.body.get("logprobs");
    match asked.api {
        Api::Chat => logprobs.is_some_and(|l| *l == true),
        Api::Completions => logprobs.is_some_and(Value::is_u64),
        Api::Responses => {
            let include = asked.body.get("include").and_then(Value::as_array).into_iter().flatten();
            include.into_iter().any(|what| *what == "message.output_text.logprobs")
        }
        Api::Messages | Api::Embeddings => false,
    }
}

/// Waits for all of an answer. What comes from elsewhere is noted as it comes.
pub(super) async fn gather(asked: &Asked, answered: Answered, account: &mut Account) -> Result<Gathered, ApiError> {
    let Answered { reply, api, by, target, pseudonyms } = answered;
    let known = |noted: &Noted| (noted.tokens(), noted.finish.clone(), noted.logprobs);
    let (reply, (tokens, finish, logprobs)) = match reply {
        Reply::Whole { body, noted } => {
            let known = known(&noted);
            (Reply::Whole { body, noted }, known)
        }
        Reply::Upstream(body) => {
            let heard = Heard::whole(api, &body)?;
            let tokens = counted::whole(asked, heard.probe.usage(), &heard.said);
            (Reply::Upstream(body), (tokens, heard.probe.finish, heard.logprobs))
        }
        Reply::Stream(mut parts) => {
            let mut stream = match by {
                Answerer::Hosted { .. } => Some(wire::Stream::new(api, api, AnswerOptions::default())?),
                _ => None,
            };
            let (mut all, mut noted, mut heard) = (Vec::new(), Noted::default(), Heard::default());
            while let Some(part) = parts.next().await {
                let part = part?;
                match (&part, &mut stream) {
                    (Part::Noted(so_far), _) => noted = so_far.clone(),
                    (Part::Event(event), Some(stream)) => {
                        let pushed = stream.push(event, &mut Vec::new());
                        heard.event(api, event)?;
                        account.heard(|| counted::so_far(asked, stream.probe().usage(), &heard.said));
                        pushed?;
                        if let wire::Outcome::Failed(error) = stream.outcome() {
                            return Err(ApiError::upstream(error.clone(), target.as_deref()));
                        }
                    }
                    _ => {}
                }
                all.push(Ok(part));
            }
            let known = match stream {
                Some(stream) => {
                    stream.finish()?;
                    let probe = stream.probe();
                    (counted::whole(asked, probe.usage(), &heard.said), probe.finish.clone(), heard.logprobs)
                }
                None => known(&noted),
            };
            (Reply::Stream(futures::stream::iter(all).boxed()), known)
        }
    };
    Ok(Gathered { answered: Answered { reply, api, by, target, pseudonyms }, tokens, finish, logprobs })
}

/// What is seen in an answer from elsewhere.
#[derive(Default)]
struct Heard {
    probe: Probe,
    said: Said,
    logprobs: Option<Logprobs>,
}

impl Heard {
    fn whole(api: Api, body: &[u8]) -> Result<Self, ApiError> {
        let no_json = |e| WireError::Answer { path: ".".into(), why: format!("it is not JSON: {e}") };
        let mut heard = Self::default();
        let value: Value = serde_json::from_slice(body).map_err(no_json)?;
        heard.said.body(api, body).map_err(no_json)?;
        heard.probe.body(api, &value);
        heard.look(api, &value);
        Ok(heard)
    }

    fn event(&mut self, api: Api, event: &SseEvent) -> Result<(), ApiError> {
        if event.data.starts_with("[DONE]") {
            return Ok(());
        }
        let no_json = |e| WireError::Answer { path: ".".into(), why: format!("an event is not JSON: {e}") };
        self.said.event(api, &event.data).map_err(no_json)?;
        if event.data.contains("logprob") {
            let value: Value = serde_json::from_str(&event.data).map_err(no_json)?;
            self.look(api, &value);
        }
        Ok(())
    }

    fn look(&mut self, api: Api, value: &Value) {
        for_each_logprob(api, value, &mut |logprob| {
            let token = Logprobs { sum: logprob, least: logprob, tokens: 1 };
            self.logprobs = Some(Logprobs::with(self.logprobs, token));
        });
    }
}
