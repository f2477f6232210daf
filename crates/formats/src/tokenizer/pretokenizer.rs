//! Splitting text into the words that byte-level BPE merges within.
//!
//! Each family trained with its own splitting rule, and a model that sees words split otherwise than in training answers
//! worse without any other sign. So the rule is looked up by the name in `tokenizer.ggml.pre`, and an unknown name is
//! refused. The rules are those of the families' own `tokenizer.json` files.
//!
//! The rules are regular expressions with one exception, a look-ahead: `\s+(?!\S)|\s+` leaves the last space of a run
//! to the word that follows. A backtracking engine runs into its limits on a long run of spaces, so the look-ahead is
//! done by hand and the rest by an engine of linear time.

use regex_automata::meta::{Config, Regex};
use regex_automata::{Anchored, Input, PatternID};

use super::error::TokenizerError;

/// How a family splits, by the names that GGUF files give it.
pub(super) struct Recipe {
    names: &'static [&'static str],
    steps: &'static [Step<'static>],
    /// Text is brought to Unicode normalization form C first.
    pub(super) nfc: bool,
    /// A word that is a token as a whole is that token, even where merging would not lead to it.
    pub(super) whole_words: bool,
    /// Whether text begins with BOS when the file does not say.
    pub(super) add_bos: bool,
}

/// One pass over the pieces that the pass before left.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'a> {
    /// Every match is a piece of its own, and so is what lies between two matches.
    Isolate(&'a str),
    /// The same with the two alternatives `\s+(?!\S)|\s+` after those given.
    Words(&'a str),
}

const GPT2: Step<'static> = Step::Words(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
const DIGIT: Step<'static> = Step::Isolate(r"\p{N}");
const UP_TO_3_DIGITS: Step<'static> = Step::Isolate(r"\p{N}{1,3}");
const NEWLINE: Step<'static> = Step::Isolate(r"[\r\n]");
const CJK_OR_HANGUL: Step<'static> = Step::Isolate(r"[\u{4e00}-\u{9fa5}\u{800}-\u{4e00}\u{ac00}-\u{d7ff}]+");
const HAN_OR_KANA: Step<'static> = Step::Isolate(r"[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+");
const LLAMA3: Step<'static> = Step::Words(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const QWEN2: Step<'static> =
    Step::Words(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+");
const QWEN35: Step<'static> = Step::Words(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const TEKKEN: Step<'static> = Step::Words(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
));
const GPT4O: Step<'static> = Step::Words(concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
));
const DEEPSEEK3: Step<'static> = Step::Words(concat!(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+",
));
/// The cased letters as DeepSeek LLM lists them.
const DEEPSEEK_LLM_WORD: &str = concat!(
    r"\s?[",
    r"A-Za-z\u{b5}\u{c0}-\u{d6}\u{d8}-\u{f6}\u{f8}-\u{1ba}\u{1bc}-\u{1bf}\u{1c4}-\u{293}\u{295}-\u{2af}",
    r"\u{370}-\u{373}\u{376}\u{377}\u{37b}-\u{37d}\u{37f}\u{386}\u{388}-\u{38a}\u{38c}\u{38e}-\u{3a1}",
    r"\u{3a3}-\u{3f5}\u{3f7}-\u{481}\u{48a}-\u{52f}\u{531}-\u{556}\u{10a0}-\u{10c5}\u{13a0}-\u{13f5}",
    r"\u{13f8}-\u{13fd}\u{1c90}-\u{1cba}\u{1cbd}-\u{1cbf}\u{1d00}-\u{1d2b}\u{1d6b}-\u{1d77}",
    r"\u{1d79}-\u{1d9a}\u{1e00}-\u{1f15}\u{1f18}-\u{1f1d}\u{1f20}-\u{1f45}\u{1f48}-\u{1f4d}",
    r"\u{1f50}-\u{1f57}\u{1f59}\u{1f5b}\u{1f5d}\u{1f5f}-\u{1f7d}\u{1f80}-\u{1fb4}\u{1fb6}-\u{1fbc}\u{1fbe}",
    r"\u{1fc2}-\u{1fc4}\u{1fc6}-\u{1fcc}\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}\u{1fe0}-\u{1fec}",
    r"\u{1ff2}-\u{1ff4}\u{1ff6}-\u{1ffc}\u{2102}\u{2107}\u{210a}-\u{2113}\u{2115}\u{2119}-\u{211d}\u{2124}",
    r"\u{2126}\u{2128}\u{212a}-\u{212d}\u{212f}-\u{2134}\u{2139}\u{213c}-\u{213f}\u{2145}-\u{2149}\u{214e}",
    r"\u{2183}\u{2184}\u{2c00}-\u{2c7b}\u{2c7e}-\u{2ce4}\u{2ceb}-\u{2cee}\u{2cf2}\u{2cf3}\u{a640}-\u{a66d}",
    r"\u{a680}-\u{a69b}\u{a722}-\u{a76f}\u{a771}-\u{a787}\u{a78b}-\u{a78e}\u{ab70}-\u{abbf}",
    r"\u{fb00}-\u{fb06}\u{fb13}-\u{fb17}\u{ff21}-\u{ff3a}\u{ff41}-\u{ff5a}\u{10400}-\u{1044f}",
    r"\u{104b0}-\u{104d3}\u{104d8}-\u{104fb}\u{10c80}-\u{10cb2}\u{10cc0}-\u{10cf2}\u{118a0}-\u{118df}",
    r"\u{1e900}-\u{1e943}",
    r"]+"
);
const SENTENCE_WORD: Step<'static> =
    Step::Isolate(r" ?[^(\s|.,!?\u{2026}\u{3002}\u{ff0c}\u{3001}\u{964}\u{6d4}\u{60c})]+");

