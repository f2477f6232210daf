//! The record of one request: reserved before anything is spent on it, settled when it has ended, however it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bantam_ledger::{Amount, Attempt, Begin, BeginError, Bodies, Estimate, Outcome, Ticket, Timestamp, TokenCounts};
use bantam_types::NanoDollars;
use serde_json::{Map, Value};

use super::asked::Asked;
use super::caller::Caller;
use crate::app::App;
use crate::config::Bodies as Keep;
use crate::error::{ApiError, Room};
use crate::live::{Live, Route};
use crate::metrics::{Record, RouteMeasures, Side};
use crate::model::ServedModel;
use crate::observe::{CLIENT_LEFT, Trace, shown};
use crate::replay::{Drawn, Replay};
use crate::telemetry::About;

/// Who answers, for the cost.
#[derive(Clone)]
pub(crate) enum Answerer {
    /// A model in this process.
    Local(Arc<ServedModel>),
    /// An encoder in this process, by name.
    Encoder(String),
    /// A model elsewhere.
    Hosted {
        /// The configuration's name for who serves it.
        provider: String,
        /// The kind of server, which price lists go by.
        preset: &'static str,
        /// The model's name there.
        model: String,
    },
}

impl Answerer {
    pub(crate) fn provider(&self) -> &str {
        match self {
            Self::Local(_) | Self::Encoder(_) => "local",
            Self::Hosted { provider, .. } => provider,
        }
    }

    pub(crate) fn model(&self) -> &str {
        match self {
            Self::Local(model) => &model.id,
            Self::Encoder(id) => id,
            Self::Hosted { model, .. } => model,
        }
    }
}

/// An answer that is under way.
struct Answering {
    answerer: Answerer,
    since: Instant,
    /// Whether it has begun to come.
    begun: bool,
    /// What it has come to, where it comes from elsewhere.
    heard: Option<TokenCounts>,
}

/// Who was sent the request and may be at work on it, before there is any answer. Shared with what sends it.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<Mutex<Option<Answering>>>);

impl Sent {
    /// Notes who is sent the request now, and what reading it comes to.
    pub(crate) fn to(&self, answerer: Answerer, tokens: TokenCounts) {
        let answering = Answering { answerer, since: Instant::now(), begun: false, heard: Some(tokens) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answering);
    }

    /// Notes that nobody is at work on it any more, or that there is an answer.
    pub(crate) fn over(&self) {
        self.take();
    }

    fn take(&self) -> Option<Answering> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One request's record.
pub(crate) struct Account {
    app: Arc<App>,
    live: Arc<Live>,
    trace: Arc<Trace>,
    caller: Caller,
    started: Instant,
    begin: Begin,
    ticket: Option<Ticket>,
    outcome: Outcome,
    /// What decided, for whoever asks why.
    decision: Map<String, Value>,
    /// Whose price is the counterfactual.
    baseline: Option<String>,
    /// Who is answering.
    answering: Option<Answering>,
    sent: Sent,
    /// What computes a local answer again.
    replay: Option<Replay>,
    /// What it is counted by, once it is known what is asked for.
    measures: Option<Arc<RouteMeasures>>,
    /// Which side of a choice answers.
    side: Option<Side>,
    /// When its reservation was made.
    opened: Option<Instant>,
    /// It has ended, and was counted.
    over: bool,
}

impl Account {
    pub(crate) fn new(app: Arc<App>, live: Arc<Live>, trace: Arc<Trace>, surface: &str, caller: &Caller) -> Self {
        let begin = Begin {
            request: trace.id,
            at: Timestamp::now(),
            key: caller.key.as_ref().map(|key| key.id.clone()),
            surface: surface.into(),
            route: None,
            model: String::new(),
            subject: None,
            estimate: Estimate::default(),
        };
        Self {
            app,
            trace,
            caller: caller.clone(),
            started: Instant::now(),
            begin,
            ticket: None,
            outcome: Outcome::default(),
            decision: Map::new(),
            baseline: None,
            answering: None,
            sent: Sent::default(),
            replay: None,
            measures: live.measures.of("").map(Arc::clone),
            side: None,
            opened: None,
            over: false,
            live,
        }
    }

