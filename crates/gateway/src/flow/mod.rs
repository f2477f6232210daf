//! The way of one request, whatever API it came by: who asks, what for, what may answer it, and what that came to.
//!
//! 1. `caller` finds the key, `asked` reads the body;
//! 2. `route` takes the name asked for to what may answer, after the policy had its say;
//! 3. `account` reserves what that may cost and has the request put on record;
//! 4. `local` and `upstream` answer, one after another until one does; `auto` chooses between a small and a large model;
//! 5. the relay writes the answer to the client, its end only when the entry is committed.

mod account;
mod asked;
mod auto;
mod caller;
mod count;
mod embedded;
mod gather;
mod local;
mod prompt;
mod route;
mod screen;
mod upstream;

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use bantam_pii::Pseudonyms;
use bantam_providers::target::Target;
use bantam_providers::wire::{AnswerOptions, Api};

pub(crate) use account::{Account, Answerer};
pub(crate) use asked::Asked;
pub(crate) use caller::{Caller, NO_ADMIN, NO_KEYS, secret};
pub(crate) use count::count_tokens;
pub use prompt::recorded_prompt;

use crate::app::{App, Bounds};
use crate::body;
use crate::error::ApiError;
use crate::live::{Live, Step};
use crate::observe::Trace;
use crate::relay::Relay;
use crate::reply::Reply;

/// The request's name in the ledger, for feedback.
pub(crate) const ID: HeaderName = HeaderName::from_static("x-bantam-id");
/// The model that answered.
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-bantam-model");
/// Who serves it: a provider of the configuration, or `local`.
const PROVIDER: HeaderName = HeaderName::from_static("x-bantam-provider");
/// The exact file and arithmetic of a local model.
const FINGERPRINT: HeaderName = HeaderName::from_static("x-bantam-fingerprint");

/// What stays the same while a request is answered.
struct Scope {
    app: Arc<App>,
    live: Arc<Live>,
    trace: Arc<Trace>,
    asked: Arc<Asked>,
    caller: Caller,
    /// Headers of the client that upstreams of its own kind get.
    passed: HeaderMap,
    bounds: Bounds,
    /// Whether somebody will ask how sure the answer is.
    judged: bool,
    /// What was found in it, if that was looked for.
    screened: screen::Screened,
}

/// An answer and who gave it.
struct Answered {
    reply: Reply,
    /// In whose form it is.
    api: Api,
    /// For the headers.
    by: Answerer,
    /// The server it comes from, if it does.
    target: Option<Arc<Target>>,
    /// What its pseudonyms stand for, if it has any.
    pseudonyms: Option<Arc<Pseudonyms>>,
}

/// Marks a request of this process for somebody who may administer: it needs no key, and is charged to the overall budgets only. No client
/// can set it.
#[derive(Clone, Copy)]
pub(crate) struct ByAdmin;

/// Answers a request of an API.
pub(crate) async fn answer(app: Arc<App>, trace: Arc<Trace>, api: Api, request: Request) -> Response {
    let answered = admitted(app, trace, api, request).await;
    answered.unwrap_or_else(|error| error.response_for(api))
}

