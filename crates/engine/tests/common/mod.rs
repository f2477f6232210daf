//! A toy model: its logits are a hash of the tokens that it finds in the pages, so a page that is shared, freed or
//! overwritten wrongly changes its answer at once.
#![allow(dead_code, unreachable_pub)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bantam_engine::{Backend, Engine, EngineConfig, KvBudget, PAGE_TOKENS, TextDecoder, Vocabulary};
use bantam_kernels::{Cpu, CpuConfig};
use bantam_models::{ForwardError, LogitsWanted, NonFinite, RopeSet, SeqChunk};

pub const VOCAB: usize = 64;
/// Ends an answer.
pub const EOG: u32 = 1;
/// Its hidden state is not finite.
pub const NAN: u32 = 62;
/// The model panics over it.
pub const BOMB: u32 = 63;
/// Ids below it are harmless.
pub const PLAIN: u32 = 60;
/// Sequences that may grow longer use the long rope set.
pub const SHORT_CONTEXT: usize = 512;

/// What one chunk of a step was.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub first_pos: usize,
    pub n_tokens: usize,
    pub first_page: u32,
    pub n_logits: usize,
}

/// How the model takes to drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drafts {
    Sound,
    /// The last row of a draft is never finite.
    NotFinite,
}

/// What the tokens of a toy that writes JSON stand for, in order of id.
pub const PIECES: [&str; PLAIN as usize] = [
    "{", "<end>", "}", "[", "]", "\"", ":", ",", " ", "-", ".", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a",
    "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v", "w", "x",
    "y", "z", "\": ", "\", ", "\"}", "{\"", " \"", "tr", "ue", "true", "null", "fal", "se", "name", ": ",
];

/// How the toy's tokens are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// See [`Speller`].
    Letters,
    /// As [`PIECES`].
    Json,
}

#[derive(Clone)]
pub struct Toy {
    pub n_pages: usize,
    pub context_length: usize,
    pub step_time: Duration,
    /// How much likelier than others the token is that follows the last two by habit: text that repeats itself.
    pub habit: f32,
    /// What numbers chunks that are verified come to.
    pub drafts: Drafts,
    pub spelling: Spelling,
    pub steps: Arc<Mutex<Vec<Vec<Row>>>>,
    slots: Vec<[u32; PAGE_TOKENS]>,
    rows: Vec<Vec<f32>>,
    cpu: Cpu,
}

impl Toy {
    pub fn new(n_pages: usize) -> Self {
        Toy {
            n_pages,
            context_length: 4096,
            step_time: Duration::ZERO,
            habit: 0.0,
            drafts: Drafts::Sound,
            spelling: Spelling::Letters,
            steps: Arc::default(),
            slots: vec![[u32::MAX; PAGE_TOKENS]; n_pages],
            rows: Vec::new(),
            cpu: Cpu::new(CpuConfig { n_threads: 2, ..CpuConfig::default() }).unwrap(),
        }
    }

    /// Every step takes at least this long.
    pub fn slow(self, step_time: Duration) -> Self {
        Toy { step_time, ..self }
    }

    /// Most of what it says follows from the two tokens before, so that it soon repeats itself.
    pub fn repetitive(self) -> Self {
        Toy { habit: 8.0, ..self }
    }

    /// Its tokens are pieces of JSON.
    pub fn json(self) -> Self {
        Toy { spelling: Spelling::Json, ..self }
    }

    fn logits(&self, tokens: &[u32], rope: RopeSet) -> Vec<f32> {
        let mut row = logits(tokens, rope);
        if let [.., a, b] = tokens {
            row[1 + ((a * 5 + b * 3) % 9) as usize] += self.habit;
        }
        row
    }

    pub fn start(self, config: EngineConfig) -> Engine {
        Engine::with_backend(Box::new(self), config).unwrap()
    }
}

/// An engine over a toy of `n_pages`.
pub fn engine(n_pages: usize, config: EngineConfig) -> Engine {
    Toy::new(n_pages).start(config)
}

pub fn config() -> EngineConfig {
    EngineConfig { kv_budget: KvBudget::Pages(0), ..EngineConfig::default() }
}

