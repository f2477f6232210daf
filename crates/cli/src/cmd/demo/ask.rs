//! Asking the gateway as its clients do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bantam_evals::routing::{AskedBy, Question};
use indicatif::ProgressBar;
use reqwest::blocking::Client;
use serde_json::{Value, json};

/// Most tokens of an answer: the longest recorded ones fit.
const MAX_TOKENS: u32 = 512;

/// The longest that one answer may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// A client of the gateway.
pub(super) struct Asker {
    client: Client,
    url: String,
    /// How many ask at one time.
    clients: usize,
}

/// An answer as the client got it.
pub(super) struct Answer {
    pub(super) text: String,
    /// Its request's name in the ledger.
    pub(super) id: String,
    pub(super) seconds: f64,
}

impl Asker {
    pub(super) fn new(url: &str, clients: usize) -> anyhow::Result<Self> {
        // reqwest is built without a provider of cryptography. If there is one already, that will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(PATIENCE).no_proxy().build().context("no HTTP client can be made")?;
        Ok(Self { client, url: url.to_owned(), clients })
    }

    /// Asks a model each question, several at a time; answers come in the order of the questions.
    pub(super) fn ask(&self, asked: &[(&str, &Question)], bar: &ProgressBar) -> anyhow::Result<Vec<Answer>> {
        let (next, answers) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || -> anyhow::Result<()> {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some((model, question)) = asked.get(i) else { return Ok(()) };
                let answer = self.one(model, question).inspect_err(|_| next.store(asked.len(), Ordering::Relaxed))?;
                answers.lock().unwrap_or_else(PoisonError::into_inner).push((i, answer));
                bar.inc(1);
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.clients.min(asked.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(outcome) => outcome,
                Err(_) => bail!("a client failed"),
            })
        })?;
        let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        answers.sort_by_key(|(i, _)| *i);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    fn one(&self, model: &str, question: &Question) -> anyhow::Result<Answer> {
        let started = Instant::now();
        let (path, body) = request(model, question);
        let reply = self.client.post(format!("{}/v1/{path}", self.url)).json(&body).send()?;
        let (status, id) = (reply.status(), reply.headers().get("x-bantam-id").cloned());
        let body: Value = reply.json().context("an answer is not JSON")?;
        let seconds = started.elapsed().as_secs_f64();
        if !status.is_success() {
            let why = body["error"]["message"].as_str().unwrap_or("no reason was given");
            bail!("{model} did not answer \"{}\": {status}: {why}", start(&question.question));
        }
        let choice = &body["choices"][0];
        let text = choice["text"].as_str().or(choice["message"]["content"].as_str()).unwrap_or_default();
        let id = id.as_ref().and_then(|id| id.to_str().ok()).context("an answer has no x-bantam-id")?;
        Ok(Answer { text: text.to_owned(), id: id.to_owned(), seconds })
    }
}

fn request(model: &str, question: &Question) -> (&'static str, Value) {
    let mut body = json!({"model": model, "temperature": 0, "max_tokens": MAX_TOKENS});
    let (path, before) = match question.api {
        AskedBy::Chat => {
            body["messages"] = json!([{"role": "user", "content": question.question}]);
            ("chat/completions", "")
        }
        AskedBy::Completions => {
            body["prompt"] = question.question.as_str().into();
            body["stop"] = "\n".into();
            // What continues a line begins with a space, as tokens do.
            ("completions", " ")
        }
    };
    if !question.choices.is_empty() {
        let choices: Vec<String> = question.choices.iter().map(|choice| format!("{before}{choice}")).collect();
        body["structured_outputs"] = json!({ "choice": choices });
    }
    (path, body)
}

/// The first words of a question, for messages.
fn start(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}...") } else { short }
}
