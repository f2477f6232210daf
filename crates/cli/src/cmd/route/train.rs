//! `bantam route train`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use bantam_router::Threshold;
use bantam_router::fit::{Excerpts, FitConfig, Step, Wanted, fit};
use bantam_stats::risk::{RiskBound, RiskOf};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::source::Source;
use super::vectors::Local;
use crate::cli::Globals;
use crate::load::encoder::{DEFAULT_ENCODER, EncoderArgs};
use crate::{output, progress};

/// Arguments of `bantam route train`.
#[derive(Debug, Args)]
#[command(
    after_help = "A row is a JSON object with `prompt` (or `messages`) and the outcomes `small_correct` and `large_correct` (true or false) or `small_score` and `large_score` (0 to 1); one of the two models may be missing. Instead of a file, answers on record can teach: --small and --large name the models, feedback says how good their answers were, and their requests must have been kept (ledger.bodies). A loss is a request that the small model answers wrongly where the large one is right. More in docs/routing.md."
)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    source: Source,
    /// Where to write the router
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Encoder: catalogue name, or path of a directory as sentence-transformers saves it
    #[arg(long, short, value_name = "NAME|PATH", default_value = DEFAULT_ENCODER)]
    model: String,
    /// Tokens of a prompt that the encoder reads
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(8..=8192))]
    tokens: u32,
    #[command(flatten)]
    bound: BoundArgs,
    /// The share of rows, chosen by a hash of their prompts, that is kept from training to choose the threshold on
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    held_out: f64,
    /// Set the threshold and promise nothing: requests whose expected gain is at most this go to the small model
    #[arg(long, value_name = "GAIN", conflicts_with_all = ["bound", "confidence", "held_out"], allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// Keep nothing of the prompts' texts in the router; `explain` then shows no similar ones
    #[arg(long)]
    no_excerpts: bool,
    #[command(flatten)]
    encoder: EncoderArgs,
}

/// What a threshold must hold.
#[derive(Debug, Clone, Args)]
pub(super) struct BoundArgs {
    /// The share of losses that must not be exceeded
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    bound: f64,
    /// How sure that must be
    #[arg(long, value_name = "SHARE", default_value_t = 0.95)]
    confidence: f64,
    /// The share of what
    #[arg(long, value_enum, default_value = "accepted", value_name = "OF")]
    of: Of,
}

/// The share of what is bounded.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Of {
    /// Losses among the requests that the small model answers
    Accepted,
    /// Losses among all requests
    All,
}

impl BoundArgs {
    pub(super) fn bound(&self) -> RiskBound {
        let of = match self.of {
            Of::Accepted => RiskOf::Accepted,
            Of::All => RiskOf::All,
        };
        RiskBound { bound: self.bound, confidence: self.confidence, of }
    }
}

pub(crate) fn run(args: &TrainArgs, globals: &Globals) -> anyhow::Result<()> {
    let rows = args.source.rows(globals)?;
    let local = Local::open(&args.model, &args.encoder, globals)?;
    let started = Instant::now();
    let config = FitConfig {
        encoder: local.id(args.tokens as usize),
        threshold: match args.threshold {
            Some(gain) => Wanted::Given(gain),
            None => Wanted::Promised { bound: args.bound.bound(), held_out: args.held_out },
        },
        excerpts: if args.no_excerpts { Excerpts::Drop } else { Excerpts::Keep },
        threads: local.loaded.threads,
    };
    let vectors = local.rows(&config.encoder, &rows, globals)?;
    let bar = progress::share(globals);
    let fitted = fit(&rows, &vectors, &config, &mut |step: Step| {
        bar.set_message(step.what);
        bar.set_position((step.share * 1000.0) as u64);
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let fitted = fitted?;
    let router = &fitted.router;
    fs_err::write(&args.out, router.to_bytes()?)?;
    let seconds = started.elapsed().as_secs_f64();
    if globals.json {
        return output::print_json(&json!({
            "path": args.out, "fingerprint": router.fingerprint()?, "encoder": router.encoder(), "rows": rows.len(),
            "taught": fitted.taught, "held_out": fitted.held_out, "threshold": router.threshold(),
            "cascade": router.cascade().map(|cascade| cascade.threshold()), "no_cascade": fitted.no_cascade,
            "strengths": fitted.strengths, "weights": fitted.weights, "seconds": seconds,
        }));
    }
    let mut said = format!("trained on {} of {} rows in {seconds:.1} s\n", fitted.taught, rows.len());
    said.push_str(&format!("router: {}\n", threshold(router.threshold())));
    match (router.cascade(), &fitted.no_cascade) {
        (Some(cascade), _) => said.push_str(&format!("cascade: {}\n", threshold(cascade.threshold()))),
        (None, Some(why)) => said.push_str(&format!("no cascade: {why}\n")),
        (None, None) => {}
    }
    output::print(&format!("{said}wrote {} ({})", args.out.display(), router.fingerprint()?))
}

/// A threshold in words.
pub(super) fn threshold(threshold: &Threshold) -> String {
    match threshold {
        Threshold::Given { gain } => {
            format!("the small model answers up to an expected gain of {gain}; nothing is promised")
        }
        Threshold::Promised { bound, held } => format!(
            "the small model answers up to an expected gain of {:.3}, {:.1}% of {} held-out requests; with confidence {} at most {:.1}% of {} are \
             losses (seen: {})",
            held.threshold,
            100.0 * held.accepted as f64 / held.rows.max(1) as f64,
            held.rows,
            bound.confidence,
            100.0 * bound.bound,
            match bound.of {
                RiskOf::Accepted => "those",
                RiskOf::All => "all requests",
            },
            held.losses,
        ),
    }
}
