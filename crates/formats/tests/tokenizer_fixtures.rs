//! Tokenizers against HF `tokenizers` and Google's `sentencepiece`, on a multilingual corpus. The fixtures, and the
//! script that makes them, are in `fixtures/tokenizer`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bantam_formats::gguf::StringArray;
use bantam_formats::tokenizer::{ModelParts, RoleIds, TokenType, TokenizerParts};
use bantam_formats::{DecodeOptions, Detokenizer, EncodeOptions, Tokenizer};
use serde::Deserialize;
use serde_json::Value;

const PARSE_SPECIAL: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

fn fixture<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn corpus() -> Vec<String> {
    fixture("corpus.json")
}

#[derive(Deserialize)]
struct ByteLevel {
    pre: String,
    tokenizer: Value,
    ids: Vec<Vec<u32>>,
}

impl ByteLevel {
    /// What a GGUF file would hold of this tokenizer.
    fn parts(&self) -> TokenizerParts {
        let mut tokens: BTreeMap<u64, (String, TokenType)> = BTreeMap::new();
        for (text, id) in self.tokenizer["model"]["vocab"].as_object().unwrap() {
            tokens.insert(id.as_u64().unwrap(), (text.clone(), TokenType::Normal));
        }
        for added in self.tokenizer["added_tokens"].as_array().unwrap() {
            let ty = if added["special"] == true { TokenType::Control } else { TokenType::UserDefined };
            tokens.insert(added["id"].as_u64().unwrap(), (added["content"].as_str().unwrap().to_owned(), ty));
        }
        let merges = self.tokenizer["model"]["merges"].as_array().unwrap().iter();
        let merges = merges.map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
        TokenizerParts {
            model: ModelParts::ByteLevelBpe { pre: Some(self.pre.clone()), merges: merges.collect() },
            tokens: tokens.values().map(|(text, _)| text).collect(),
            types: tokens.values().map(|(_, ty)| *ty).collect(),
            ..TokenizerParts::default()
        }
    }
}

#[derive(Deserialize)]
struct Spm {
    tokens: Vec<String>,
    scores: Vec<f32>,
    types: Vec<i64>,
    add_space_prefix: bool,
    ids: Vec<Vec<u32>>,
    decoded: Vec<String>,
}

impl Spm {
    fn parts(&self) -> TokenizerParts {
        TokenizerParts {
            model: ModelParts::SentencePiece {
                scores: self.scores.clone(),
                add_space_prefix: Some(self.add_space_prefix),
            },
            // Converters write the spaces of user-defined pieces as spaces.
            tokens: self
                .tokens
                .iter()
                .zip(&self.types)
                .map(|(text, &ty)| if ty == 4 { text.replace('▁', " ") } else { text.clone() })
                .collect::<StringArray>(),
            types: self.types.iter().map(|&ty| TokenType::from_id(ty).unwrap()).collect(),
            roles: RoleIds { unk: Some(0), bos: Some(1), eos: Some(2), ..RoleIds::default() },
            ..TokenizerParts::default()
        }
    }
}

fn assert_ids(tokenizer: &Tokenizer, what: &str, options: EncodeOptions, expected: &[Vec<u32>]) {
    let corpus = corpus();
    assert_eq!(corpus.len(), expected.len(), "{what}");
    for (line, expected) in corpus.iter().zip(expected) {
        assert_eq!(&tokenizer.encode(line, options).unwrap(), expected, "{what}: {line:?}");
    }
}

fn assert_byte_level(name: &str) {
    let fixture: ByteLevel = fixture(&format!("bpe-{name}.json"));
    let from_parts = Tokenizer::new(fixture.parts()).unwrap();
    assert_ids(&from_parts, name, PARSE_SPECIAL, &fixture.ids);
    let json = serde_json::to_vec(&fixture.tokenizer).unwrap();
    let from_json = Tokenizer::from_hf_json(&json).unwrap();
    assert_ids(&from_json, "tokenizer.json", PARSE_SPECIAL, &fixture.ids);
    let normalizes = !fixture.tokenizer["normalizer"].is_null();
    for tokenizer in [from_parts, from_json] {
        let tokenizer = Arc::new(tokenizer);
        for (line, ids) in corpus().iter().zip(&fixture.ids) {
            let decoded = tokenizer.decode(ids, DecodeOptions::default());
            if !normalizes {
                assert_eq!(&decoded, line, "{name}");
            }
            assert_eq!(streamed(&tokenizer, ids), decoded, "{name}");
            assert_eq!(tokenizer.encode(&decoded, PARSE_SPECIAL).unwrap(), *ids, "{name}");
        }
    }
}

fn streamed(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> String {
    let mut detokenizer = Detokenizer::new(tokenizer.clone(), DecodeOptions::default());
    let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

macro_rules! byte_level {
    ($($test:ident: $name:literal,)*) => {
        $(#[test] fn $test() { assert_byte_level($name); })*
    };
}

byte_level! {
    ids_of_gpt_2: "gpt-2",
    ids_of_olmo: "olmo",
    ids_of_smollm: "smollm",
    ids_of_command_r: "command-r",
    ids_of_llama_3: "llama-bpe",
    ids_of_phi_4: "dbrx",
    ids_of_qwen_2: "qwen2",
    ids_of_qwen_3_5: "qwen35",
    ids_of_mistral_nemo: "tekken",
    ids_of_gpt_4o: "gpt-4o",
    ids_of_deepseek_v3: "deepseek-v3",
    ids_of_deepseek_coder: "deepseek-coder",
    ids_of_falcon: "falcon",
    ids_of_bloom: "bloom",
}

#[test]
fn ids_of_sentencepiece_with_a_space_prefix() {
    assert_spm("llama");
}

#[test]
fn ids_of_sentencepiece_with_user_defined_pieces() {
    assert_spm("gemma");
}

fn assert_spm(name: &str) {
    let fixture: Spm = fixture(&format!("spm-{name}.json"));
    let tokenizer = Arc::new(Tokenizer::new(fixture.parts()).unwrap());
    for (line, expected) in corpus().iter().zip(&fixture.ids) {
        // HF finds a literal run of U+2581 before it escapes spaces, SentencePiece after; HF is followed.
        if name != "gemma" || !line.contains("▁▁") {
            assert_eq!(&tokenizer.encode(line, PLAIN).unwrap(), expected, "{name}: {line:?}");
        }
    }
    for (ids, expected) in fixture.ids.iter().zip(&fixture.decoded) {
        assert_eq!(&tokenizer.decode(ids, DecodeOptions::default()), expected, "{name}");
        assert_eq!(&streamed(&tokenizer, ids), expected, "{name}");
    }
}