    /// Notes what is asked for.
    pub(crate) fn asked(&mut self, asked: &Asked, model: &str) {
        self.begin.model = shown(model);
        self.begin.subject.clone_from(&asked.user);
        self.outcome.streamed = asked.stream;
        self.measures = self.live.measures.of(model).map(Arc::clone);
    }

    /// Notes what is asked for by its name alone.
    pub(crate) fn named(&mut self, model: &str) {
        self.begin.model = model.to_owned();
        self.begin.route = Some(model.to_owned());
        self.measures = self.live.measures.of(model).map(Arc::clone);
    }

    /// Refuses a name that the caller's key is not for.
    pub(crate) fn check(&self, name: &str) -> Result<(), ApiError> {
        self.caller.check_model(name)
    }

    /// Refuses a model elsewhere that has no price, where whoever pays has a budget of money: nothing would ever be charged to it.
    pub(crate) fn check_price(&self, preset: &str, model: &str) -> Result<(), ApiError> {
        let Some(ledger) = &self.app.ledger else { return Ok(()) };
        let own = self.caller.key.as_ref().is_some_and(|key| key.limits.has_money_budget());
        let bound = own || ledger.limits().has_money_budget();
        if bound && !self.live.pricing.knows(Some(preset), model) {
            return Err(ApiError::NoPrice { model: model.to_owned() });
        }
        Ok(())
    }

    /// Notes the route that takes the request.
    pub(crate) fn routed(&mut self, route: &Route) {
        self.begin.route = Some(route.name.clone());
        self.baseline = Some(route.baseline.clone().unwrap_or_else(|| route.name.clone()));
    }

    /// Notes a reason.
    pub(crate) fn decided(&mut self, what: &str, why: impl Into<Value>) {
        self.decision.insert(what.into(), why.into());
    }

    /// Notes which side of a choice answers, and why.
    pub(crate) fn chose(&mut self, side: Side, why: impl std::fmt::Display) {
        self.side = Some(side);
        let model = if side == Side::Small { "small" } else { "large" };
        self.decided("route", format!("{model}: {why}"));
    }

    /// Reserves the most that the request may cost.
    pub(crate) async fn open(&mut self, estimate: Estimate) -> Result<(), ApiError> {
        self.begin.estimate = estimate;
        if let Some(ledger) = &self.app.ledger {
            self.opened = Some(Instant::now());
            self.ticket = Some(ledger.begin(self.begin.clone()).await?);
        }
        Ok(())
    }

