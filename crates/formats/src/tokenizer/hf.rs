//! An HF `tokenizer.json` as one of the models of this module. Such a file is a small program of normalizers,
//! pre-tokenizers and decoders; the programs that decoder models ship are recognised, and any other is refused by the
//! name of the component rather than run nearly right.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::added::AddedToken;
use super::bpe::{Bpe, BpeRules, merge_table};
use super::error::TokenizerError;
use super::parts::{RoleIds, TokenType};
use super::pretokenizer::{PreTokenizer, Step};
use super::spm::{Ranking, SentencePiece};
use super::vocab::Vocab;
use super::wordpiece::{Folding, WordPiece};
use super::{Assembly, Model, SpacePrefix, spm, wordpiece};
use crate::gguf::StringArray;

/// The splitting rule that `ByteLevel` has built in, without the alternatives for spaces.
const BYTE_LEVEL: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+";

/// How the rules of most families end. See [`Step::Words`].
const SPACES: &str = r"|\s+(?!\S)|\s+";

#[derive(Deserialize)]
struct File {
    model: ModelJson,
    #[serde(default)]
    added_tokens: Vec<AddedJson>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct ModelJson {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<MergeJson>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    ignore_merges: bool,
    /// Of WordPiece.
    #[serde(default)]
    max_input_chars_per_word: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum MergeJson {
    Joined(String),
    Pair(String, String),
}

#[derive(Deserialize)]
struct AddedJson {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    single_word: bool,
}

/// What the normalizers and pre-tokenizers of a file come to.
#[derive(Default)]
struct Program {
    nfc: bool,
    byte_level: bool,
    steps: Vec<OwnedStep>,
    escapes_spaces: bool,
    space_prefix: Option<SpacePrefix>,
    folding: Option<Folding>,
    splits_punctuation: bool,
}

enum OwnedStep {
    Isolate(String),
    Words(String),
}

pub(super) fn assembly(json: &[u8]) -> Result<Assembly, TokenizerError> {
    let file: File =
        serde_json::from_slice(json).map_err(|error| TokenizerError::BadJson { reason: error.to_string() })?;
    let model = &file.model;
    let (prefix, suffix) = (model.continuing_subword_prefix.as_deref(), model.end_of_word_suffix.as_deref());
    let (is_wordpiece, expected_prefix) = match model.kind.as_deref() {
        None | Some("BPE") => (false, ""),
        Some("WordPiece") => (true, wordpiece::CONTINUES),
        Some(other) => return Err(unsupported("model", other)),
    };
    for (name, affix, expected) in
        [("model.continuing_subword_prefix", prefix, expected_prefix), ("model.end_of_word_suffix", suffix, "")]
    {
        if let Some(affix) = affix.filter(|affix| *affix != expected) {
            return Err(unsupported(name, affix));
        }
    }
    if let Some(token) = file.added_tokens.iter().find(|token| token.single_word) {
        return Err(unsupported("single_word", &token.content));
    }
    let mut program = Program::default();
    program.normalizer(&file.normalizer)?;
    program.pre_tokenizer(&file.pre_tokenizer)?;

    let vocab = vocab(model, &file.added_tokens)?;
    let mut roles =
        RoleIds { unk: model.unk_token.as_deref().and_then(|text| vocab.id_of(text)), ..RoleIds::default() };
    let template = template(&file.post_processor, &vocab);
    roles.bos = template.bos;
    roles.eos = template.eos;
    let merges = merges(model)?;
    let (model, space_prefix) = if is_wordpiece {
        let (Some(folding), true) = (program.folding, program.splits_punctuation) else {
            return Err(unsupported("WordPiece", "without BertNormalizer and BertPreTokenizer"));
        };
        let max_word_chars = model.max_input_chars_per_word.unwrap_or(wordpiece::MAX_WORD_CHARS);
        (Model::WordPiece(WordPiece::new(&vocab, roles.unk, folding, max_word_chars)?), SpacePrefix::Nowhere)
    } else if program.byte_level {
        let steps = program.steps.iter().map(|step| match step {
            OwnedStep::Isolate(pattern) => Step::Isolate(pattern),
            OwnedStep::Words(pattern) => Step::Words(pattern),
        });
        let rules =
            BpeRules { merges, pre: PreTokenizer::new(steps)?, nfc: program.nfc, whole_words: model.ignore_merges };
        (Model::ByteLevelBpe(Bpe::new(&vocab, rules)?), SpacePrefix::Nowhere)
    } else if program.escapes_spaces && program.steps.is_empty() && !program.nfc {
        let ranking = Ranking::Merges(merge_table(&vocab, &merges)?);
        let prefix = program.space_prefix.unwrap_or(SpacePrefix::Nowhere);
        (Model::SentencePiece(SentencePiece::new(&vocab, ranking, roles.unk)?), prefix)
    } else {
        return Err(unsupported("pre_tokenizer", "neither ByteLevel nor SentencePiece's spaces"));
    };
    let added = file.added_tokens.into_iter().map(|token| AddedToken {
        id: token.id,
        text: token.content,
        control: token.special,
        strip_before: token.lstrip,
        strip_after: token.rstrip,
    });
    Ok(Assembly {
        added: added.collect(),
        vocab,
        model,
        space_prefix,
        drops_first_space: is_wordpiece || strips_space(&file.decoder),
        roles,
        add_bos: template.bos.is_some(),
        add_eos: template.adds_eos,
    })
}

impl Program {
    fn normalizer(&mut self, value: &Value) -> Result<(), TokenizerError> {
        match kind(value) {
            None => {}
            Some("Sequence") => {
                for part in list(value, "normalizers") {
                    self.normalizer(part)?;
                }
            }
            Some("NFC") => self.nfc = true,
            Some("BertNormalizer") => {
                let flag = |name: &str, default| value.get(name).and_then(Value::as_bool).unwrap_or(default);
                let lowercase = flag("lowercase", true);
                self.folding = Some(Folding {
                    clean: flag("clean_text", true),
                    split_cjk: flag("handle_chinese_chars", true),
                    strip_accents: flag("strip_accents", lowercase),
                    lowercase,
                });
            }
            Some("Prepend") if value["prepend"] == "▁" => self.space_prefix = Some(SpacePrefix::EverySegment),
            Some("Replace") if value["pattern"]["String"] == " " && value["content"] == "▁" => {
                self.escapes_spaces = true;
            }
            Some(other) => return Err(unsupported("normalizer", other)),
        }
        Ok(())
    }

    fn pre_tokenizer(&mut self, value: &Value) -> Result<(), TokenizerError> {
        match kind(value) {
            None => {}
            Some("Sequence") => {
                for part in list(value, "pretokenizers") {
                    self.pre_tokenizer(part)?;
                }
            }
            // After spaces are escaped there are none left to split at.
            Some("Split") if value["pattern"]["String"] == " " && self.escapes_spaces => {}
            Some("Split") => self.split(value)?,
            Some("Digits") => {
                let each = value["individual_digits"] == true;
                self.steps.push(OwnedStep::Isolate(if each { r"\p{N}" } else { r"\p{N}+" }.to_owned()));
            }
            Some("BertPreTokenizer") => self.splits_punctuation = true,
            Some("ByteLevel") if value["add_prefix_space"] != true => {
                self.byte_level = true;
                if value["use_regex"] != false {
                    self.steps.push(OwnedStep::Words(BYTE_LEVEL.to_owned()));
                }
            }
            Some("Metaspace") if value["replacement"] == "▁" && value["split"] == false => {
                self.escapes_spaces = true;
                self.space_prefix = Some(match value["prepend_scheme"].as_str() {
                    Some("first") => SpacePrefix::First,
                    Some("never") => SpacePrefix::Nowhere,
                    _ => return Err(unsupported("pre_tokenizer", "Metaspace with prepend_scheme `always`")),
                });
            }
            Some(other) => return Err(unsupported("pre_tokenizer", other)),
        }
        Ok(())
    }

    fn split(&mut self, value: &Value) -> Result<(), TokenizerError> {
        let Some(pattern) = value["pattern"]["Regex"].as_str() else {
            return Err(unsupported("pre_tokenizer", "Split at a string"));
        };
        // To remove what lies between matches is to isolate the matches of a rule that matches everything.
        let isolates = match (value["behavior"].as_str(), value["invert"].as_bool().unwrap_or(false)) {
            (Some("Isolated"), _) => true,
            (Some("Removed"), true) => pattern.ends_with(SPACES),
            _ => false,
        };
        if !isolates {
            return Err(unsupported("pre_tokenizer", "Split that is not `Isolated`"));
        }
        self.steps.push(match pattern.strip_suffix(SPACES) {
            Some(rule) => OwnedStep::Words(rule.to_owned()),
            None => OwnedStep::Isolate(pattern.to_owned()),
        });
        Ok(())
    }
}

fn vocab(model: &ModelJson, added: &[AddedJson]) -> Result<Vocab, TokenizerError> {
    let entries = model.vocab.as_object().map(|entries| entries.iter()).into_iter().flatten();
    let mut by_id: HashMap<u32, (&str, TokenType)> = HashMap::new();
    for (text, id) in entries {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| TokenizerError::BadJson {
            reason: format!("the id of token {text:?} in `model.vocab` is {id}"),
        })?;
        let ty = if spm::byte_of(text).is_some() { TokenType::Byte } else { TokenType::Normal };
        if by_id.insert(id, (text, ty)).is_some() {
            return Err(TokenizerError::BadTokenIds { id, n_tokens: by_id.len() });
        }
    }
    for token in added {
        let ty = if token.special { TokenType::Control } else { TokenType::UserDefined };
        by_id.insert(token.id, (&token.content, ty));
    }
    // Ids in use may have gaps, but every one of them is a row of the model.
    let n_tokens = by_id.keys().max().map_or(0, |&id| id as usize + 1);
    if n_tokens > 2 * by_id.len() + 1024 {
        let id = by_id.keys().max().copied().unwrap_or_default();
        return Err(TokenizerError::BadTokenIds { id, n_tokens: by_id.len() });
    }
    let token = |id: usize| by_id.get(&(id as u32)).copied().unwrap_or(("", TokenType::Unused));
    let texts: StringArray = (0..n_tokens).map(|id| token(id).0).collect();
    Vocab::new(texts, (0..n_tokens).map(|id| token(id).1).collect())
}

fn merges(model: &ModelJson) -> Result<StringArray, TokenizerError> {
    let mut joined = StringArray::new();
    for (index, merge) in model.merges.iter().enumerate() {
        match merge {
            MergeJson::Joined(merge) => joined.push(merge),
            MergeJson::Pair(left, right) => {
                let merge = format!("{left} {right}");
                if left.contains(' ') {
                    return Err(TokenizerError::MalformedMerge { index, merge });
                }
                joined.push(&merge);
            }
        }
    }
    Ok(joined)
}

/// The tokens that the post-processor puts around a text.
#[derive(Default)]
struct Template {
    bos: Option<u32>,
    eos: Option<u32>,
    adds_eos: bool,
}

fn template(post_processor: &Value, vocab: &Vocab) -> Template {
    let mut template = Template::default();
    match kind(post_processor) {
        Some("Sequence") => {
            for part in list(post_processor, "processors") {
                let found = self::template(part, vocab);
                template = if found.bos.is_some() || found.adds_eos { found } else { template };
            }
        }
        Some("TemplateProcessing") => {
            let mut after_text = false;
            for part in list(post_processor, "single") {
                after_text |= part.get("Sequence").is_some();
                let id = part["SpecialToken"]["id"].as_str().and_then(|text| vocab.id_of(text));
                match id {
                    Some(id) if after_text => (template.eos, template.adds_eos) = (Some(id), true),
                    Some(id) => template.bos = Some(id),
                    None => {}
                }
            }
        }
        // BERT's own: the token and its id, before and after.
        Some("BertProcessing") => {
            let id = |field: &str| post_processor[field][0].as_str().and_then(|text| vocab.id_of(text));
            template = Template { bos: id("cls"), eos: id("sep"), adds_eos: id("sep").is_some() };
        }
        _ => {}
    }
    template
}

/// Whether the decoder takes one space from the beginning of a text.
fn strips_space(decoder: &Value) -> bool {
    match kind(decoder) {
        Some("Sequence") => list(decoder, "decoders").iter().any(strips_space),
        Some("Strip") => decoder["content"] == " " && decoder["start"] == 1,
        Some("Metaspace") => decoder["prepend_scheme"] != "never",
        _ => false,
    }
}

fn kind(value: &Value) -> Option<&str> {
    value.get("type").and_then(Value::as_str)
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn unsupported(component: &str, what: &str) -> TokenizerError {
    TokenizerError::UnsupportedComponent { component: format!("{component}: {what}") }
}
