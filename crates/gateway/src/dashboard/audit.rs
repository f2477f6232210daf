//! Whether the record is as it was written.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use bantam_ledger::audit::{Expected, Report, verify};
use bantam_ledger::{Ledger, Timestamp};
use tokio::sync::watch;
use tokio::time::timeout;

use super::cache::patiently;
use super::failure::Failure;
use super::viewer::{Sent, Viewer};
use super::{Frame, format, render};
use crate::app::{App, Phase};

pub(super) const PATH: &str = "/dashboard/audit";

/// How long a verification is waited for before the page says that it goes on.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last verification since this process began. There is one at a time: it reads the whole ledger.
#[derive(Clone, Default)]
pub(super) enum Verification {
    #[default]
    None,
    Running {
        since: Timestamp,
    },
    Ended {
        at: Timestamp,
        outcome: Arc<Result<Report, String>>,
    },
}

/// A verification in words, and the style sheet's name for it.
pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) class: &'static str,
}

impl Verification {
    fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    pub(super) fn verdict(&self) -> Verdict {
        let (class, text) = match self {
            Self::None => ("soft", "It has not been verified since this server began.".to_owned()),
            Self::Running { since } => {
                ("warn", format!("It is being verified since {} (UTC).", format::moment(*since)))
            }
            Self::Ended { at, outcome } => {
                let at = format::moment(*at);
                match outcome.as_ref() {
                    Err(why) => ("bad", format!("Verified {at} (UTC), without an end: {why}")),
                    Ok(Report { broken: Some(broken), .. }) => {
                        ("bad", format!("Verified {at} (UTC): it is not what was written. {broken}"))
                    }
                    Ok(report) => {
                        let entries: u64 = report.chains.iter().map(|chain| chain.last + 1 - chain.first).sum();
                        let (entries, texts) = (format::count(entries), format::count(report.texts));
                        (
                            "good",
                            format!(
                                "Verified {at} (UTC): it is as it was written. Entries: {entries}; texts: {texts}."
                            ),
                        )
                    }
                }
            }
        };
        Verdict { text, class }
    }
}

#[derive(Template)]
#[template(path = "dashboard/audit.html")]
struct Page {
    frame: Frame,
    verdict: Verdict,
    is_running: bool,
    fingerprint: String,
    public_key: String,
    open: usize,
    chains: Vec<ChainRow>,
}

/// How far a chain has come.
struct ChainRow {
    number: u32,
    length: String,
    hash: String,
    last: String,
    covered: String,
}

pub(super) async fn page(viewer: Viewer) -> Result<Response, Failure> {
    let ledger = viewer.ledger()?;
    let reading = ledger.reading();
    let ends = patiently(reading.chains()).await?;
    let chains = ends.into_iter().map(|end| ChainRow {
        number: end.chain,
        length: format::count(end.last),
        hash: end.hash.to_string(),
        last: format::moment(end.at),
        covered: match end.checkpoint_at {
            Some(at) => format!("entry {}, signed {}", format::count(end.checkpoint), format::moment(at)),
            None => "none yet".to_owned(),
        },
    });
    let key = ledger.public_key();
    let verification = viewer.shared.verification.borrow().clone();
    Ok(render(&Page {
        frame: viewer.frame("Audit", PATH),
        verdict: verification.verdict(),
        is_running: verification.is_running(),
        fingerprint: key.id(),
        public_key: key.to_string(),
        open: ledger.open_requests(),
        chains: chains.collect(),
    }))
}

/// Verifies the ledger, unless that is being done, and shows what was found or that it goes on.
pub(super) async fn start(Sent { viewer, form: () }: Sent<()>) -> Result<Response, Failure> {
    let ledger = viewer.ledger()?;
    let state = &viewer.shared.verification;
    let began = state.send_if_modified(|state| {
        let idle = !state.is_running();
        if idle {
            *state = Verification::Running { since: Timestamp::now() };
        }
        idle
    });
    if began {
        tokio::spawn(run(Arc::clone(&viewer.app), ledger.clone(), state.clone()));
    }
    // Whether it has ended by then or not is what the page says.
    let _ = timeout(PATIENCE, state.subscribe().wait_for(|state| !state.is_running())).await;
    Ok(Redirect::to(PATH).into_response())
}

/// The page, for who loads the form's address again.
pub(super) async fn again() -> Redirect {
    Redirect::to(PATH)
}

async fn run(app: Arc<App>, ledger: Ledger, state: watch::Sender<Verification>) {
    let expected = Expected { keys: vec![ledger.public_key()], claims: Vec::new() };
    let reading = ledger.reading();
    // The server's end waits for whoever reads the ledger.
    let mut phase = app.phase.subscribe();
    let outcome = tokio::select! {
        report = verify(&reading, &expected) => report.map_err(|error| format!("{error}.")),
        _ = phase.wait_for(|phase| *phase > Phase::Open) => Err("this server is ending.".to_owned()),
    };
    match &outcome {
        Ok(report) => match &report.broken {
            None => tracing::info!("the ledger was verified in the dashboard"),
            Some(broken) => tracing::error!(%broken, "the ledger is not what was written"),
        },
        Err(why) => tracing::warn!(why, "the ledger was not verified to its end"),
    }
    state.send_replace(Verification::Ended { at: Timestamp::now(), outcome: Arc::new(outcome) });
}
