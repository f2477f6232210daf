//! `bantam route eval`.

mod report;
mod splits;

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use bantam_evals::svg::{QualityCurve, accuracy_cost};
use bantam_router::curve::{self, Measured};
use bantam_router::fit::{Excerpts, FitConfig, Wanted, fit, predict_rows};
use bantam_router::rows::{Costs, Row};
use bantam_router::{EncoderId, Router};
use bantam_stats::head::pair::PairPrediction;
use bantam_stats::split;
use clap::Args;

use super::source::Source;
use super::train::BoundArgs;
use super::vectors::Local;
use crate::cli::Globals;
use crate::load::encoder::{DEFAULT_ENCODER, EncoderArgs};
use crate::output;
use report::Report;

/// Names the split of `--train-share`; further splits add a number.
const SALT: &str = "bantam route eval v1";
/// Neighbours of the plain baseline.
const BASELINE_NEIGHBOURS: usize = 40;
/// Points of a curve in the picture.
const POINTS: usize = 100;

/// Arguments of `bantam route eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --router, all rows judge, so they must be new to it. With --train-share, rows are split by a hash of their prompts: a router is trained on that share, what is left to choose is chosen inside it, and the others judge. Intervals are 95% bootstrap intervals over the rows that judge. APGR is the mean share of the gap between the models that is recovered over all shares of large calls (random: 0.5), CPT50 and CPT80 the share of large calls at which 50% and 80% of it are."
)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    source: Source,
    /// Router that `bantam route train` wrote
    #[arg(long, short, value_name = "FILE", required_unless_present = "train_share")]
    router: Option<PathBuf>,
    /// Train on this share of the rows and judge by the others
    #[arg(long, value_name = "SHARE", conflicts_with = "router")]
    train_share: Option<f64>,
    /// Splits by other hashes for which APGR is given, too
    #[arg(long, value_name = "N", default_value_t = 0, requires = "train_share")]
    splits: u32,
    /// Random halves of the rows that judge on which the promise of --bound is put to the test
    #[arg(long, value_name = "N", default_value_t = 0, requires = "train_share")]
    promises: u32,
    #[command(flatten)]
    bound: BoundArgs,
    /// The share of large calls at which --train-share sets the threshold
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    large_share: f64,
    /// Write a picture of quality against cost
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Encoder of --train-share
    #[arg(long, short, value_name = "NAME|PATH", default_value = DEFAULT_ENCODER)]
    model: String,
    /// Tokens of a prompt that the encoder of --train-share reads
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(8..=8192))]
    tokens: u32,
    #[command(flatten)]
    encoder: EncoderArgs,
}

/// Rows that judge, and what is said of them.
struct Judged {
    rows: Vec<Row>,
    router: Router,
    predictions: Vec<PairPrediction>,
    /// Gains of rows that taught, by heads that had not seen them.
    taught: Option<Taught>,
    /// The plain baseline's gains.
    neighbours: Option<Vec<f64>>,
}

/// What the rows that taught leave behind.
struct Taught {
    rows: usize,
    gains: Vec<f64>,
    cascade_gains: Vec<f64>,
}

pub(crate) fn run(args: &EvalArgs, globals: &Globals) -> anyhow::Result<()> {
    let mut rows = args.source.rows(globals)?;
    rows.retain(Row::is_pair);
    ensure!(rows.len() >= 40, "{} rows with both outcomes are too few; 40 are the least", rows.len());
    let (judged, splits) = match (&args.router, args.train_share) {
        (Some(path), _) => (given(path, rows, args, globals)?, Vec::new()),
        (None, Some(share)) => trained(share, rows, args, globals)?,
        (None, None) => anyhow::bail!("give --router or --train-share"),
    };
    let measured = judged.measured(|row, prediction| (prediction.gain, always_small(row)));
    let cascade = judged.cascade_gains().map(|gains| {
        let mut gains = gains.into_iter();
        judged.measured(|row, _| (gains.next().unwrap_or(1.0), costs(row).small))
    });
    let promises = splits::promises(&judged, args)?;
    let report = Report::new(&judged, &measured, cascade.as_deref(), splits, promises)?;
    if let Some(path) = &args.svg {
        fs_err::write(path, picture(&measured, cascade.as_deref()))?;
    }
    if globals.json { output::print_json(&report) } else { output::print(&report.text()) }
}

fn given(path: &std::path::Path, rows: Vec<Row>, args: &EvalArgs, globals: &Globals) -> anyhow::Result<Judged> {
    let router = super::open(path)?;
    let local = Local::of(&router, &args.encoder, globals)?;
    let vectors = local.rows(router.encoder(), &rows, globals)?;
    let predictions = predict_rows(&router, &rows, &vectors, local.loaded.threads)?;
    Ok(Judged { rows, router, predictions, taught: None, neighbours: None })
}

/// The first split in full, and APGR of the further ones.
fn trained(share: f64, rows: Vec<Row>, args: &EvalArgs, globals: &Globals) -> anyhow::Result<(Judged, Vec<f64>)> {
    ensure!(share > 0.0 && share < 1.0, "--train-share: {share} is not between 0 and 1");
    let local = Local::open(&args.model, &args.encoder, globals)?;
    let id = local.id(args.tokens as usize);
    let vectors = local.rows(&id, &rows, globals)?;
    let all =
        All { rows: &rows, vectors: &vectors, id: &id, threads: local.loaded.threads, large_share: args.large_share };
    let judged = Judged { neighbours: Some(all.neighbours(share, SALT)), ..all.split(share, SALT)? };
    let mut apgrs = Vec::new();
    for n in 1..=args.splits {
        let judged = all.split(share, &format!("{SALT} {n}"))?;
        apgrs.push(curve::apgr(&judged.measured(|row, prediction| (prediction.gain, always_small(row))))?);
    }
    Ok((judged, apgrs))
}

