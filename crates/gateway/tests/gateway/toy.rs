//! A model of 260 tokens: the bytes, and four special ones. Its logits are a hash of the last token and its position,
//! so answers look random, differ between prompts, and are the same every time.

use std::sync::Arc;
use std::time::Duration;

use bantam_engine::{Backend, TextDecoder, Vocabulary};
use bantam_formats::{ChatTemplate, DecodeOptions, Detokenizer, TemplateTokens, Tokenizer};
use bantam_kernels::{Cpu, CpuConfig};
use bantam_models::{ForwardError, LogitsWanted, NonFinite, RopeSet, SeqChunk};

const VOCAB_SIZE: usize = 260;
const END: u32 = 258;

/// A prompt with this byte makes the model's state NaN.
pub(crate) const POISON: &str = "\u{7}";
/// A prompt with this byte makes the model panic.
pub(crate) const BOMB: &str = "\u{6}";

pub(crate) struct Toy {
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) n_pages: usize,
    pub(crate) context_length: usize,
    /// What every step takes.
    pub(crate) step_time: Duration,
    /// Text that it writes at every 64th position.
    pub(crate) habit: &'static str,
    cpu: Cpu,
    rows: Vec<Result<Vec<f32>, NonFinite>>,
}

impl Toy {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, context_length: usize, step_time: Duration) -> Self {
        let cpu = Cpu::new(CpuConfig { n_threads: 1, isa: None }).unwrap();
        Self { tokenizer, n_pages: 4096, context_length, step_time, habit: "", cpu, rows: Vec::new() }
    }
}

fn hash(mut x: u64) -> u64 {
    for _ in 0..2 {
        x = (x ^ (x >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    x ^ (x >> 29)
}

/// What may follow `token` at `position`: letters and spaces, mostly.
fn row(token: u32, position: usize) -> Vec<f32> {
    let mut row = vec![-40.0; VOCAB_SIZE];
    for id in (b'a'..=b'z').chain([b' ']) {
        let h = hash(u64::from(token) << 40 | (position as u64) << 10 | u64::from(id));
        row[usize::from(id)] = (h >> 40) as f32 / (1 << 22) as f32;
    }
    // Half of a two-byte character is followed by the other half, and '!' ends the turn.
    if token == 0xc3 {
        row[0xa9] = 1000.0;
    }
    if token == u32::from(b'!') {
        row[END as usize] = 1000.0;
    }
    row
}

impl Backend for Toy {
    fn vocab_size(&self) -> usize {
        VOCAB_SIZE
    }

    fn context_length(&self) -> usize {
        self.context_length
    }

    fn n_pages(&self) -> usize {
        self.n_pages
    }

    fn eog(&self) -> &[u32] {
        &[END]
    }

    fn rope_set(&self, _total_len: usize) -> RopeSet {
        RopeSet::Short
    }

    fn text_decoder(&self, prompt: &[u32]) -> Box<dyn TextDecoder> {
        let options = DecodeOptions { skip_special: true, continuation: !prompt.is_empty() };
        Box::new(Decoder(Detokenizer::new(Arc::clone(&self.tokenizer), options)))
    }

    fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::clone(&self.tokenizer) as Arc<dyn Vocabulary>
    }

    fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    fn forward(&mut self, chunks: &[SeqChunk<'_>]) -> Result<Vec<Result<&[f32], NonFinite>>, ForwardError> {
        std::thread::sleep(self.step_time);
        self.rows.clear();
        for chunk in chunks {
            assert!(!chunk.tokens.contains(&u32::from(BOMB.as_bytes()[0])), "boom");
            let from = match chunk.logits {
                LogitsWanted::None => chunk.tokens.len(),
                LogitsWanted::Last => chunk.tokens.len() - 1,
                LogitsWanted::All => 0,
            };
            let wanted = chunk.tokens.iter().enumerate().skip(from);
            let row = |(i, &token): (usize, &u32)| {
                let position = chunk.first_pos + i;
                let mut row = row(token, position);
                if let Some(&byte) = self.habit.as_bytes().get(position % 64) {
                    row[usize::from(byte)] = 1000.0;
                }
                row
            };
            let rows = wanted.flat_map(row).collect();
            let poisoned = chunk.tokens.contains(&u32::from(POISON.as_bytes()[0]));
            self.rows.push(if poisoned { Err(NonFinite { position: chunk.first_pos }) } else { Ok(rows) });
        }
        Ok(self.rows.iter().map(|r| r.as_ref().map(Vec::as_slice).map_err(|e| *e)).collect())
    }

    fn reset(&mut self) {}
}

struct Decoder(Detokenizer);

impl TextDecoder for Decoder {
    fn push(&mut self, id: u32) -> String {
        self.0.push(id)
    }

    fn finish(&mut self) -> String {
        self.0.finish()
    }
}

/// GPT-2's alphabet: every byte as one printable character.
fn byte_name(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + rank).unwrap()
}

pub(crate) fn tokenizer() -> Tokenizer {
    let special = ["<s>", "<|im_start|>", "<|im_end|>", "<unused>"];
    let bytes = (0..=255u8).map(|b| (byte_name(b).to_string(), u32::from(b)));
    let vocab: serde_json::Map<_, _> = bytes.map(|(name, id)| (name, id.into())).collect();
    let added: Vec<_> = (0u32..)
        .zip(special)
        .map(|(i, content)| {
            serde_json::json!({ "id": 256 + i, "content": content, "special": true, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false })
        })
        .collect();
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false },
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [] }
    });
    Tokenizer::from_hf_json(json.to_string().as_bytes()).unwrap()
}

pub(crate) fn template() -> ChatTemplate {
    let source = "{% for m in messages %}{% if m.role == 'function' %}{{ raise_exception('no functions in this house') }}\
        {% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    ChatTemplate::new(source, TemplateTokens::default()).unwrap()
}
