//! What a tokenizer does beside giving the right ids: special tokens, BOS, end of generation, streaming, long texts, and
//! descriptions that lie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::sync::{Arc, LazyLock};

use bantam_formats::gguf::{Array, Gguf, GgufWriter, StringArray, Value};
use bantam_formats::tokenizer::{ControlStrip, ModelParts, RoleIds, TokenType, TokenizerParts};
use bantam_formats::{DecodeOptions, Detokenizer, EncodeOptions, Tokenizer, TokenizerError};
use proptest::prelude::*;

const TEMPLATE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };
const USER_TEXT: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// The characters that stand for bytes, in byte order.
fn byte_chars() -> impl Iterator<Item = char> {
    let mut other = 0x100..;
    (0..=255_u8).map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => char::from_u32(other.next().unwrap()).unwrap(),
    })
}

/// 256 bytes, the merges given, and control tokens.
fn byte_level(pre: &str, merges: &[&str]) -> TokenizerParts {
    let mut tokens: Vec<String> = byte_chars().map(String::from).collect();
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let mut types = vec![TokenType::Normal; tokens.len()];
    for control in ["<|bos|>", "<|im_end|>", "<|im_start|>"] {
        tokens.push(control.to_owned());
        types.push(TokenType::Control);
    }
    let bos = tokens.iter().position(|token| token == "<|bos|>").map(|id| id as u32);
    TokenizerParts {
        model: ModelParts::ByteLevelBpe { pre: Some(pre.to_owned()), merges: merges.iter().collect() },
        tokens: tokens.iter().collect(),
        types,
        roles: RoleIds { bos, ..RoleIds::default() },
        add_bos: Some(true),
        ..TokenizerParts::default()
    }
}

/// `<unk> <s> </s>`, 256 byte tokens, and pieces with their scores.
fn sentencepiece(pieces: &[(&str, f32)]) -> TokenizerParts {
    let bytes = (0..=255_u8).map(|byte| (format!("<0x{byte:02X}>"), 0.0, TokenType::Byte));
    let control = [("<unk>", TokenType::Unknown), ("<s>", TokenType::Control), ("</s>", TokenType::Control)];
    let control = control.into_iter().map(|(text, ty)| (text.to_owned(), 0.0, ty));
    let pieces = pieces.iter().map(|&(text, score)| (text.to_owned(), score, TokenType::Normal));
    let all: Vec<(String, f32, TokenType)> = control.chain(bytes).chain(pieces).collect();
    TokenizerParts {
        model: ModelParts::SentencePiece {
            scores: all.iter().map(|(_, score, _)| *score).collect(),
            add_space_prefix: None,
        },
        tokens: all.iter().map(|(text, _, _)| text).collect(),
        types: all.iter().map(|(_, _, ty)| *ty).collect(),
        ..TokenizerParts::default()
    }
}

const PIECES: &[(&str, f32)] =
    &[("▁", -1.0), ("a", -2.0), ("b", -3.0), ("▁a", -4.0), ("ab", -5.0), ("▁ab", -6.0), ("é", -7.0), ("▁▁", -8.0)];

static BPE: LazyLock<Arc<Tokenizer>> =
    LazyLock::new(|| Arc::new(Tokenizer::new(byte_level("llama-bpe", &["a b", "ab ab", "Ġ ab", "Ã ©"])).unwrap()));
static SPM: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| Arc::new(Tokenizer::new(sentencepiece(PIECES)).unwrap()));

fn strs(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| tokenizer.token_str(id).unwrap().to_owned()).collect()
}

#[test]
fn control_tokens_are_found_only_where_they_are_parsed() {
    let text = "ab<|im_end|>";
    assert_eq!(strs(&BPE, &BPE.encode(text, TEMPLATE).unwrap()), ["<|bos|>", "ab", "<|im_end|>"]);
    let plain = BPE.encode(text, USER_TEXT).unwrap();
    assert!(plain.iter().all(|&id| !BPE.is_special(id)));
    assert_eq!(BPE.decode(&plain, DecodeOptions::default()), text);
}

