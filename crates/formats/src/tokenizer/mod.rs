//! Text to tokens and back, as the model's makers do it.
//!
//! A tokenizer is built from the metadata of a GGUF file ([`Tokenizer::from_gguf`]), from an HF `tokenizer.json`
//! ([`Tokenizer::from_hf_json`]) or from parts ([`Tokenizer::new`]). It takes three steps: added tokens are cut out of
//! the text, what is between them is split into words (byte-level BPE, WordPiece) or escaped (SentencePiece), and the
//! words become tokens. Every step is linear or O(n log n) in the length of the text, whatever the text, because prompts come
//! from strangers.

mod added;
mod bpe;
mod byte_level;
mod detokenizer;
mod error;
mod hf;
mod merge;
mod parts;
mod pretokenizer;
mod roles;
mod spm;
mod vocab;
mod wordpiece;

pub use detokenizer::Detokenizer;
pub use error::TokenizerError;
pub use parts::{ControlStrip, ModelParts, RoleIds, TokenType, TokenizerParts};

use std::borrow::Cow;

use crate::gguf::Gguf;
use added::{AddedToken, AddedTokens, Segment};
use bpe::{Bpe, BpeRules};
use merge::Merger;
use pretokenizer::Recipe;
use spm::{Ranking, SentencePiece};
use vocab::Vocab;
use wordpiece::WordPiece;

/// The longest text that is encoded at once, so that offsets fit 32 bits after escaping.
const MAX_TEXT_BYTES: usize = 1 << 30;

/// How to encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncodeOptions {
    /// Begin with BOS and end with EOS where the model wants it. BOS is not added before a text that has it already.
    pub add_special: bool,
    /// Turn the text of control tokens (`<|im_end|>`) into these tokens. Right for what a chat template wrote, wrong for
    /// what a stranger wrote.
    pub parse_special: bool,
}

/// How to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeOptions {
    /// Leave out control tokens.
    pub skip_special: bool,
    /// The ids continue a text rather than begin one: a space that comes first is kept.
    pub continuation: bool,
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    model: Model,
    space_prefix: SpacePrefix,
    drops_first_space: bool,
    added: AddedTokens,
    roles: RoleIds,
    add_bos: bool,
    add_eos: bool,
    eog: Vec<u32>,
    /// The bytes of all tokens one after another, and where each ends.
    bytes: Vec<u8>,
    byte_ends: Vec<usize>,
}

#[derive(Debug)]
enum Model {
    ByteLevelBpe(Bpe),
    SentencePiece(SentencePiece),
    WordPiece(WordPiece),
}

/// Where SentencePiece puts a space before the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SpacePrefix {
    Nowhere,
    /// Before the text, unless it begins with an added token.
    First,
    /// Before the text and after every added token.
    EverySegment,
}

