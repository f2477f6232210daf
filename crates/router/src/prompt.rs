//! What a router sees of a request.

use std::borrow::Cow;

use bantam_types::openai::{Content, Message};

/// Characters of a conversation that are looked at; of more, the beginning and the end.
const MAX_CHARS: usize = 16_000;
/// Characters per token that are enough for any text an encoder reads in full.
const CHARS_PER_TOKEN: usize = 8;
/// How many numbers describe the structure. A router is of one version of them.
pub const FEATURES: usize = 38;
/// Which definition of the features this is.
pub const FEATURES_VERSION: u32 = 1;

/// A request as far as it can tell how difficult it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked<'a> {
    /// What the user says last: the first and the last part of it if it is long.
    pub text: Cow<'a, str>,
    /// Characters of system messages.
    pub system_chars: usize,
    /// Messages of users and assistants.
    pub turns: usize,
    /// Tools the model may call.
    pub tools: usize,
    /// Characters of the schema that the answer must follow; 0 without one.
    pub schema_chars: usize,
}

impl<'a> Asked<'a> {
    /// One prompt and nothing else.
    #[must_use]
    pub fn prompt(text: &'a str) -> Self {
        Self { text: both_ends(text, MAX_CHARS), turns: 1, ..Self::default() }
    }

    /// A conversation. Its last user message is the prompt; without one, its last message is.
    #[must_use]
    pub fn messages(messages: &'a [Message]) -> Self {
        let last = messages.iter().rfind(|message| message.role == "user").or(messages.last());
        let is_system = |message: &&Message| matches!(message.role.as_str(), "system" | "developer");
        let chars = |message: &Message| text_of(message, usize::MAX).map_or(0, |text| text.len());
        Self {
            text: last.and_then(|message| text_of(message, MAX_CHARS)).unwrap_or_default(),
            system_chars: messages.iter().filter(is_system).map(chars).sum(),
            turns: messages.iter().filter(|message| !is_system(message)).count(),
            tools: 0,
            schema_chars: 0,
        }
    }

    /// The same, with a text of its own.
    #[must_use]
    pub fn into_owned(self) -> Asked<'static> {
        Asked { text: Cow::Owned(self.text.into_owned()), ..self }
    }

    /// What the encoder is to read for a router of so many tokens: the prompt, or the first two thirds and the last third of
    /// what can matter if it is longer. Never empty.
    #[must_use]
    pub fn what_to_embed(&self, tokens: usize) -> String {
        let text = both_ends(&self.text, tokens.saturating_mul(CHARS_PER_TOKEN)).into_owned();
        if text.trim().is_empty() { ".".to_owned() } else { text }
    }

    /// Cheap structure.
    #[must_use]
    pub fn structure(&self) -> Structure {
        Structure::of(self)
    }
}

fn text_of(message: &Message, most: usize) -> Option<Cow<'_, str>> {
    match message.content.as_ref()? {
        Content::Text(text) => Some(both_ends(text, most)),
        Content::Parts(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.text.as_deref()).collect();
            Some(Cow::Owned(both_ends(&texts.join("\n"), most).into_owned()))
        }
    }
}

/// At most `most` bytes of whole characters: two thirds from the beginning, one from the end.
fn both_ends(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let (head, tail) = (most * 2 / 3, most / 3);
    let head = (0..=head).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let tail = (text.len() - tail..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    Cow::Owned(format!("{}\n{}", &text[..head], &text[tail..]))
}

/// Numbers that say how a prompt is built, without a model. Lengths are logarithms, so that doubling a text is a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Structure(pub [f32; FEATURES]);

/// What the features are called, in order.
pub const NAMES: [&str; FEATURES] = [
    "length",
    "words",
    "question length",
    "question words",
    "share of digits",
    "digits",
    "numbers",
    "share of letters",
    "share of capitals",
    "question marks",
    "code characters",
    "share beyond ASCII",
    "lines",
    "mean choice length",
    "longest choice",
    "spread of choices",
    "choices with digits",
    "negation",
    "which of the following",
    "statements",
    "blanks",
    "all or none of them",
    "word length",
    "distinct words",
    "percent signs",
    "dollar signs",
    "slashes",
    "commas",
    "rates",
    "comparisons",
    "conditions",
    "full stops",
    "turns",
    "system length",
    "tools",
    "schema length",
    "code blocks",
    "English function words",
];

impl Structure {
    #[allow(clippy::cast_possible_truncation)]
    fn of(asked: &Asked<'_>) -> Self {
        let text = &*asked.text;
        let low = text.to_ascii_lowercase();
        let chars = text.chars().count().max(1) as f64;
        let count = |wanted: fn(char) -> bool| text.chars().filter(|c| wanted(*c)).count() as f64;
        let found = |what: &str| low.matches(what).count() as f64;
        let has = |what: &[&str]| f64::from(u8::from(what.iter().any(|what| low.contains(what))));
        let words: Vec<&str> = low.split_whitespace().collect();
        let n_words = words.len().max(1) as f64;
        let distinct = words.iter().collect::<std::collections::HashSet<_>>().len() as f64;
        let function = words.iter().filter(|word| FUNCTION_WORDS.contains(word)).count() as f64;
        let question = question(text);
        let choices = choices(text);
        let lengths: Vec<f64> = choices.iter().map(|choice| choice.chars().count() as f64).collect();
        let n_choices = lengths.len().max(1) as f64;
        let mean = lengths.iter().sum::<f64>() / n_choices;
        let spread = (lengths.iter().map(|length| (length - mean).powi(2)).sum::<f64>() / n_choices).sqrt();
        let with_digits = choices.iter().filter(|choice| choice.contains(|c: char| c.is_ascii_digit())).count() as f64;
        let ln = |x: f64| libm::log1p(x);
        let digits = count(|c| c.is_numeric());
        let features = [
            ln(chars),
            ln(words.len() as f64),
            ln(question.chars().count() as f64),
            ln(question.split_whitespace().count() as f64),
            digits / chars,
            ln(digits),
            numbers(text).sqrt(),
            count(char::is_alphabetic) / chars,
            count(char::is_uppercase) / chars,
            found("?"),
            count(|c| "{};=<>\\".contains(c)).sqrt(),
            count(|c| !c.is_ascii()) / chars,
            ln(text.split('\n').count() as f64),
            ln(mean),
            ln(lengths.iter().copied().fold(0.0, f64::max)),
            ln(spread),
            with_digits / n_choices,
            has(&[" not ", " except"]),
            has(&["which of the following"]),
            has(&["statement"]),
            has(&["___", "_ "]),
            has(&["all of the", "none of"]),
            (chars - text.chars().filter(|c| c.is_whitespace()).count() as f64) / n_words,
            distinct / n_words,
            found("%"),
            found("$"),
            found("/"),
            found(","),
            found(" each") + found(" per "),
            found(" more ") + found(" less ") + found("times"),
            found("if "),
            found("."),
            ln(asked.turns as f64),
            ln(asked.system_chars as f64),
            ln(asked.tools as f64),
            ln(asked.schema_chars as f64),
            found("```"),
            function / n_words,
        ];
        Self(features.map(|x| x as f32))
    }
}

const FUNCTION_WORDS: [&str; 12] = ["the", "of", "and", "to", "a", "in", "is", "that", "for", "it", "with", "as"];

/// What stands before the first line that begins like a choice.
fn question(text: &str) -> &str {
    text.find("\nA. ").map_or(text, |end| &text[..end])
}

/// What stands behind `A. ` to `H. ` at the beginnings of lines.
fn choices(text: &str) -> Vec<&str> {
    let choice = |line: &'_ str| {
        let begins = line.as_bytes().first().is_some_and(|letter| (b'A'..=b'H').contains(letter));
        begins && line[1..].starts_with(". ")
    };
    text.split('\n').filter(|line| choice(line)).map(|line| &line[3..]).collect()
}