#[test]
fn bos_is_not_doubled() {
    let once = BPE.encode("ab", TEMPLATE).unwrap();
    assert_eq!(BPE.encode("<|bos|>ab", TEMPLATE).unwrap(), once);
    assert!(BPE.starts_with_bos(&once) && !BPE.starts_with_bos(&once[1..]));
    assert_eq!(BPE.encode("", TEMPLATE).unwrap(), [BPE.bos().unwrap()]);
    let both = EncodeOptions { add_special: true, parse_special: false };
    assert_eq!(strs(&SPM, &SPM.encode("a", both).unwrap()), ["<s>", "▁a"]);
}

#[test]
fn eos_is_added_where_the_file_says_so() {
    let parts = TokenizerParts { add_eos: Some(true), ..sentencepiece(PIECES) };
    let tokenizer = Tokenizer::new(parts).unwrap();
    assert_eq!(strs(&tokenizer, &tokenizer.encode("a", TEMPLATE).unwrap()), ["<s>", "▁a", "</s>"]);
}

#[test]
fn tokens_that_end_a_generation_are_control_tokens() {
    assert_eq!(BPE.eog(), [BPE.id_of("<|im_end|>").unwrap()]);
    assert_eq!(SPM.eog(), [SPM.id_of("</s>").unwrap()]);
    // An HTML tag of the vocabulary ends nothing.
    let mut parts = sentencepiece(PIECES);
    parts.types[2] = TokenType::UserDefined;
    assert_eq!(Tokenizer::new(parts).unwrap().eog(), [0_u32; 0]);
    let mut tokenizer = Tokenizer::new(sentencepiece(PIECES)).unwrap();
    tokenizer.add_eog(&[1, 2, 100_000]);
    assert_eq!(tokenizer.eog(), [1, 2]);
    assert!(tokenizer.is_eog(1) && !tokenizer.is_eog(0));
}

#[test]
fn white_space_around_control_tokens_is_swallowed_where_the_family_does() {
    let parts = TokenizerParts { control_strip: ControlStrip::Around, ..byte_level("dbrx", &["a b"]) };
    let tokenizer = Tokenizer::new(parts).unwrap();
    let ids = tokenizer.encode("ab \n<|im_end|>\n\n ab", TEMPLATE).unwrap();
    assert_eq!(strs(&tokenizer, &ids), ["<|bos|>", "ab", "<|im_end|>", "ab"]);
    let parts = TokenizerParts { control_strip: ControlStrip::After, ..sentencepiece(PIECES) };
    let tokenizer = Tokenizer::new(parts).unwrap();
    let ids = tokenizer.encode("<s> a </s>\n\na", TEMPLATE).unwrap();
    assert_eq!(strs(&tokenizer, &ids), ["<s>", "▁", "▁a", "▁", "</s>", "▁a"]);
}

#[test]
fn what_is_no_piece_is_spelled_in_bytes() {
    assert_eq!(strs(&SPM, &SPM.encode("aé☃", USER_TEXT).unwrap()), ["▁a", "é", "<0xE2>", "<0x98>", "<0x83>"]);
    // The text of a byte or control token is text.
    let ids = SPM.encode("<0x41><s>", USER_TEXT).unwrap();
    assert_eq!(SPM.decode(&ids, DecodeOptions::default()), "<0x41><s>");
    assert!(!ids.contains(&SPM.id_of("<0x41>").unwrap()) && !ids.contains(&1));
}