struct All<'a> {
    rows: &'a [Row],
    vectors: &'a [f32],
    id: &'a EncoderId,
    threads: usize,
    large_share: f64,
}

impl All<'_> {
    fn split(&self, share: f64, salt: &str) -> anyhow::Result<Judged> {
        let (train, test) = self.parts(share, salt);
        let rows = |of: &[usize]| -> Vec<Row> { of.iter().map(|&row| self.rows[row].clone()).collect() };
        let (train_rows, train_vectors) = (rows(&train), self.vectors_of(&train));
        let config = FitConfig {
            encoder: self.id.clone(),
            threshold: Wanted::Given(0.0),
            excerpts: Excerpts::Drop,
            threads: self.threads,
        };
        let mut fitted = fit(&train_rows, &train_vectors, &config, &mut |_| ControlFlow::Continue(()))?;
        // The threshold at which the share of large calls is as wanted over rows that taught.
        let mut sorted = fitted.gains.clone();
        sorted.sort_by(f64::total_cmp);
        let at = ((1.0 - self.large_share) * sorted.len() as f64) as usize;
        let threshold = sorted.get(at.min(sorted.len() - 1)).context("no row taught")?;
        fitted.router = fitted.router.with_threshold(*threshold)?;
        let (test_rows, test_vectors) = (rows(&test), self.vectors_of(&test));
        let predictions = predict_rows(&fitted.router, &test_rows, &test_vectors, self.threads)?;
        let taught = Taught { rows: train.len(), gains: fitted.gains, cascade_gains: fitted.cascade_gains };
        Ok(Judged { rows: test_rows, router: fitted.router, predictions, taught: Some(taught), neighbours: None })
    }

    /// The plain baseline on the rows that judge in a split.
    fn neighbours(&self, share: f64, salt: &str) -> Vec<f64> {
        let (train, test) = self.parts(share, salt);
        let gains: Vec<f64> = train.iter().map(|&row| self.rows[row].outcome.gain().unwrap_or(0.0)).collect();
        let known = (&self.vectors_of(&train)[..], &gains[..]);
        curve::knn_gains(known, &self.vectors_of(&test), self.id.dimensions, BASELINE_NEIGHBOURS)
    }

    /// Rows that teach, and rows that judge.
    fn parts(&self, share: f64, salt: &str) -> (Vec<usize>, Vec<usize>) {
        // Those with the lowest hashes, so that the share is exact; equal prompts have equal hashes and stay together.
        let hashes: Vec<u64> = self.rows.iter().map(|row| split::hash(&row.text, salt)).collect();
        let mut sorted = hashes.clone();
        sorted.sort_unstable();
        let border = sorted[((share * sorted.len() as f64) as usize).min(sorted.len() - 1)];
        (0..hashes.len()).partition(|&row| hashes[row] < border)
    }

    fn vectors_of(&self, rows: &[usize]) -> Vec<f32> {
        let width = self.id.dimensions;
        rows.iter().flat_map(|&row| &self.vectors[row * width..][..width]).copied().collect()
    }
}

/// What answers cost; without costs, a large one costs 1 and a small one nothing, so that cost is the share of large calls.
fn costs(row: &Row) -> Costs {
    row.costs.unwrap_or(Costs { small: 0.0, large: 1.0 })
}

/// Routing before the small model answers pays for one model only.
fn always_small(_: &Row) -> f64 {
    0.0
}

impl Judged {
    /// Rows with what `of` says of each: the gain, and what is paid even if the large model answers.
    fn measured(&self, mut of: impl FnMut(&Row, &PairPrediction) -> (f64, f64)) -> Vec<Measured> {
        let one = |(row, prediction): (&Row, &PairPrediction)| {
            let (gain, always) = of(row, prediction);
            let score = |score: Option<f32>| f64::from(score.unwrap_or(0.0));
            let (small, large) = (score(row.outcome.small), score(row.outcome.large));
            Measured { gain, small, large, costs: costs(row), always }
        };
        self.rows.iter().zip(&self.predictions).map(one).collect()
    }

    /// Gains after the small model's answers, if the router has a cascade and every row has such an answer.
    fn cascade_gains(&self) -> Option<Vec<f64>> {
        let cascade = self.router.cascade()?;
        let gain = |(row, p): (&Row, &PairPrediction)| Some(cascade.review(&row.answer?, p.small, p.large).gain);
        self.rows.iter().zip(&self.predictions).map(gain).collect()
    }
}

fn picture(measured: &[Measured], cascade: Option<&[Measured]>) -> String {
    let curve = |rows: &[Measured]| -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> =
            curve::points(rows, POINTS).iter().map(|point| (point.cost, point.quality)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    };
    let with = |gain: fn(&Measured) -> f64| -> Vec<Measured> {
        measured.iter().map(|row| Measured { gain: gain(row), ..*row }).collect()
    };
    let (router, random, oracle) = (curve(measured), curve(&with(|_| 0.0)), curve(&with(|row| row.large - row.small)));
    let of_cascade = cascade.map(curve).unwrap_or_default();
    let mut curves = vec![
        QualityCurve { name: "router", points: &router },
        QualityCurve { name: "random", points: &random },
        QualityCurve { name: "oracle", points: &oracle },
    ];
    if cascade.is_some() {
        curves.push(QualityCurve { name: "cascade", points: &of_cascade });
    }
    let costly = measured.iter().any(|row| row.costs != Costs { small: 0.0, large: 1.0 });
    accuracy_cost(&curves, if costly { "mean cost of a request" } else { "share of requests to the large model" })
}