/// A tokenizer's pieces, checked by those who made them.
struct Assembly {
    vocab: Vocab,
    model: Model,
    space_prefix: SpacePrefix,
    /// A text that begins with a space is decoded without it.
    drops_first_space: bool,
    added: Vec<AddedToken>,
    roles: RoleIds,
    add_bos: bool,
    add_eos: bool,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file describes.
    ///
    /// # Errors
    /// [`TokenizerError`] naming the metadata key that is missing, unknown or inconsistent.
    pub fn from_gguf(gguf: &Gguf) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::new(TokenizerParts::from_gguf(gguf)?)
    }

    /// Builds the tokenizer that an HF `tokenizer.json` describes: byte-level BPE, BPE over SentencePiece pieces, or
    /// WordPiece.
    ///
    /// # Errors
    /// [`TokenizerError`] when it is not valid, or naming the component that is not supported.
    pub fn from_hf_json(json: &[u8]) -> Result<Tokenizer, TokenizerError> {
        hf::assembly(json).and_then(Tokenizer::assemble)
    }

    /// Builds a tokenizer from its parts.
    ///
    /// # Errors
    /// [`TokenizerError`] naming the part that is wrong.
    pub fn new(parts: TokenizerParts) -> Result<Tokenizer, TokenizerError> {
        let vocab = Vocab::new(parts.tokens, parts.types)?;
        check_roles(&parts.roles, vocab.len())?;
        let mut roles = parts.roles;
        if matches!(parts.model, ModelParts::SentencePiece { .. }) {
            sentencepiece_roles(&vocab, &mut roles);
        }
        let mut added = added_tokens(&vocab, &roles, parts.control_strip);
        let (model, space_prefix, family_adds_bos) = match parts.model {
            ModelParts::ByteLevelBpe { pre, merges } => {
                let recipe = pre.as_deref().map_or(Ok(Recipe::unnamed()), Recipe::named)?;
                let rules =
                    BpeRules { merges, pre: recipe.compile()?, nfc: recipe.nfc, whole_words: recipe.whole_words };
                (Model::ByteLevelBpe(Bpe::new(&vocab, rules)?), SpacePrefix::Nowhere, recipe.add_bos)
            }
            ModelParts::SentencePiece { scores, add_space_prefix } => {
                let ranking = Ranking::by_score(&scores, vocab.len())?;
                let model = Model::SentencePiece(SentencePiece::new(&vocab, ranking, roles.unk)?);
                let prefixed = add_space_prefix.unwrap_or(true);
                (model, if prefixed { SpacePrefix::EverySegment } else { SpacePrefix::Nowhere }, true)
            }
        };
        if matches!(model, Model::SentencePiece(_)) {
            added.iter_mut().filter(|token| !token.control).for_each(as_hf_finds_it);
        }
        if parts.add_bos == Some(true) && roles.bos.is_none() {
            let (field, id_field) = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id");
            return Err(TokenizerError::MissingSpecialId { field, id_field });
        }
        if parts.add_eos == Some(true) && roles.eos.is_none() {
            let (field, id_field) = ("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id");
            return Err(TokenizerError::MissingSpecialId { field, id_field });
        }
        Tokenizer::assemble(Assembly {
            model,
            space_prefix,
            drops_first_space: space_prefix != SpacePrefix::Nowhere,
            added,
            add_bos: parts.add_bos.unwrap_or(family_adds_bos) && roles.bos.is_some(),
            add_eos: parts.add_eos.unwrap_or(false),
            roles,
            vocab,
        })
    }

    fn assemble(assembly: Assembly) -> Result<Tokenizer, TokenizerError> {
        let Assembly { vocab, model, space_prefix, drops_first_space, added, roles, add_bos, add_eos } = assembly;
        let mut bytes = Vec::new();
        let mut byte_ends = Vec::with_capacity(vocab.len());
        for (_, text, ty) in vocab.iter() {
            model.append_bytes(text, ty, &mut bytes);
            byte_ends.push(bytes.len());
        }
        Ok(Tokenizer {
            eog: roles::end_of_generation(&vocab, &roles),
            added: AddedTokens::new(added)?,
            vocab,
            model,
            space_prefix,
            drops_first_space,
            roles,
            add_bos,
            add_eos,
            bytes,
            byte_ends,
        })
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`] above a gigabyte.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        self.encode_after(text, options, self.space_prefix)
    }

    /// The ids of `text` where it goes on after other text: no special tokens, and no space put before it.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`] above a gigabyte.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_after(text, EncodeOptions::default(), SpacePrefix::Nowhere)
    }

    fn encode_after(
        &self,
        text: &str,
        options: EncodeOptions,
        space_prefix: SpacePrefix,
    ) -> Result<Vec<u32>, TokenizerError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenizerError::TextTooLong { len: text.len(), max: MAX_TEXT_BYTES });
        }
        let mut ids = Vec::new();
        let bos = self.roles.bos.filter(|_| options.add_special && self.add_bos);
        ids.extend(bos);
        let mut merger = Merger::default();
        let mut first = true;
        self.added.split(text, options.parse_special, &mut |segment| {
            match segment {
                Segment::Token(id) => ids.push(id),
                Segment::Text(text) => match &self.model {
                    Model::ByteLevelBpe(bpe) => bpe.encode(text, &mut ids, &mut merger),
                    Model::WordPiece(wordpiece) => wordpiece.encode(text, &self.vocab, &mut ids),
                    Model::SentencePiece(spm) => {
                        let escaped = escape(text, space_prefix, first);
                        spm.encode(&escaped, &self.vocab, &mut ids, &mut merger);
                    }
                },
            }
            first = false;
        });
        if bos.is_some() && ids.get(1).copied() == bos {
            ids.remove(0);
        }
        ids.extend(self.roles.eos.filter(|_| options.add_special && self.add_eos));
        Ok(ids)
    }

    /// The text of `ids`. Bytes that are no character become U+FFFD, and ids outside the vocabulary nothing (models
    /// have rows for more tokens than there are).
    pub fn decode(&self, ids: &[u32], options: DecodeOptions) -> String {
        let mut bytes: Vec<u8> = Vec::new();
        for &id in ids {
            bytes.extend_from_slice(self.shown_bytes(id, options));
        }
        let drop_space = self.drops_first_space(options) && bytes.first() == Some(&b' ');
        String::from_utf8_lossy(bytes.get(usize::from(drop_space)..).unwrap_or_default()).into_owned()
    }

    fn drops_first_space(&self, options: DecodeOptions) -> bool {
        self.drops_first_space && !options.continuation
    }

    fn shown_bytes(&self, id: u32, options: DecodeOptions) -> &[u8] {
        if options.skip_special && self.is_special(id) { &[] } else { self.token_bytes(id).unwrap_or_default() }
    }

    /// The bytes that a token adds to a text: part of a character, one, or many. `None` outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let end = *self.byte_ends.get(id)?;
        let start = id.checked_sub(1).and_then(|before| self.byte_ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start..end)
    }

    /// A token as the vocabulary writes it (`Ġthe`, `▁the`, `<0x0A>`). `None` outside the vocabulary.
    pub fn token_str(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// The token that the vocabulary writes so.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.vocab.id_of(token)
    }

    /// Number of tokens. The model may have rows for more.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The kind of a token. `None` outside the vocabulary.
    pub fn token_type(&self, id: u32) -> Option<TokenType> {
        self.vocab.type_of(id)
    }

    /// True for control tokens and the unknown token, which [`DecodeOptions::skip_special`] leaves out.
    pub fn is_special(&self, id: u32) -> bool {
        matches!(self.vocab.type_of(id), Some(TokenType::Control | TokenType::Unknown))
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.roles.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.roles.eos
    }

    /// The token that fills up batches.
    pub fn pad(&self) -> Option<u32> {
        self.roles.pad
    }

    /// The token for text that cannot be encoded.
    pub fn unk(&self) -> Option<u32> {
        self.roles.unk
    }

    /// All tokens that end a generation, ascending: EOS, end of turn, end of message.
    pub fn eog(&self) -> &[u32] {
        &self.eog
    }

    /// True for tokens that end a generation.
    pub fn is_eog(&self, id: u32) -> bool {
        self.eog.binary_search(&id).is_ok()
    }

    /// Adds tokens that end a generation, such as those of a `generation_config.json`. Ids outside the vocabulary are
    /// of no effect.
    pub fn add_eog(&mut self, ids: &[u32]) {
        let n_tokens = self.vocab.len();
        self.eog.extend(ids.iter().filter(|&&id| (id as usize) < n_tokens));
        self.eog.sort_unstable();
        self.eog.dedup();
    }

    /// Whether [`EncodeOptions::add_special`] adds BOS.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether [`EncodeOptions::add_special`] adds EOS.
    pub fn add_eos(&self) -> bool {
        self.add_eos
    }

    /// True when `ids` begin with BOS already, as a chat template may have them do.
    pub fn starts_with_bos(&self, ids: &[u32]) -> bool {
        self.roles.bos.is_some() && ids.first().copied() == self.roles.bos
    }
}