#[test]
fn without_byte_tokens_unknown_text_is_one_unknown_token() {
    let mut parts = sentencepiece(PIECES);
    parts.tokens = parts.tokens.iter().map(|text| text.replace("<0x", "<1x")).collect();
    parts.types.iter_mut().filter(|ty| **ty == TokenType::Byte).for_each(|ty| *ty = TokenType::Unused);
    let tokenizer = Tokenizer::new(parts.clone()).unwrap();
    assert_eq!(strs(&tokenizer, &tokenizer.encode("a☃☃b", USER_TEXT).unwrap()), ["▁a", "<unk>", "b"]);
    parts.types[0] = TokenType::Normal;
    assert!(matches!(Tokenizer::new(parts), Err(TokenizerError::NoFallback)));
}

#[test]
fn user_defined_runs_of_spaces_come_before_merging() {
    let mut parts = sentencepiece(PIECES);
    parts.model =
        ModelParts::SentencePiece { scores: vec![-1.0; parts.tokens.len() + 2], add_space_prefix: Some(false) };
    parts.tokens.push("   ");
    parts.tokens.push("     ");
    parts.types.extend([TokenType::UserDefined; 2]);
    let tokenizer = Tokenizer::new(parts).unwrap();
    let encode = |text: &str| strs(&tokenizer, &tokenizer.encode(text, USER_TEXT).unwrap());
    assert_eq!(encode("a   b"), ["a", "   ", "b"]);
    assert_eq!(encode("a         b"), ["a", "     ", "   ", "▁", "b"]);
    assert_eq!(encode("a ▁ab    a"), ["a", "▁▁", "ab", "   ", "▁a"]);
    assert_eq!(encode("a ▁ ab"), ["a", "   ", "ab"]);
    assert_eq!(encode("a▁▁▁ ab"), ["a", "   ", "▁ab"]);
}

#[test]
fn a_continuation_keeps_its_first_space() {
    let ids = SPM.encode("ab ab", USER_TEXT).unwrap();
    assert_eq!(SPM.decode(&ids, DecodeOptions::default()), "ab ab");
    let continuation = DecodeOptions { continuation: true, ..DecodeOptions::default() };
    assert_eq!(SPM.decode(&ids, continuation), " ab ab");
}

#[test]
fn special_tokens_are_shown_or_left_out() {
    let ids = BPE.encode("<|im_start|>ab<|im_end|>", TEMPLATE).unwrap();
    assert_eq!(BPE.decode(&ids, DecodeOptions::default()), "<|bos|><|im_start|>ab<|im_end|>");
    let skip = DecodeOptions { skip_special: true, ..DecodeOptions::default() };
    assert_eq!(BPE.decode(&ids, skip), "ab");
    assert_eq!(BPE.decode(&[u32::MAX, ids[2], 100_000], skip), "ab");
}

#[test]
fn long_texts_without_a_break_take_time_in_proportion() {
    for text in
        ["a".repeat(1 << 18), "ab".repeat(1 << 17), " ".repeat(1 << 18), "é".repeat(1 << 17), "☃ ".repeat(1 << 16)]
    {
        for tokenizer in [&BPE, &SPM] {
            let ids = tokenizer.encode(&text, USER_TEXT).unwrap();
            assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()), text);
        }
    }
}

#[test]
fn ids_of_equal_pairs_merge_from_the_left() {
    assert_eq!(strs(&BPE, &BPE.encode("ababab", USER_TEXT).unwrap()), ["abab", "ab"]);
    let tokenizer = Tokenizer::new(sentencepiece(&[("▁", -1.0), ("a", -1.0), ("aa", -2.0)])).unwrap();
    assert_eq!(strs(&tokenizer, &tokenizer.encode("aaa", USER_TEXT).unwrap()), ["▁", "aa", "a"]);
}

fn any_text() -> impl Strategy<Value = String> {
    r"(\PC|[ab ]|[ \t\r\n]|\p{M}|<\|im_end\|>|</s>|▁|[0-9]|\x00){0,60}"
}

fn any_ids() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![8 => 0..270_u32, 1 => any::<u32>()], 0..60)
}

