//! Tokenizers from arbitrary descriptions, encoding arbitrary texts and decoding arbitrary ids: a typed error or an
//! answer, and a stream that is the same as decoding at once.
#![no_main]

use std::sync::Arc;

use arbitrary::Arbitrary;
use bantam_formats::tokenizer::{ControlStrip, ModelParts, RoleIds, TokenType, TokenizerParts};
use bantam_formats::{DecodeOptions, Detokenizer, EncodeOptions, Tokenizer};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    model: Model<'a>,
    /// Begin with the 256 tokens that the model needs, so that the rest is reached.
    with_bytes: bool,
    tokens: Vec<(&'a str, u8)>,
    roles: [Option<u16>; 4],
    add_bos: Option<bool>,
    add_eos: Option<bool>,
    strip: u8,
    text: &'a str,
    parse_special: bool,
    ids: Vec<u16>,
    skip_special: bool,
    continuation: bool,
}

#[derive(Debug, Arbitrary)]
enum Model<'a> {
    Bpe { pre: u8, merges: Vec<Merge<'a>> },
    Spm { scores: Vec<f32>, matching: bool, add_space_prefix: Option<bool> },
    Json(&'a [u8]),
}

#[derive(Debug, Arbitrary)]
enum Merge<'a> {
    /// Two tokens by id; their join is added to the vocabulary.
    Of(u16, u16),
    Text(&'a str),
}

const PRE: [&str; 8] = ["default", "gpt-2", "llama-bpe", "qwen2", "tekken", "deepseek-llm", "bloom", "unknown"];

fn byte_chars() -> impl Iterator<Item = char> {
    let mut other = 0x100..0x200;
    (0..=255_u8).filter_map(move |byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => Some(char::from(byte)),
        _ => other.next().and_then(char::from_u32),
    })
}

fn tokenizer(input: &Input) -> Option<Tokenizer> {
    let mut tokens: Vec<String> = Vec::new();
    if input.with_bytes {
        match &input.model {
            Model::Bpe { .. } => tokens.extend(byte_chars().map(String::from)),
            Model::Spm { .. } => tokens.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>"))),
            Model::Json(_) => {}
        }
    }
    let mut types = vec![if matches!(input.model, Model::Spm { .. }) { TokenType::Byte } else { TokenType::Normal }; tokens.len()];
    for (text, ty) in &input.tokens {
        if !tokens.iter().any(|token| token == text) {
            tokens.push((*text).to_owned());
            types.push(TokenType::from_id(i64::from(ty % 7)).unwrap_or_default());
        }
    }
    let model = match &input.model {
        Model::Json(json) => return Tokenizer::from_hf_json(json).ok(),
        Model::Bpe { pre, merges } => {
            let mut lines = Vec::new();
            for merge in merges {
                match merge {
                    Merge::Text(text) => lines.push((*text).to_owned()),
                    Merge::Of(left, right) if !tokens.is_empty() => {
                        let half = |id: &u16| tokens[usize::from(*id) % tokens.len()].clone();
                        let (left, right) = (half(left), half(right));
                        lines.push(format!("{left} {right}"));
                        let whole = left + &right;
                        if !tokens.contains(&whole) && whole.len() < 64 {
                            tokens.push(whole);
                            types.push(TokenType::Normal);
                        }
                    }
                    Merge::Of(..) => {}
                }
            }
            ModelParts::ByteLevelBpe {
                pre: Some(PRE[usize::from(*pre) % PRE.len()].to_owned()),
                merges: lines.iter().collect(),
            }
        }
        Model::Spm { scores, matching, add_space_prefix } => {
            let mut scores = scores.clone();
            if *matching {
                scores.resize(tokens.len(), -1.0);
            }
            ModelParts::SentencePiece { scores, add_space_prefix: *add_space_prefix }
        }
    };
    let role = |at: usize| input.roles[at].map(u32::from);
    Tokenizer::new(TokenizerParts {
        model,
        tokens: tokens.iter().collect(),
        types,
        roles: RoleIds { bos: role(0), eos: role(1), eot: role(2), unk: role(3), ..RoleIds::default() },
        add_bos: input.add_bos,
        add_eos: input.add_eos,
        control_strip: [ControlStrip::Keep, ControlStrip::After, ControlStrip::Around][usize::from(input.strip % 3)],
    })
    .ok()
}

fuzz_target!(|input: Input| {
    let Some(tokenizer) = tokenizer(&input) else { return };
    let tokenizer = Arc::new(tokenizer);
    let options = EncodeOptions { add_special: true, parse_special: input.parse_special };
    let Ok(encoded) = tokenizer.encode(input.text, options) else { return };
    assert!(encoded.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
    let arbitrary: Vec<u32> = input.ids.iter().map(|&id| u32::from(id)).collect();
    for ids in [encoded, arbitrary] {
        let options = DecodeOptions { skip_special: input.skip_special, continuation: input.continuation };
        let mut detokenizer = Detokenizer::new(Arc::clone(&tokenizer), options);
        let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
        text.push_str(&detokenizer.finish());
        assert_eq!(text, tokenizer.decode(&ids, options));
    }
});
