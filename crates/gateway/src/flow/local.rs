//! Answers of models in this process.

use std::sync::Arc;

use bantam_engine::LogprobsOf;
use bantam_providers::wire::{self, Api};
use bantam_types::openai::{ChatRequest, CompletionRequest, read_value};

use super::account::{Account, Answerer};
use super::{Answered, Asked, Scope};
use crate::answer::{ChatFormat, CompletionFormat, answer};
use crate::error::ApiError;
use crate::model::ServedModel;
use crate::prepare::{self, Prepared};
use crate::replay::Replay;

impl Scope {
    pub(super) async fn local(
        &mut self,
        model: &Arc<ServedModel>,
        account: &mut Account,
    ) -> Result<Answered, ApiError> {
        let by = Answerer::Local(Arc::clone(model));
        let native = match self.asked.api {
            Api::Completions => Api::Completions,
            Api::Embeddings => {
                let fix = "/v1/completions, or serve an encoder: bantam serve --model all-minilm-l6-v2";
                return Err(ApiError::WrongModelKind { model: model.id.clone(), kind: "a generating model", fix });
            }
            _ => Api::Chat,
        };
        let (asked, app, served) = (Arc::clone(&self.asked), Arc::clone(&self.app), Arc::clone(model));
        let salt = self.caller.key.as_ref().map(|key| key.id.to_string());
        let prepared = app.cpu_task(asked.bytes.len(), {
            let (most, judged) = (app.config.limits.choices, self.judged);
            move || {
                let mut prepared = prepare(served, &asked, native, most)?;
                // Nobody may find out by timing what another key's prompts begin with.
                prepared.options.cache_salt = salt;
                if judged && prepared.options.logprobs.is_none() {
                    prepared.options.logprobs = Some(0);
                    // What a grammar forbids says nothing about how sure the model is of what it could choose.
                    prepared.options.logprobs_of = LogprobsOf::Allowed;
                }
                Ok(prepared)
            }
        });
        let mut prepared = self.bounds.run(prepared).await??;
        account.answers(by.clone());
        account.replayable(|| Replay::of(&prepared));
        account.durable().await?;
        let (app, trace) = (Arc::clone(&self.app), Arc::clone(&self.trace));
        let reply = match native {
            Api::Completions => {
                let format = CompletionFormat::new(&mut prepared);
                self.bounds.run(answer(app, trace, prepared, format)).await??
            }
            _ => {
                let format = ChatFormat::new(&prepared);
                self.bounds.run(answer(app, trace, prepared, format)).await??
            }
        };
        Ok(Answered { reply, api: native, by, target: None, pseudonyms: None })
    }
}

pub(super) fn prepare(model: Arc<ServedModel>, asked: &Asked, native: Api, most: usize) -> Result<Prepared, ApiError> {
    match native {
        Api::Completions => prepare::completion(model, read_value::<CompletionRequest>(&asked.body)?, most),
        _ if asked.api == native => prepare::chat(model, read_value::<ChatRequest>(&asked.body)?, most),
        _ => {
            let body = wire::request(asked.body.clone(), asked.api, native)?;
            prepare::chat(model, read_value::<ChatRequest>(&body)?, most)
        }
    }
}