/// The toy's logits after these tokens.
pub fn logits(tokens: &[u32], rope: RopeSet) -> Vec<f32> {
    let mut h = 0xcbf2_9ce4_8422_2325u64 ^ (rope == RopeSet::Long) as u64;
    for &t in tokens {
        h = mix(h ^ u64::from(t).wrapping_add(0x9E37_79B9));
    }
    (0..VOCAB as u64)
        .map(|id| {
            let bits = mix(h.wrapping_add(id.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            let logit = (bits >> 40) as f32 / (1 << 24) as f32 * 8.0 - 4.0;
            // The toy never draws the tokens that break it, and rarely the one that ends it.
            if id >= u64::from(PLAIN) {
                f32::NEG_INFINITY
            } else {
                logit - if id == u64::from(EOG) { 2.0 } else { 0.0 }
            }
        })
        .collect()
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Spells token ids as text: two letters each, except that ids ending in 7 are half of a two-byte character.
struct Speller {
    half: bool,
}

pub fn spell(id: u32) -> String {
    let letter = |n: u32| char::from(b'a' + (n % 26) as u8);
    [letter(id), letter(id / 3)].iter().collect()
}

impl TextDecoder for Speller {
    fn push(&mut self, id: u32) -> String {
        match (id % 10 == 7, self.half) {
            (true, false) => {
                self.half = true;
                String::new()
            }
            (true, true) => {
                self.half = false;
                "é".into()
            }
            (false, true) => {
                self.half = false;
                format!("\u{FFFD}{}", spell(id))
            }
            (false, false) => spell(id),
        }
    }

    fn finish(&mut self) -> String {
        if std::mem::take(&mut self.half) { "\u{FFFD}".into() } else { String::new() }
    }
}

/// What the toy's decoder makes of these tokens.
pub fn text_of(tokens: &[u32]) -> String {
    let mut speller = Speller { half: false };
    let mut text: String = tokens.iter().map(|&id| speller.push(id)).collect();
    text.push_str(&speller.finish());
    text
}

/// Writes tokens as they stand in a list.
struct Pieces(Vec<String>);

impl Pieces {
    fn new(spelling: Spelling) -> Self {
        let piece = |id: u32| match spelling {
            Spelling::Letters => spell(id),
            Spelling::Json => PIECES.get(id as usize).copied().unwrap_or_default().to_owned(),
        };
        Pieces((0..VOCAB as u32).map(piece).collect())
    }
}

impl Vocabulary for Pieces {
    fn len(&self) -> usize {
        VOCAB
    }

    fn text(&self, id: u32) -> Option<&[u8]> {
        self.0.get(id as usize).filter(|_| id != EOG).map(String::as_bytes)
    }

    fn name(&self, _id: u32) -> Option<&str> {
        None
    }

    /// The longest piece, then the longest of what is left.
    fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let fitting = (0..VOCAB as u32).filter(|&id| id != EOG && !self.0[id as usize].is_empty());
            let fitting = fitting.filter(|&id| rest.starts_with(&self.0[id as usize]));
            let Some(id) = fitting.max_by_key(|&id| self.0[id as usize].len()) else { break };
            ids.push(id);
            rest = &rest[self.0[id as usize].len()..];
        }
        ids
    }

    fn eog(&self) -> &[u32] {
        &[EOG]
    }
}

impl TextDecoder for Pieces {
    fn push(&mut self, id: u32) -> String {
        if id == EOG { String::new() } else { self.0[id as usize].clone() }
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}

impl Backend for Toy {
    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn n_pages(&self) -> usize {
        self.n_pages
    }

    fn eog(&self) -> &[u32] {
        &[EOG]
    }

    fn rope_set(&self, total_len: usize) -> RopeSet {
        if total_len > SHORT_CONTEXT { RopeSet::Long } else { RopeSet::Short }
    }

    fn text_decoder(&self, _prompt: &[u32]) -> Box<dyn TextDecoder> {
        match self.spelling {
            Spelling::Letters => Box::new(Speller { half: false }),
            Spelling::Json => Box::new(Pieces::new(Spelling::Json)),
        }
    }

    fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::new(Pieces::new(self.spelling))
    }

    fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    fn forward(&mut self, chunks: &[SeqChunk<'_>]) -> Result<Vec<Result<&[f32], NonFinite>>, ForwardError> {
        std::thread::sleep(self.step_time);
        assert!(!chunks.is_empty());
        let at = |pages: &[u32], pos: usize| (pages[pos / PAGE_TOKENS] as usize, pos % PAGE_TOKENS);
        for (i, c) in chunks.iter().enumerate() {
            assert!(!c.tokens.is_empty() && !c.tokens.contains(&BOMB), "boom");
            for (j, &token) in c.tokens.iter().enumerate() {
                let (page, slot) = at(c.pages, c.first_pos + j);
                let others = chunks.iter().enumerate().filter(|(o, _)| *o != i);
                assert!(others.clone().all(|(_, o)| !o.pages.contains(&(page as u32))), "writes to a shared page");
                self.slots[page][slot] = token;
            }
        }
        self.rows.clear();
        for c in chunks {
            let mut rows = Vec::new();
            for n in c.logits.rows(c.tokens.len()) {
                let tokens: Vec<u32> =
                    (0..=c.first_pos + n).map(|pos| at(c.pages, pos)).map(|(p, s)| self.slots[p][s]).collect();
                rows.extend(self.logits(&tokens, c.rope));
            }
            self.rows.push(rows);
        }
        self.steps.lock().unwrap().push(
            chunks
                .iter()
                .map(|c| Row {
                    first_pos: c.first_pos,
                    n_tokens: c.tokens.len(),
                    first_page: c.pages[0],
                    n_logits: if c.logits == LogitsWanted::All { c.tokens.len() } else { 0 },
                })
                .collect(),
        );
        let result = |(c, rows): (&SeqChunk<'_>, &'_ Vec<f32>)| match c.tokens.iter().position(|&t| t == NAN) {
            Some(n) => Err(NonFinite { position: c.first_pos + n }),
            None if self.drafts == Drafts::NotFinite && c.logits == LogitsWanted::All => {
                Err(NonFinite { position: c.first_pos + c.tokens.len() - 1 })
            }
            None => Ok(rows.len()),
        };
        let lengths: Vec<Result<usize, NonFinite>> = chunks.iter().zip(&self.rows).map(result).collect();
        Ok(lengths.into_iter().zip(&self.rows).map(|(l, rows)| l.map(|n| &rows[..n])).collect())
    }

    fn reset(&mut self) {
        self.rows.clear();
        self.slots.fill([u32::MAX; PAGE_TOKENS]);
    }
}

/// Waits until the engine has nothing to do, or fails.
pub fn wait_idle(engine: &Engine) {
    for _ in 0..2000 {
        let s = engine.stats();
        if s.running == 0 && s.waiting == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the engine did not become idle: {:?}", engine.stats());
}