impl Model {
    fn append_bytes(&self, text: &str, ty: TokenType, bytes: &mut Vec<u8>) {
        let verbatim = matches!(ty, TokenType::Control | TokenType::UserDefined | TokenType::Unknown);
        let own: Cow<'_, [u8]> = match self {
            Model::ByteLevelBpe(_) if verbatim => Cow::Borrowed(text.as_bytes()),
            Model::ByteLevelBpe(_) => byte_level::bytes_of(text).map_or(Cow::Borrowed(text.as_bytes()), Cow::Owned),
            Model::WordPiece(_) if verbatim => Cow::Borrowed(text.as_bytes()),
            Model::WordPiece(_) => wordpiece::bytes_of(text),
            Model::SentencePiece(_) => match spm::byte_of(text) {
                Some(byte) => Cow::Owned(vec![byte]),
                None if ty == TokenType::Control => Cow::Borrowed(text.as_bytes()),
                None => Cow::Owned(text.replace(spm::SPACE, " ").into_bytes()),
            },
        };
        bytes.extend_from_slice(&own);
    }
}

fn escape(text: &str, space_prefix: SpacePrefix, first: bool) -> String {
    let prefixed = match space_prefix {
        SpacePrefix::Nowhere => false,
        SpacePrefix::First => first,
        SpacePrefix::EverySegment => true,
    };
    let n_spaces = usize::from(prefixed) + text.bytes().filter(|&byte| byte == b' ').count();
    let mut escaped = String::with_capacity(text.len() + n_spaces * spm::SPACE.len_utf8());
    if prefixed {
        escaped.push(spm::SPACE);
    }
    escaped.extend(text.chars().map(|c| if c == ' ' { spm::SPACE } else { c }));
    escaped
}

