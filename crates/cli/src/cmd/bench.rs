//! `bantam bench`: how fast a model runs here, beside what the machine can do.

use bantam_engine::KvBudget;
use bantam_evals::{Bench, MAX_STREAMS, Measured, Work, kv_pages};
use bantam_kernels::Ceilings;
use clap::Args;
use serde_json::json;

use crate::cli::Globals;
use crate::load::{EngineArgs, Loaded, Speculate};
use crate::{output, progress};

/// Arguments of `bantam bench`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prompts are random tokens, each its own, so that nothing is cached; answers go past the end-of-text token.\n\
    Shares: a prefill's matrix products of the layers against the int8 ceiling; a decoded token's bytes of weights against\n\
    the memory ceiling. Nothing else should run meanwhile."
)]
pub(crate) struct BenchArgs {
    /// Catalogue name, path of a .gguf file, or hf:org/repo/file.gguf
    model: String,
    /// Lengths of prompts to prefill (0, here and below: leave it out)
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [128, 512, 2048])]
    prompt: Vec<usize>,
    /// Tokens to generate: one stream
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [64])]
    answer: Vec<usize>,
    /// Numbers of streams that answer at one time, 64 tokens each after a prompt of 128
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [4, 16])]
    streams: Vec<usize>,
    /// Numbers of requests with one token of answer, which share 800 tokens of prompt and add 60, from 8 clients
    #[arg(long, value_name = "N,N..", value_delimiter = ',', default_values_t = [40])]
    classify: Vec<usize>,
    /// Runs of which the median counts, after one that does not
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Tokens that each of several streams generates.
const STREAM_ANSWER: usize = 64;

pub(crate) fn run(args: &BenchArgs, globals: &Globals) -> anyhow::Result<()> {
    // Streams wait for a place in the batch; none is refused.
    let mut engine = args.engine.clone();
    engine.queue = MAX_STREAMS;
    // Answers to random prompts go round in circles: drafts would make them faster than text is.
    engine.speculate.get_or_insert(Speculate::Off);
    let works = |sizes: &[usize], work: fn(usize) -> Work| -> Vec<Work> {
        sizes.iter().filter(|&&n| n > 0).map(|&n| work(n)).collect()
    };
    let works = [
        works(&args.prompt, |prompt| Work::Prefill { prompt }),
        works(&args.answer, |answer| Work::Decode { answer }),
        works(&args.streams, |streams| Work::Streams { streams, answer: STREAM_ANSWER }),
        works(&args.classify, |requests| Work::Classify { requests }),
    ]
    .concat();
    engine.default_kv = KvBudget::Pages(kv_pages(&works));
    let loaded = Loaded::open(&args.model, &engine, globals)?;

    let repeats = usize::from(args.repeat);
    let bar = progress::runs(globals, (works.len() * (repeats + 1)) as u64);
    bar.set_message("the machine's ceilings");
    let ceilings = Ceilings::measure(&loaded.cpu);
    let mut bench = Bench::new(&loaded.engine, &loaded.summary, &ceilings);
    works.iter().try_for_each(|work| bench.check(work))?;
    let mut results = Vec::new();
    for work in works {
        bar.set_message(work.label());
        results.push(bench.measure(work, repeats, || bar.inc(1))?);
    }
    bar.finish_and_clear();

    let Ceilings { int8_ops, f32_ops, read_bandwidth } = ceilings;
    if globals.json {
        return output::print_json(&json!({
            "model": loaded.id,
            "summary": loaded.summary,
            "threads": loaded.cpu.n_threads(),
            "isa": loaded.cpu.isa().to_string(),
            "repeat": repeats,
            "ceilings": {"int8_ops": int8_ops, "f32_ops": f32_ops, "read_bandwidth": read_bandwidth},
            "results": results,
        }));
    }
    output::print(&format!("{}: {}", loaded.id, loaded.description))?;
    output::print(&format!(
        "ceilings: int8 {:.0} GOP/s, f32 {:.0} GFLOP/s, memory {:.1} GB/s\n",
        int8_ops / 1e9,
        f32_ops / 1e9,
        read_bandwidth / 1e9
    ))?;
    let headers = ["WORK", "MEDIAN", "MIN", "MAX", "UNIT", "OF CEILING"];
    output::print(&output::table(&headers, &["MEDIAN", "MIN", "MAX"], results.iter().map(row).collect()))
}

fn row(result: &Measured) -> Vec<String> {
    let share = result.share.map(|s| format!("{:.0}% of {}", 100.0 * s.share, s.ceiling));
    let rate = |rate: f64| format!("{rate:.1}");
    vec![
        result.work.label(),
        rate(result.rate),
        rate(result.min),
        rate(result.max),
        result.unit.to_owned(),
        share.unwrap_or_default(),
    ]
}
