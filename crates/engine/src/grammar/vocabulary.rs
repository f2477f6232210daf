//! The model's vocabulary as the grammar engine sees it.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::error::GrammarError;

/// What tokens stand for, and how text is cut into them.
pub trait Vocabulary: Send + Sync {
    /// Number of tokens; ids are below it.
    fn len(&self) -> usize;
    /// Whether there is no token.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The bytes that a token adds to a text; `None` for one that adds none, such as a control token.
    fn text(&self, id: u32) -> Option<&[u8]>;
    /// The name of a token without text, such as `<|im_end|>`.
    fn name(&self, id: u32) -> Option<&str>;
    /// The tokens of a text that follows other text, as the model's tokenizer cuts it.
    fn encode(&self, text: &str) -> Vec<u32>;
    /// The tokens that end an answer.
    fn eog(&self) -> &[u32];
}

struct Env {
    trie: TokTrie,
    vocabulary: Arc<dyn Vocabulary>,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let ids = self.vocabulary.encode(text);
            // A tokenizer may normalise its text; what a grammar forces must stay as it is.
            if self.trie.decode_raw(&ids) == text.as_bytes() { ids } else { self.trie.greedy_tokenize(text.as_bytes()) }
        })
    }
}

/// Tokens without text get one that no grammar over text allows: a byte that UTF-8 does not have, and their name.
pub(super) fn token_env(vocabulary: &Arc<dyn Vocabulary>) -> Result<TokEnv, GrammarError> {
    let eog = vocabulary.eog();
    let Some((&first, n)) = eog.first().zip(u32::try_from(vocabulary.len()).ok()) else {
        return Err(GrammarError::invalid(
            &"the model has no token that ends an answer, so no grammar can be followed",
        ));
    };
    let word = |id: u32| match vocabulary.text(id) {
        Some(text) if !eog.contains(&id) => text.to_vec(),
        _ => {
            let name = vocabulary.name(id).unwrap_or_default();
            let name = if name.starts_with('<') && name.ends_with('>') { name.into() } else { format!("<{id}>") };
            [&[TokTrie::SPECIAL_TOKEN_MARKER], name.as_bytes()].concat()
        }
    };
    let words: Vec<Vec<u8>> = (0..n).map(word).collect();
    let trie = TokTrie::from(&TokRxInfo::new(n, first), &words).with_eos_tokens(eog);
    Ok(Arc::new(Env { trie, vocabulary: Arc::clone(vocabulary) }))
}