proptest! {
    #[test]
    fn decoding_gives_back_the_text(text in any_text()) {
        for tokenizer in [&BPE, &SPM] {
            for options in [USER_TEXT, EncodeOptions { parse_special: true, ..USER_TEXT }] {
                // U+2581 is how SentencePiece writes a space; a space is what it comes back as. After a control token
                // a prefix is inserted as well.
                let ids = tokenizer.encode(&text, options).unwrap();
                let expected = if Arc::ptr_eq(tokenizer, &SPM) { text.replace('▁', " ") } else { text.clone() };
                if Arc::ptr_eq(tokenizer, &BPE) || !options.parse_special || !text.contains("</s>") {
                    prop_assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()), expected);
                }
            }
        }
    }

    #[test]
    fn streaming_equals_decoding_at_once(ids in any_ids(), skip_special: bool, continuation: bool) {
        let options = DecodeOptions { skip_special, continuation };
        for tokenizer in [&BPE, &SPM] {
            let mut detokenizer = Detokenizer::new(Arc::clone(tokenizer), options);
            let mut text = String::new();
            for &id in &ids {
                text.push_str(&detokenizer.push(id));
            }
            text.push_str(&detokenizer.finish());
            prop_assert_eq!(text, tokenizer.decode(&ids, options));
        }
    }
}

fn refused(parts: TokenizerParts) -> TokenizerError {
    Tokenizer::new(parts).unwrap_err()
}

#[test]
fn lying_descriptions_are_refused() {
    let bpe = || byte_level("gpt-2", &["a b"]);
    let with_merges = |merges: &[&str]| {
        let model = ModelParts::ByteLevelBpe { pre: None, merges: merges.iter().collect() };
        refused(TokenizerParts { model, ..bpe() })
    };
    assert!(matches!(refused(TokenizerParts::default()), TokenizerError::EmptyVocabulary));
    assert!(matches!(with_merges(&["ab"]), TokenizerError::MalformedMerge { index: 0, .. }));
    assert!(matches!(with_merges(&["a b", "a "]), TokenizerError::MalformedMerge { index: 1, .. }));
    assert!(matches!(with_merges(&[""]), TokenizerError::MalformedMerge { .. }));
    assert!(matches!(with_merges(&["a zzz"]), TokenizerError::MergeOfUnknownToken { token, .. } if token == "zzz"));
    assert!(matches!(with_merges(&["a c"]), TokenizerError::MergeOfUnknownToken { token, .. } if token == "ac"));

    let mut parts = bpe();
    parts.types.pop();
    assert!(matches!(refused(parts), TokenizerError::LengthMismatch { field: "tokenizer.ggml.token_type", .. }));
    let mut parts = bpe();
    parts.tokens.push("a");
    parts.types.push(TokenType::Normal);
    assert!(matches!(refused(parts), TokenizerError::DuplicateToken { .. }));
    let mut parts = bpe();
    parts.roles.eos = Some(5000);
    assert!(matches!(refused(parts), TokenizerError::SpecialIdOutOfRange { id: 5000, .. }));
    let mut parts = bpe();
    parts.roles.bos = None;
    assert!(matches!(refused(parts), TokenizerError::MissingSpecialId { .. }));
    let mut parts = bpe();
    parts.tokens = parts.tokens.iter().map(|text| if text == "e" { "" } else { text }).collect();
    assert!(matches!(refused(parts), TokenizerError::MissingByteToken { byte: b'e' }));
    let parts = byte_level("no-such-thing", &[]);
    assert!(matches!(refused(parts), TokenizerError::UnknownPreTokenizer { pre, .. } if pre == "no-such-thing"));

    let mut parts = sentencepiece(PIECES);
    parts.model = ModelParts::SentencePiece { scores: vec![0.0], add_space_prefix: None };
    assert!(matches!(refused(parts), TokenizerError::LengthMismatch { field: "tokenizer.ggml.scores", .. }));
    let mut parts = sentencepiece(PIECES);
    parts.model = ModelParts::SentencePiece { scores: vec![f32::NAN; parts.tokens.len()], add_space_prefix: None };
    assert!(matches!(refused(parts), TokenizerError::NanScore { id: 0 }));
}