fn check_roles(roles: &RoleIds, n_tokens: usize) -> Result<(), TokenizerError> {
    let fields = [
        ("tokenizer.ggml.bos_token_id", roles.bos),
        ("tokenizer.ggml.eos_token_id", roles.eos),
        ("tokenizer.ggml.eot_token_id", roles.eot),
        ("tokenizer.ggml.eom_token_id", roles.eom),
        ("tokenizer.ggml.unknown_token_id", roles.unk),
        ("tokenizer.ggml.padding_token_id", roles.pad),
    ];
    for (field, id) in fields {
        if let Some(id) = id.filter(|&id| id as usize >= n_tokens) {
            return Err(TokenizerError::SpecialIdOutOfRange { field, id: id.into(), n_tokens });
        }
    }
    Ok(())
}

/// SentencePiece files that state no roles have them where SentencePiece puts them.
fn sentencepiece_roles(vocab: &Vocab, roles: &mut RoleIds) {
    let usual = |id: u32, ty: TokenType| (vocab.type_of(id) == Some(ty)).then_some(id);
    roles.unk = roles.unk.or_else(|| usual(0, TokenType::Unknown));
    roles.bos = roles.bos.or_else(|| usual(1, TokenType::Control));
    roles.eos = roles.eos.or_else(|| usual(2, TokenType::Control));
}

/// Runs of spaces are merged, or found by SentencePiece once spaces are escaped; in the text itself HF finds only runs of
/// literal U+2581. Other user-defined pieces are found as they read.
fn as_hf_finds_it(token: &mut AddedToken) {
    token.text = match spm::run_of_spaces(&token.text, TokenType::UserDefined) {
        Some(n) => String::from(spm::SPACE).repeat(n),
        None => token.text.replace(spm::SPACE, " "),
    };
}

fn added_tokens(vocab: &Vocab, roles: &RoleIds, strip: ControlStrip) -> Vec<AddedToken> {
    let mut added = Vec::new();
    for (id, text, ty) in vocab.iter() {
        let control = match ty {
            TokenType::Control => true,
            TokenType::Unknown if roles.unk == Some(id) => true,
            // Converters fill gaps with these; no text means them.
            TokenType::UserDefined if text == format!("[PAD{id}]") => continue,
            TokenType::UserDefined => false,
            _ => continue,
        };
        let bare = roles.bos == Some(id) || roles.unk == Some(id) || text == "<|endoftext|>";
        added.push(AddedToken {
            id,
            text: text.to_owned(),
            control,
            strip_before: strip == ControlStrip::Around && control,
            strip_after: match strip {
                ControlStrip::Keep => false,
                ControlStrip::After => !bare,
                ControlStrip::Around => control,
            },
        });
    }
    added
}