const PLAIN: Recipe = Recipe { names: &[], steps: &[], nfc: false, whole_words: false, add_bos: false };

/// All splitting rules. The first is for files that name none.
pub(super) const RECIPES: &[Recipe] = &[
    Recipe {
        names: &["default"],
        steps: &[
            Step::Isolate(r"[\p{P}\$\+<=>\^~\|]+"),
            GPT2,
            Step::Isolate(r"\p{N}+"),
            Step::Isolate("[0-9][0-9][0-9]"),
        ],
        ..PLAIN
    },
    Recipe {
        names: &["falcon"],
        steps: &[Step::Isolate(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2, Step::Isolate("[0-9][0-9][0-9]")],
        ..PLAIN
    },
    Recipe {
        names: &["gpt-2", "phi-2", "exaone4", "gigachat", "granite-docling", "jais", "mellum", "trillion"],
        steps: &[GPT2],
        ..PLAIN
    },
    Recipe { names: &["mpt", "olmo"], steps: &[GPT2], nfc: true, ..PLAIN },
    Recipe {
        names: &["smollm", "starcoder", "refact", "codeshell", "exaone", "mellum2", "minerva-7b"],
        steps: &[DIGIT, GPT2],
        ..PLAIN
    },
    Recipe { names: &["command-r"], steps: &[DIGIT, GPT2], nfc: true, ..PLAIN },
    Recipe {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "midm-2.0", "pixtral"],
        steps: &[LLAMA3],
        whole_words: true,
        add_bos: true,
        ..PLAIN
    },
    Recipe { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], steps: &[LLAMA3], ..PLAIN },
    Recipe { names: &["glm4"], steps: &[LLAMA3], whole_words: true, ..PLAIN },
    Recipe { names: &["qwen2", "megrez"], steps: &[QWEN2], nfc: true, ..PLAIN },
    Recipe { names: &["deepseek-r1-qwen", "stablelm2", "hunyuan", "solar-open", "grok-2"], steps: &[QWEN2], ..PLAIN },
    Recipe { names: &["qwen35"], steps: &[QWEN35], nfc: true, ..PLAIN },
    Recipe { names: &["tekken"], steps: &[TEKKEN], whole_words: true, add_bos: true, ..PLAIN },
    Recipe { names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"], steps: &[GPT4O], ..PLAIN },
    Recipe {
        names: &["deepseek-llm"],
        steps: &[
            NEWLINE,
            Step::Isolate(DEEPSEEK_LLM_WORD),
            Step::Isolate(r"\s?[!-/:-~\u{ff01}-\u{ff0f}\u{ff1a}-\u{ff5e}\u{2018}-\u{201f}\u{3000}-\u{3002}]+"),
            Step::Isolate(r"\s+$"),
            CJK_OR_HANGUL,
            Step::Isolate(r"\p{N}+"),
        ],
        ..PLAIN
    },
    Recipe {
        names: &["deepseek-coder"],
        steps: &[NEWLINE, Step::Isolate(r"\s?\p{L}+"), Step::Isolate(r"\s?\p{P}+"), CJK_OR_HANGUL, DIGIT],
        ..PLAIN
    },
    Recipe {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        steps: &[UP_TO_3_DIGITS, HAN_OR_KANA, DEEPSEEK3],
        ..PLAIN
    },
    Recipe { names: &["bloom", "poro-chat", "gpt3-finnish"], steps: &[SENTENCE_WORD], ..PLAIN },
    Recipe { names: &["viking"], steps: &[SENTENCE_WORD, DIGIT], ..PLAIN },
];