/// A file with a byte-level vocabulary, some keys of it replaced or added.
fn gguf(changes: &[(&str, Value)]) -> Gguf {
    let parts = byte_level("gpt-2", &["a b"]);
    let types = parts.types.iter().map(|&ty| ty as i32).collect();
    let keys = [
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("gpt-2".into())),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(parts.tokens))),
        ("tokenizer.ggml.merges", Value::Array(Array::String(StringArray::from_iter(["a b"])))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
    ];
    let mut writer = GgufWriter::new();
    for (key, value) in keys.iter().filter(|(key, _)| changes.iter().all(|(changed, _)| changed != key)).chain(changes)
    {
        writer.set(key, value.clone());
    }
    Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap()
}

#[test]
fn metadata_of_a_file_becomes_a_tokenizer() {
    let tokenizer = Tokenizer::from_gguf(&gguf(&[
        ("tokenizer.ggml.bos_token_id", Value::U32(257)),
        ("tokenizer.ggml.eos_token_id", Value::I32(-1)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
    ]))
    .unwrap();
    assert_eq!(strs(&tokenizer, &tokenizer.encode("ab<|im_end|>", TEMPLATE).unwrap()), ["<|bos|>", "ab", "<|im_end|>"]);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(257), None));
}

#[test]
fn metadata_that_lies_is_refused() {
    let refused = |key: &str, value: Value| Tokenizer::from_gguf(&gguf(&[(key, value)])).unwrap_err();
    let error = refused("tokenizer.ggml.model", Value::String("rwkv".into()));
    assert!(matches!(error, TokenizerError::UnknownModel { model } if model == "rwkv"));
    let error = refused("tokenizer.ggml.bos_token_id", Value::U32(9999));
    assert!(matches!(error, TokenizerError::SpecialIdOutOfRange { id: 9999, .. }));
    let error = refused("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![7])));
    assert!(matches!(error, TokenizerError::BadTokenType { id: 0, found: 7 }));
    let error = refused("tokenizer.ggml.merges", Value::U32(1));
    assert!(error.to_string().contains("tokenizer.ggml.merges"), "{error}");
    let error = refused("tokenizer.ggml.pre", Value::String("x".into()));
    assert!(error.to_string().contains("`x`"), "{error}");
}

#[test]
fn a_tokenizer_json_that_is_none_is_refused() {
    let refused = |json: &str| Tokenizer::from_hf_json(json.as_bytes()).unwrap_err().to_string();
    assert!(refused("{").contains("not valid"));
    assert!(refused(r#"{"model":{"type":"Unigram","vocab":[]}}"#).contains("Unigram"));
    assert!(
        refused(r#"{"model":{"type":"BPE","vocab":{"a":0}},"normalizer":{"type":"Lowercase"}}"#).contains("Lowercase")
    );
    assert!(refused(r#"{"model":{"type":"BPE","vocab":{"a":0,"b":0}}}"#).contains("used twice"));
    assert!(refused(r#"{"model":{"type":"BPE","vocab":{"a":4000000000}}}"#).contains("4000000000"));
    assert!(refused(r#"{"model":{"type":"BPE","vocab":{"a":-1}}}"#).contains("-1"));
    assert!(refused(r#"{"model":{"type":"BPE","vocab":{"a":0}}}"#).contains("pre_tokenizer"));
    let look_ahead = r#"{"model":{"type":"BPE","vocab":{"a":0}},"pre_tokenizer":{"type":"Sequence","pretokenizers":[
        {"type":"Split","pattern":{"Regex":"a(?=b)"},"behavior":"Isolated"},{"type":"ByteLevel","use_regex":false}]}}"#;
    assert!(refused(look_ahead).contains("a(?=b)"));
}
