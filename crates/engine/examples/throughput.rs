//! Tokens per second of a model at 1, 4 and 16 streams with distinct prompts.
//!
//! `cargo run --release -p bantam-engine --example throughput -- MODEL.gguf [TOKENS]`
#![allow(clippy::print_stdout)]

use std::{error::Error, path::Path, sync::Arc, time::Instant};

use bantam_engine::{Engine, EngineConfig, EngineParts, GenerateRequest, SamplingParams};
use bantam_formats::{EncodeOptions, Gguf, Tokenizer};
use bantam_kernels::{Cpu, CpuConfig};
use bantam_models::Model;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: throughput MODEL.gguf [TOKENS]")?;
    let n_tokens: usize = args.next().map_or(Ok(128), |n| n.parse())?;
    let gguf = Gguf::open(Path::new(&path))?;
    let cpu = Cpu::new(CpuConfig::default())?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf)?);
    let model = Arc::new(Model::load_gguf(&cpu, &gguf)?);
    println!("{path}: {} threads, {}", cpu.n_threads(), cpu.isa());
    let parts = EngineParts { model, tokenizer: Arc::clone(&tokenizer), cpu };
    let engine = Engine::start(parts, EngineConfig::default())?;
    let encode = EncodeOptions { add_special: true, parse_special: false };

    for n_streams in [1, 4, 16] {
        let start = Instant::now();
        let mut streams = Vec::new();
        for i in 0..n_streams {
            let prompt = format!("Chapter {n_streams}.{i}. It was a long way from the village to the sea, and");
            streams.push(engine.generate(GenerateRequest {
                max_tokens: Some(n_tokens),
                sampling: SamplingParams { seed: Some(i), ..SamplingParams::default() },
                ignore_eos: true,
                ..GenerateRequest::new(tokenizer.encode(&prompt, encode)?)
            })?);
        }
        let answers: Vec<_> = streams.into_iter().map(|s| s.blocking_collect()).collect::<Result<_, _>>()?;
        let seconds = start.elapsed().as_secs_f64();
        let tokens: usize = answers.iter().map(|a| a.tokens.len()).sum();
        let rates: Vec<f64> = answers.iter().filter_map(|a| a.timings.decode_rate(a.tokens.len())).collect();
        let (slowest, fastest) = rates.iter().fold((f64::MAX, 0.0f64), |(lo, hi), &r| (lo.min(r), hi.max(r)));
        println!(
            "{n_streams:3} streams: {:7.1} tokens/s in total, each {slowest:.1} to {fastest:.1} while decoding",
            tokens as f64 / seconds
        );
        if n_streams == 1 {
            println!("    {:?}", answers[0].text);
        }
    }
    println!("{:#?}", engine.stats());
    Ok(())
}