impl Recipe {
    /// The recipe of this name.
    pub(super) fn named(pre: &str) -> Result<&'static Recipe, TokenizerError> {
        RECIPES.iter().find(|recipe| recipe.names.contains(&pre)).ok_or_else(|| TokenizerError::UnknownPreTokenizer {
            pre: pre.to_owned(),
            known: RECIPES.iter().flat_map(|recipe| recipe.names).copied().collect(),
        })
    }

    /// The recipe of files that name none.
    pub(super) fn unnamed() -> &'static Recipe {
        &RECIPES[0]
    }

    /// Its passes, ready to run.
    pub(super) fn compile(&self) -> Result<PreTokenizer, TokenizerError> {
        PreTokenizer::new(self.steps.iter().copied())
    }
}

/// A splitting rule ready to run.
#[derive(Debug, Clone)]
pub(super) struct PreTokenizer {
    steps: Vec<Compiled>,
}

#[derive(Debug, Clone)]
struct Compiled {
    regex: Regex,
    /// The pattern that matches runs of spaces, of which all but the last belong to the match.
    spaces: Option<PatternID>,
}

/// Room for the automaton's states: the classes of letters over all of Unicode have many, and an automaton that does
/// not fit is built again and again.
const AUTOMATON_BYTES: usize = 8 << 20;

impl PreTokenizer {
    /// Compiles the passes, to be run in this order.
    pub(super) fn new<'a>(steps: impl IntoIterator<Item = Step<'a>>) -> Result<PreTokenizer, TokenizerError> {
        let config = Config::new().hybrid_cache_capacity(AUTOMATON_BYTES);
        let compile = |pattern: &str, spaces: Option<&str>| {
            Regex::builder()
                .configure(config.clone())
                .build_many(&[Some(pattern), spaces].into_iter().flatten().collect::<Vec<_>>())
                .map(|regex| Compiled { regex, spaces: spaces.map(|_| PatternID::must(1)) })
                .map_err(|error| TokenizerError::BadPattern { pattern: pattern.to_owned(), reason: error.to_string() })
        };
        let steps = steps.into_iter().map(|step| match step {
            Step::Isolate(pattern) => compile(pattern, None),
            Step::Words(pattern) => compile(pattern, Some(r"\s+")),
        });
        Ok(PreTokenizer { steps: steps.collect::<Result<_, _>>()? })
    }

    /// Calls `word` with every piece of `text`, in order. The pieces together are the text.
    pub(super) fn split<'t>(&self, text: &'t str, word: &mut dyn FnMut(&'t str)) {
        split(&self.steps, text, word);
    }
}

