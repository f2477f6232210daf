//! What a mock says, whichever API it is asked by.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value};

use super::Shared;
use super::behaviour::{Behaviour, MockFault};

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) id: u64,
    pub(super) model: String,
    /// Its text in tokens; empty where tools are called.
    pub(super) tokens: Vec<String>,
    pub(super) calls: Vec<ToolCall>,
    /// The answer ran into the request's limit.
    pub(super) cut_short: bool,
    pub(super) usage: Usage,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    pub(super) completion: u64,
}

#[derive(Clone, Debug)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    /// A JSON object.
    pub(super) arguments: String,
}

/// What the APIs' requests have in common.
pub(super) struct Asked<'a> {
    pub(super) model: &'a str,
    pub(super) last_user_text: String,
    /// Characters of everything the model would read.
    pub(super) prompt_chars: usize,
    pub(super) max_tokens: Option<u64>,
    /// Names and parameter schemas of the tools that may be called now.
    pub(super) tools: Vec<(&'a str, &'a Value)>,
}

const WORDS: [&str; 24] = [
    "the", "answer", "is", "a", "small", "bird", "with", "strong", "wings", "and", "it", "crows", "at", "dawn", "when",
    "light", "comes", "over", "hills", "quite", "often", "in", "two", "voices",
];

impl Script {
    pub(super) fn new(shared: &Shared, behaviour: &Behaviour, asked: &Asked<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        (shared.seed, asked.model, &asked.last_user_text).hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        let id = random.u64(..);
        let calls: Vec<ToolCall> = asked
            .tools
            .iter()
            .cycle()
            .take(calls(behaviour, asked))
            .map(|(name, schema)| {
                let arguments = sample(schema, &mut random).to_string();
                ToolCall { id: format!("call_{:016x}", random.u64(..)), name: (*name).to_owned(), arguments }
            })
            .collect();
        let mut tokens = match shared.recorded.get(&asked.last_user_text) {
            _ if !calls.is_empty() => Vec::new(),
            Some(answer) => split(answer),
            None => (0..behaviour.tokens)
                .map(|i| {
                    let word = WORDS[random.usize(..WORDS.len())];
                    if i == 0 { word.to_owned() } else { format!(" {word}") }
                })
                .collect(),
        };
        let most = asked.max_tokens.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let cut_short = tokens.len() > most;
        tokens.truncate(most);
        let of_calls: usize = calls.iter().map(|call| call.arguments.len().div_ceil(4) + 4).sum();
        let mut usage = Usage {
            prompt: asked.prompt_chars.div_ceil(4).max(1) as u64,
            completion: (tokens.len() + of_calls) as u64,
        };
        if behaviour.fault == Some(MockFault::Lie) {
            usage = Usage { prompt: 1_000_000_007, completion: 0 };
        }
        Script { id, model: asked.model.to_owned(), tokens, calls, cut_short, usage }
    }

    pub(super) fn text(&self) -> String {
        self.tokens.concat()
    }
}

/// How many tools are called.
fn calls(behaviour: &Behaviour, asked: &Asked<'_>) -> usize {
    if asked.tools.is_empty() { 0 } else { behaviour.calls as usize }
}

/// A text in words with the space before them, as tokens mostly are.
fn split(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut blank = true;
    for c in text.chars() {
        if (c.is_whitespace() && !blank) || tokens.is_empty() {
            tokens.push(String::new());
        }
        blank = c.is_whitespace();
        if let Some(last) = tokens.last_mut() {
            last.push(c);
        }
    }
    tokens
}

/// A value that fits the simple parts of a JSON schema.
fn sample(schema: &Value, random: &mut fastrand::Rng) -> Value {
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match schema["type"].as_str() {
        Some("string") => Value::from(format!("{} café", WORDS[random.usize(..WORDS.len())])),
        Some("integer") => Value::from(random.u32(1..100)),
        Some("number") => Value::from(f64::from(random.u32(1..100)) / 4.0),
        Some("boolean") => Value::from(random.bool()),
        Some("array") => Value::Array(vec![sample(&schema["items"], random)]),
        Some("object") => {
            let properties = schema["properties"].as_object();
            let fields = properties.into_iter().flatten().map(|(key, schema)| (key.clone(), sample(schema, random)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

/// The arguments of a call in pieces that end anywhere, but inside no character.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(7).map(|chunk| chunk.iter().collect()).collect()
}
