//! Continues a prompt greedily, to see a model work and how fast:
//! `cargo run --release -p bantam-models --example greedy -- model.gguf ["prompt" [n_tokens]]`
#![allow(clippy::expect_used)]

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use bantam_formats::{DecodeOptions, Detokenizer, EncodeOptions, Gguf, Tokenizer};
use bantam_kernels::attention::{KvType, PAGE_TOKENS};
use bantam_kernels::{Cpu, CpuConfig, ops};
use bantam_models::{KvPool, LogitsWanted, Model, Scratch, SeqChunk};

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: greedy model.gguf [prompt [n_tokens]]");
    let prompt = args.next().unwrap_or_else(|| "The capital of France is".to_owned());
    let n_new: usize = args.next().map_or(48, |n| n.parse().expect("n_tokens is a number"));

    let cpu = Cpu::new(CpuConfig::default()).expect("a thread team");
    let start = Instant::now();
    let gguf = Gguf::open(&path).expect("a GGUF file");
    let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf).expect("a tokenizer"));
    let model = Model::load_gguf(&cpu, &gguf).expect("a supported model");
    println!(
        "{:?}\nloaded in {:.2?}, {:?} with {} threads",
        model.summary(),
        start.elapsed(),
        cpu.isa(),
        cpu.n_threads()
    );

    let options = EncodeOptions { add_special: true, parse_special: true };
    let prompt_ids = tokenizer.encode(&prompt, options).expect("a prompt of sensible length");
    let total = (prompt_ids.len() + n_new).min(model.spec().context_length);
    let pages: Vec<u32> = (0..total.div_ceil(PAGE_TOKENS) as u32).collect();
    let mut kv = KvPool::new(&model, KvType::F16, pages.len()).expect("memory for keys and values");
    let mut scratch = Scratch::new();
    let rope = model.spec().rope_set(total);
    let mut step = |tokens: &[u32], first_pos: usize| {
        let chunk = SeqChunk { tokens, first_pos, pages: &pages, rope, logits: LogitsWanted::Last };
        let out = model.forward(&cpu, &mut kv, &mut scratch, &[chunk]).expect("a batch that fits");
        ops::argmax(&cpu, out.rows(0).expect("finite logits")).expect("a vocabulary") as u32
    };

    let start = Instant::now();
    let mut next = step(&prompt_ids, 0);
    let prefill = start.elapsed();
    let mut detokenizer =
        Detokenizer::new(Arc::clone(&tokenizer), DecodeOptions { skip_special: true, continuation: true });
    print!("\n{prompt}");
    let start = Instant::now();
    let mut n = 0;
    for pos in prompt_ids.len()..total {
        if tokenizer.eog().contains(&next) {
            break;
        }
        print!("{}", detokenizer.push(next));
        std::io::stdout().flush().expect("stdout");
        next = step(&[next], pos);
        n += 1;
    }
    let rate = |n: usize, seconds: f64| n as f64 / seconds;
    println!("{}\n", detokenizer.finish());
    println!("prefill {} tokens: {:.1} tokens/s", prompt_ids.len(), rate(prompt_ids.len(), prefill.as_secs_f64()));
    println!("decode {n} tokens: {:.1} tokens/s", rate(n, start.elapsed().as_secs_f64()));
}