/// Runs of digits, with a decimal part or without.
fn numbers(text: &str) -> f64 {
    let (mut count, mut inside, mut dot) = (0.0, false, false);
    for c in text.chars() {
        match c {
            '0'..='9' if inside => dot = false,
            '0'..='9' => {
                (inside, dot) = (true, false);
                count += 1.0;
            }
            '.' if inside && !dot => dot = true,
            _ => inside = false,
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(structure: &Structure, name: &str) -> f32 {
        structure.0[NAMES.iter().position(|found| *found == name).unwrap()]
    }

    #[test]
    fn structure_counts_what_its_names_say() {
        let text = "If 3 cats eat 2.5 kg per day, how much? Not all.\nA. 7 kg\nB. none of them\nC. x\nAnswer:";
        let structure = Asked::prompt(text).structure();
        assert_eq!(value(&structure, "numbers"), 3.0_f32.sqrt());
        assert_eq!(value(&structure, "choices with digits"), 1.0 / 3.0);
        assert_eq!(value(&structure, "question marks"), 1.0);
        assert_eq!(value(&structure, "rates"), 1.0);
        assert_eq!(value(&structure, "conditions"), 1.0);
        assert_eq!(value(&structure, "all or none of them"), 1.0);
        assert_eq!(value(&structure, "longest choice"), libm::log1p(12.0) as f32);
        assert_eq!(value(&structure, "question words"), libm::log1p(12.0) as f32);
        assert_eq!(NAMES.iter().collect::<std::collections::HashSet<_>>().len(), FEATURES);
    }

    #[test]
    fn the_last_user_message_is_the_prompt() {
        let message = |role: &str, text: &str| Message {
            role: role.into(),
            content: Some(Content::Text(text.into())),
            ..Message::default()
        };
        let messages = [
            message("system", "Be kind."),
            message("user", "old"),
            message("assistant", "yes"),
            message("user", "new"),
        ];
        let asked = Asked::messages(&messages);
        assert_eq!((&*asked.text, asked.system_chars, asked.turns), ("new", 8, 3));
        assert_eq!(&*Asked::messages(&messages[..1]).text, "Be kind.");
        assert_eq!(Asked::messages(&[]).what_to_embed(64), ".");
    }

    proptest! {
        #[test]
        fn any_text_gives_finite_numbers_and_bounded_parts(text in "\\PC{0,400}", tokens in 1_usize..40) {
            let asked = Asked::prompt(&text);
            prop_assert!(asked.structure().0.iter().all(|x| x.is_finite()));
            let part = asked.what_to_embed(tokens);
            prop_assert!(!part.is_empty() && part.len() <= tokens * CHARS_PER_TOKEN + 1);
            prop_assert!(text.len() > tokens * CHARS_PER_TOKEN || part == text || text.trim().is_empty());
        }
    }

    #[test]
    fn long_prompts_keep_both_ends() {
        let text = format!("begin {} end?", "é".repeat(MAX_CHARS));
        let asked = Asked::prompt(&text);
        assert!(asked.text.len() <= MAX_CHARS + 1 && asked.text.starts_with("begin") && asked.text.ends_with("end?"));
    }
}
