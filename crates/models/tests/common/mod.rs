//! What the integration tests share: the fixtures, a way to run one sequence, and the distance between logits.
#![allow(dead_code, unreachable_pub)]

pub mod edit;

use std::path::PathBuf;

use bantam_formats::Gguf;
use bantam_kernels::attention::{KvType, PAGE_TOKENS};
use bantam_kernels::{Cpu, CpuConfig};
use bantam_models::{KvPool, LogitsWanted, Model, RopeSet, Scratch, SeqChunk};

/// Fixtures that exist as the original floats and as the converter's GGUF, with the lengths whose logits are stored.
pub const BOTH_FORMATS: [(&str, &[usize]); 8] = [
    ("llama", &[48]),
    ("llama3-rope", &[80]),
    ("mistral", &[48]),
    ("qwen2", &[48]),
    ("gemma2", &[48]),
    ("gemma3", &[48]),
    ("phi3", &[48]),
    ("phi3-longrope", &[28, 60]),
];

pub fn dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn cpu(n_threads: usize) -> Cpu {
    Cpu::new(CpuConfig { n_threads, ..CpuConfig::default() }).unwrap()
}

pub fn gguf(name: &str) -> Gguf {
    Gguf::open(dir(name).join("model.gguf")).unwrap()
}

pub fn from_gguf(cpu: &Cpu, name: &str) -> Model {
    Model::load_gguf(cpu, &gguf(name)).unwrap()
}

pub fn tokens(name: &str, length: usize) -> Vec<u32> {
    let text = std::fs::read_to_string(dir(name).join("tokens.json")).unwrap();
    let mut tokens: Vec<u32> = serde_json::from_str(&text).unwrap();
    tokens.truncate(length);
    tokens
}

pub fn reference(name: &str, length: usize) -> Vec<f32> {
    let bytes = std::fs::read(dir(name).join(format!("logits-{length}.f32"))).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// One sequence alone in a pool of its own, its logits at every position.
pub struct Alone<'a> {
    pub model: &'a Model,
    pub cpu: &'a Cpu,
    pub kv_type: KvType,
    /// Tokens per forward pass.
    pub chunk: usize,
}

impl<'a> Alone<'a> {
    pub fn new(model: &'a Model, cpu: &'a Cpu) -> Self {
        Self { model, cpu, kv_type: KvType::F32, chunk: usize::MAX }
    }

    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let n_pages = tokens.len().div_ceil(PAGE_TOKENS);
        let mut kv = KvPool::new(self.model, self.kv_type, n_pages).unwrap();
        let mut scratch = Scratch::new();
        // Pages out of order, so that a page table that is ignored shows.
        let pages: Vec<u32> = (0..n_pages as u32).rev().collect();
        let rope = self.model.spec().rope_set(tokens.len());
        let mut logits = Vec::new();
        for (i, piece) in tokens.chunks(self.chunk.min(tokens.len())).enumerate() {
            let first_pos = i * self.chunk.min(tokens.len());
            let chunk = SeqChunk { tokens: piece, first_pos, pages: &pages, rope, logits: LogitsWanted::All };
            let out = self.model.forward(self.cpu, &mut kv, &mut scratch, &[chunk]).unwrap();
            logits.extend_from_slice(out.rows(0).unwrap());
        }
        logits
    }
}

/// The largest over positions of `max|a - b| / max|b|`.
pub fn relative_error(a: &[f32], b: &[f32], vocab_size: usize) -> f32 {
    assert_eq!(a.len(), b.len());
    let max = |row: &mut dyn Iterator<Item = f32>| {
        row.fold(0.0f32, |m, x| if x.is_nan() { f32::INFINITY } else { m.max(x.abs()) })
    };
    let rows = a.chunks_exact(vocab_size).zip(b.chunks_exact(vocab_size));
    rows.map(|(a, b)| max(&mut a.iter().zip(b).map(|(a, b)| a - b)) / max(&mut b.iter().copied())).fold(0.0, f32::max)
}

pub fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// A sequence in a batch: its tokens and its page table.
pub struct Sequence {
    pub tokens: Vec<u32>,
    pub pages: Vec<u32>,
    pub rope: RopeSet,
}

impl Sequence {
    pub fn chunk(&self, range: std::ops::Range<usize>, logits: LogitsWanted) -> SeqChunk<'_> {
        let first_pos = range.start;
        SeqChunk { tokens: &self.tokens[range], first_pos, pages: &self.pages, rope: self.rope, logits }
    }
}