async fn admitted(app: Arc<App>, trace: Arc<Trace>, api: Api, request: Request) -> Result<Response, ApiError> {
    let bounds = app.bounds();
    let live = app.live();
    let caller = match request.extensions().get() {
        Some(ByAdmin) => Ok(Caller::default()),
        None => Caller::of(&app, &live, request.headers()),
    };
    let (mut bounds, admitted) = (bounds, app.admit());
    if let (Err(ApiError::ShuttingDown), Ok(_)) = (&admitted, &caller) {
        // It is refused; the log says what was asked for.
        let read = bounds.run(read(&app, api, request)).await.and_then(|read| read);
        if let Ok(Asked { model: Some(name), .. }) = read {
            trace.asks_for(&name);
        }
        return Err(ApiError::ShuttingDown);
    }
    let admitted = admitted.and_then(|place| Ok((place, caller?)));
    let ((place, caller), request) = body::unless_refused(&app, request, admitted).await?;
    let mut account = Account::new(Arc::clone(&app), Arc::clone(&live), Arc::clone(&trace), api.name(), &caller);
    let passed = upstream::passed(request.headers());
    let read = bounds.run(read(&app, api, request)).await.and_then(|read| read);
    let asked = match read {
        Ok(asked) => Arc::new(asked),
        Err(error) => {
            account.fail(&error).await;
            return Err(error);
        }
    };
    let mut scope =
        Scope { app, live, trace, asked, caller, passed, bounds, judged: false, screened: screen::Screened::default() };
    match scope.answered(&mut account).await {
        Ok(answered) => {
            let Answered { reply, api: from, by, target, pseudonyms } = answered;
            let options = AnswerOptions::of(api, &scope.asked.body, scope.trace.id.simple().to_string());
            let headers = headers(&scope, &by);
            let Scope { app, trace, asked, bounds, .. } = scope;
            let relay = Relay { app, trace, bounds, place, account, from, target, asked, options, pseudonyms };
            let mut response = relay.respond(reply).await?;
            response.headers_mut().extend(headers);
            Ok(response)
        }
        Err(error) => {
            account.fail(&error).await;
            Err(error)
        }
    }
}

async fn read(app: &App, api: Api, request: Request) -> Result<Asked, ApiError> {
    let body = body::read(app, request).await?;
    // Small bodies are read where they are: a thread of their own would take longer.
    if body.bytes.len() <= INLINE_BODY {
        return Asked::read(api, body.bytes);
    }
    app.cpu_task(body.bytes.len(), move || Asked::read(api, body.bytes)).await
}

/// Bytes of a body that are read on the connection's own thread.
const INLINE_BODY: usize = 16 << 10;

impl Scope {
    async fn answered(&mut self, account: &mut Account) -> Result<Answered, ApiError> {
        let name = self.asked.model.clone();
        let Some(name) = name else { return Err(ApiError::ModelMissing { served: self.served() }) };
        account.asked(&self.asked, &name);
        self.trace.asks_for(&name);
        self.asked.check()?;
        self.caller.check_model(&name)?;
        let ways = self.ways(&name, account).await?;
        // Nobody else sets it, and the name is one of ours.
        let _ = self.trace.model.set(name);
        account.open(self.estimate(&ways, account)?).await.map_err(|error| self.asked.to_fit(error))?;
        match ways {
            route::Ways::One(steps) => self.first_of(&steps, account).await,
            route::Ways::Auto(auto) => self.auto(auto, account).await,
        }
    }

    /// The answer of the first step that has one.
    async fn first_of(&mut self, steps: &[Step], account: &mut Account) -> Result<Answered, ApiError> {
        let mut failed = None;
        for step in steps {
            let answered = match step {
                Step::Local(model) => self.local(model, account).await,
                Step::Encoder(encoder) => self.embedded(encoder, account).await,
                Step::Upstream(plan) => self.upstream(plan, account).await,
            };
            match answered {
                Err(error) if error.another_may_answer() => {
                    account.passed_on(&error);
                    failed = Some(error);
                }
                answered => return answered,
            }
        }
        Err(failed.unwrap_or(ApiError::Internal))
    }

    /// Names that this caller may ask for.
    fn served(&self) -> Vec<String> {
        self.app.names(&self.live, Some(&self.caller))
    }
}

/// What decided, for whoever looks at an answer's headers.
fn headers(scope: &Scope, by: &Answerer) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: HeaderName, value: &str| {
        // A name that cannot stand in a header is in the ledger all the same.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    };
    insert(ID, &scope.trace.id.to_string());
    insert(MODEL, by.model());
    insert(PROVIDER, by.provider());
    if let Answerer::Local(model) = by {
        insert(FINGERPRINT, &model.fingerprint());
    }
    headers
}