    /// Waits until the request is on record. Nothing may be answered before.
    pub(crate) async fn durable(&mut self) -> Result<(), ApiError> {
        match &mut self.ticket {
            Some(ticket) => {
                ticket.durable().await.map_err(|e| ApiError::ledger(&e))?;
                if let Some(opened) = self.opened.take() {
                    self.app.metrics.durable(Record::Arrival, opened.elapsed());
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes who answers now.
    pub(crate) fn answers(&mut self, answerer: Answerer) {
        if let (Some(span), Answerer::Local(_) | Answerer::Encoder(_)) = (&self.trace.span, &answerer) {
            span.begins_here(&self.begin.surface, answerer.model());
        }
        self.trace.set_tokens(0, 0, 0);
        self.answering = Some(Answering { answerer, since: Instant::now(), begun: true, heard: None });
    }

    /// Where to note who is sent the request.
    pub(crate) fn sent(&self) -> Sent {
        self.sent.clone()
    }

    /// Notes what an answer from elsewhere has come to so far; those of this process are counted token by token.
    pub(crate) fn heard(&mut self, tokens: impl FnOnce() -> TokenCounts) {
        let Some(Answering { answerer: Answerer::Hosted { .. }, heard, .. }) = &mut self.answering else { return };
        let tokens = tokens();
        // An answer that was looked through before anybody saw it is told a second time.
        if heard.is_none_or(|heard| heard.output <= tokens.output) {
            self.trace.set_tokens(tokens.input, tokens.cached, tokens.output);
            *heard = Some(tokens);
        }
    }

    /// Notes attempts that brought no answer.
    pub(crate) fn attempts(&mut self, attempts: impl IntoIterator<Item = Attempt>) {
        self.outcome.attempts.extend(attempts);
    }

    /// Notes that who was asked has no answer, and another is asked.
    pub(crate) fn passed_on(&mut self, error: &ApiError) {
        let Some(Answering { answerer, since, .. }) = self.answering.take() else { return };
        if let Some(span) = &self.trace.span {
            span.passed_on(error.code());
        }
        self.outcome.attempts.push(Attempt {
            provider: answerer.provider().into(),
            model: answerer.model().into(),
            error: Some(error.code().into()),
            latency_us: micros(since.elapsed()),
            ..Attempt::default()
        });
    }

    /// Notes that the first of the answer is there.
    pub(crate) fn first_token(&mut self) {
        self.outcome.first_token.get_or_insert_with(|| self.started.elapsed());
    }

    /// Adds up what an answer came to: one that is delivered, or one that another takes the place of.
    pub(crate) fn spent(&mut self, tokens: TokenCounts, stop: Option<String>) {
        let Some(answering) = self.answering.take() else { return };
        self.outcome.stop = stop;
        self.charge(&answering, tokens, None);
    }

    /// Adds up what an answer came to that broke off: whoever was at work on it is paid for what it was asked and has written.
    pub(crate) fn broke_off(&mut self, error: Option<&str>) {
        let Some(answering) = self.answering.take().or_else(|| self.sent.take()) else { return };
        let (input, output) = self.trace.tokens_so_far();
        let counted = TokenCounts { input, output, ..TokenCounts::default() };
        self.charge(&answering, answering.heard.unwrap_or(counted), error);
    }

    fn charge(&mut self, answering: &Answering, tokens: TokenCounts, error: Option<&str>) {
        let Answering { answerer, since, begun, .. } = answering;
        self.trace.set_tokens(tokens.input, tokens.cached, tokens.output);
        if let Some(span) = &self.trace.span {
            span.answered(&tokens, self.outcome.stop.as_deref());
        }
        let pricing = &self.live.pricing;
        let cost = match answerer {
            Answerer::Local(model) => pricing.local(model, &tokens),
            Answerer::Encoder(_) => pricing.encoder(since.elapsed()),
            Answerer::Hosted { preset, model, .. } => {
                pricing.hosted(Some(preset), model, &tokens).unwrap_or_else(|| {
                    self.decision.insert("unpriced".into(), true.into());
                    NanoDollars::ZERO
                })
            }
        };
        let out = &mut self.outcome;
        out.attempts.push(Attempt {
            provider: answerer.provider().into(),
            model: answerer.model().into(),
            status: begun.then_some(200),
            error: error.map(str::to_owned),
            latency_us: micros(since.elapsed()),
            tokens,
            cost,
        });
        out.cost = out.cost.plus(cost);
        out.tokens.input += tokens.input;
        out.tokens.cached += tokens.cached;
        out.tokens.cache_written += tokens.cache_written;
        out.tokens.output += tokens.output;
        out.tokens.reasoning += tokens.reasoning;
        out.provider = Some(answerer.provider().into());
        out.model = Some(answerer.model().into());
        out.model_digest = match answerer {
            Answerer::Local(model) => model.digest.clone(),
            _ => None,
        };
        // What the same tokens would have cost where everything went before.
        let baseline = self.baseline.as_deref().and_then(|model| pricing.hosted(None, model, &tokens));
        out.counterfactual = baseline.or(match answerer {
            Answerer::Hosted { .. } => Some(cost),
            _ => None,
        });
        // A saving beside a price that nobody knows would be made up.
        if self.decision.contains_key("unpriced") {
            out.counterfactual = None;
        }
    }

    /// Notes what computes the answer again, if such things are kept.
    pub(crate) fn replayable(&mut self, replay: impl FnOnce() -> Replay) {
        if self.app.bodies == Keep::Encrypted && self.app.ledger.is_some() {
            self.replay = Some(replay());
        }
    }

    /// Notes what was drawn.
    pub(crate) fn drawn(&mut self, drawn: Vec<Drawn>) {
        if let Some(replay) = &mut self.replay {
            replay.drawn = drawn;
            self.outcome.bodies.replay = replay.to_bytes();
        }
    }

    /// Keeps texts beside the entry.
    pub(crate) fn keep(&mut self, request: Option<Vec<u8>>, response: Option<Vec<u8>>) {
        let Bodies { request: asked, response: answered, .. } = &mut self.outcome.bodies;
        (*asked, *answered) = (request, response);
    }

    /// Writes the entry of an answer and waits until it is committed.
    pub(crate) async fn close(mut self) -> Result<(), ApiError> {
        self.settle(200, None).await
    }

    /// Writes the entry of a request that ended with an error.
    pub(crate) async fn fail(mut self, error: &ApiError) {
        // The client is told of its own error; that it is not on record is in the log.
        let _ = self.settle(error.status().as_u16(), Some(error.code())).await;
    }

    async fn settle(&mut self, status: u16, error: Option<&str>) -> Result<(), ApiError> {
        let outcome = self.ended(status, error);
        let Some(ledger) = &self.app.ledger else { return Ok(()) };
        let began = Instant::now();
        let written = match self.ticket.take() {
            Some(ticket) => ticket.finish(outcome).await,
            None => ledger.record(self.begin.clone(), outcome).await,
        };
        written.map_err(|e| ApiError::ledger(&e))?;
        self.app.metrics.durable(Record::Entry, began.elapsed());
        Ok(())
    }

    fn ended(&mut self, status: u16, error: Option<&str>) -> Outcome {
        self.broke_off(error);
        let mut outcome = std::mem::take(&mut self.outcome);
        outcome.status = status;
        outcome.error = error.map(str::to_owned);
        outcome.latency = self.started.elapsed();
        self.over = true;
        if let Some(measures) = &self.measures {
            measures.ended(&outcome);
        }
        if let Some(side) = self.side {
            self.app.metrics.chose(side);
        }
        self.app.metrics.policy(&self.decision, error);
        if let Some(span) = &self.trace.span {
            let (id, model) = (self.trace.id.to_string(), self.trace.model.get().map(String::as_str));
            span.recorded(About { id, surface: &self.begin.surface, model }, &outcome);
        }
        outcome.decision = Value::Object(std::mem::take(&mut self.decision));
        outcome
    }
}

/// A client that leaves drops its request's future: what was spent until then is settled without it.
impl Drop for Account {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let outcome = self.ended(CLIENT_LEFT, Some("client_left"));
        if let (Some(ticket), Ok(runtime)) = (self.ticket.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                // Should the store refuse it, the entry follows when it can, or says that it was interrupted.
                let _ = ticket.finish(outcome).await;
            });
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<BeginError> for ApiError {
    fn from(error: BeginError) -> Self {
        let seconds = |d: Duration| d.as_secs().max(1);
        match &error {
            BeginError::OverBudget(over) => {
                let left = match (over.used, over.limit) {
                    (Amount::Money(used), Amount::Money(limit)) => used < limit,
                    (Amount::Tokens(used), Amount::Tokens(limit)) => used < limit,
                    _ => false,
                };
                let room = if left { Room::Some } else { Room::None };
                Self::OverBudget { why: error.to_string(), room, retry_after: seconds(over.retry_after) }
            }
            BeginError::RateLimited(limited) => {
                Self::RateLimited { why: error.to_string(), retry_after: seconds(limited.retry_after) }
            }
            BeginError::Busy { .. } => Self::TooManyRequests,
            BeginError::UnknownKey { .. } => Self::Unauthorized { why: "the API key is not valid" },
            BeginError::Store(error) => Self::ledger(error),
            _ => Self::internal(&error),
        }
    }
}
