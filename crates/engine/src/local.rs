//! The [`Backend`] that is a decoder of ours with its tokenizer and KV pool.

use std::sync::Arc;

use bantam_formats::{DecodeOptions, Detokenizer, Tokenizer};
use bantam_kernels::Cpu;
use bantam_models::{ForwardError, KvPool, Model, NonFinite, RopeSet, Scratch, SeqChunk};

use crate::{
    backend::{Backend, TextDecoder},
    engine::{EngineConfig, EngineError, KvBudget},
    grammar::Vocabulary,
};

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct EngineParts {
    /// The decoder.
    pub model: Arc<Model>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Instruction set and threads.
    pub cpu: Cpu,
}

pub(crate) struct LocalModel {
    parts: EngineParts,
    kv: KvPool,
    scratch: Scratch,
}

impl LocalModel {
    pub(crate) fn new(parts: EngineParts, config: &EngineConfig) -> Result<Self, EngineError> {
        let n_pages = match config.kv_budget {
            KvBudget::Pages(n) => n,
            KvBudget::Bytes(bytes) => bytes / parts.model.kv_bytes_per_page(config.kv_type).max(1),
        };
        if n_pages == 0 {
            let needed = parts.model.kv_bytes_per_page(config.kv_type);
            let why = format!("too little for a single page, which takes {needed} bytes");
            return Err(EngineError::Config { param: "kv_budget", why });
        }
        let kv = KvPool::new(&parts.model, config.kv_type, n_pages)?;
        Ok(LocalModel { parts, kv, scratch: Scratch::new() })
    }
}

impl Backend for LocalModel {
    fn vocab_size(&self) -> usize {
        self.parts.model.spec().vocab_size
    }

    fn context_length(&self) -> usize {
        self.parts.model.spec().context_length
    }

    fn n_pages(&self) -> usize {
        self.kv.n_pages()
    }

    fn eog(&self) -> &[u32] {
        self.parts.tokenizer.eog()
    }

    fn rope_set(&self, total_len: usize) -> RopeSet {
        self.parts.model.spec().rope_set(total_len)
    }

    fn text_decoder(&self, _prompt: &[u32]) -> Box<dyn TextDecoder> {
        let options = DecodeOptions { skip_special: true, continuation: true };
        Box::new(Detokenizer::new(Arc::clone(&self.parts.tokenizer), options))
    }

    fn vocabulary(&self) -> Arc<dyn Vocabulary> {
        Arc::clone(&self.parts.tokenizer) as Arc<dyn Vocabulary>
    }

    fn cpu(&self) -> &Cpu {
        &self.parts.cpu
    }

    fn forward(&mut self, chunks: &[SeqChunk<'_>]) -> Result<Vec<Result<&[f32], NonFinite>>, ForwardError> {
        let output = self.parts.model.forward(&self.parts.cpu, &mut self.kv, &mut self.scratch, chunks)?;
        Ok((0..chunks.len()).map(|chunk| output.rows(chunk)).collect())
    }

    fn reset(&mut self) {
        self.scratch = Scratch::new();
    }
}

impl Vocabulary for Tokenizer {
    fn len(&self) -> usize {
        self.vocab_size()
    }

    fn text(&self, id: u32) -> Option<&[u8]> {
        self.token_bytes(id).filter(|_| !self.is_special(id))
    }

    fn name(&self, id: u32) -> Option<&str> {
        self.token_str(id)
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_continuation(text).unwrap_or_default()
    }

    fn eog(&self) -> &[u32] {
        Tokenizer::eog(self)
    }
}

impl TextDecoder for Detokenizer {
    fn push(&mut self, id: u32) -> String {
        Detokenizer::push(self, id)
    }

    fn finish(&mut self) -> String {
        Detokenizer::finish(self)
    }
}