fn split<'t>(steps: &[Compiled], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    if text.is_empty() {
        return;
    }
    let Some((step, rest)) = steps.split_first() else {
        word(text);
        return;
    };
    let mut done = 0;
    let mut from = 0;
    while let Some((start, end)) = step.find(text, from) {
        // A match of nothing splits nothing.
        if start == end {
            let Some(c) = text.get(end..).and_then(|rest| rest.chars().next()) else { break };
            from = end + c.len_utf8();
            continue;
        }
        split(rest, text.get(done..start).unwrap_or_default(), word);
        split(rest, text.get(start..end).unwrap_or_default(), word);
        done = end;
        from = end;
    }
    split(rest, text.get(done..).unwrap_or_default(), word);
}

impl Compiled {
    /// The first match at or after `from`.
    fn find(&self, text: &str, from: usize) -> Option<(usize, usize)> {
        let input = Input::new(text).span(from..text.len());
        // A rule for words matches nearly everywhere, and looking only here saves a second pass to find the start.
        let here = match self.spaces {
            Some(_) => self.regex.search(&input.clone().anchored(Anchored::Yes)),
            None => None,
        };
        let found = here.or_else(|| self.regex.search(&input))?;
        let mut end = found.end();
        if self.spaces == Some(found.pattern()) && end < text.len() {
            let run = text.get(found.range()).unwrap_or_default();
            let last = run.chars().next_back().map_or(0, char::len_utf8);
            if run.len() > last {
                end -= last;
            }
        }
        Some((found.start(), end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static COMPILED: LazyLock<Vec<PreTokenizer>> =
        LazyLock::new(|| RECIPES.iter().map(|recipe| recipe.compile().unwrap()).collect());

    fn words<'t>(pre: &str, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        Recipe::named(pre).unwrap().compile().unwrap().split(text, &mut |word| words.push(word));
        words
    }

    #[test]
    fn the_last_space_of_a_run_goes_to_the_word_after_it() {
        assert_eq!(words("gpt-2", "a   b"), ["a", "  ", " b"]);
        assert_eq!(words("gpt-2", "a   "), ["a", "   "]);
        assert_eq!(words("gpt-2", "a\n\nb"), ["a", "\n", "\n", "b"]);
        assert_eq!(words("llama-bpe", "a \n\n  b"), ["a", " \n\n", " ", " b"]);
        assert_eq!(words("llama-bpe", "\u{a0}\u{a0}\u{a0}x"), ["\u{a0}\u{a0}", "\u{a0}x"]);
    }

    #[test]
    fn families_split_digits_and_contractions_their_own_way() {
        assert_eq!(words("llama-bpe", "I'LL pay 12345"), ["I", "'LL", " pay", " ", "123", "45"]);
        assert_eq!(words("qwen2", "x 123"), ["x", " ", "1", "2", "3"]);
        assert_eq!(words("smollm", "I'LL x12"), ["I", "'", "LL", " x", "1", "2"]);
        assert_eq!(words("gpt-4o", "it's OpenAPI v2"), ["it's", " Open", "API", " v", "2"]);
        assert_eq!(words("tekken", "it's OpenAPI"), ["it", "'s", " Open", "API"]);
        assert_eq!(words("default", "a 12345"), ["a", " ", "123", "45"]);
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = Recipe::named("qwen9").err().unwrap();
        assert!(error.to_string().contains("`qwen9`") && error.to_string().contains("llama-bpe"), "{error}");
    }

    #[test]
    fn names_are_unique_and_all_recipes_compile() {
        let mut seen = std::collections::HashSet::new();
        for recipe in RECIPES {
            recipe.compile().unwrap();
            assert!(!recipe.names.is_empty());
            for name in recipe.names {
                assert!(seen.insert(*name), "{name} twice");
            }
        }
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_text(text in r"(\PC|[ \t\r\n]|\p{M}|'[a-z]|[0-9]){0,40}") {
            for pre in COMPILED.iter() {
                let mut joined = String::new();
                pre.split(&text, &mut |word| {
                    assert!(!word.is_empty());
                    joined.push_str(word);
                });
                prop_assert_eq!(&joined, &text);
            }
        }
    }
}
