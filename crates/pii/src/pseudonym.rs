//! Pseudonyms: tokens in the place of what was found, and the map back.
//!
//! A token is `<EMAIL_ADDRESS_1>`: the type in capitals, a number, angle brackets. Models copy such marks unchanged, since their training text has them as
//! placeholders; the type keeps the sentence's sense, the number says what is the same, and nobody takes one for real data, as could
//! happen with an invented address. Equal texts of a type get the same token, numbers go up in the order of first appearance: the same
//! conversation has the same tokens at its next turn, so an upstream's prompt cache goes on working.
//!
//! A text may already have what looks like a token. It gets a token of its own (`<TEXT_1>`), like anything that has to come back
//! unchanged: so every token in what leaves is one of ours, whatever was in the text and in whichever order texts come.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::anonymise::{Anonymised, Anonymiser, Item};
use crate::error::OperatorError;
use crate::finding::Finding;
use crate::operator::Operator;

/// What a literal token is taken for.
const LITERAL: &str = "TEXT";
/// Most characters of a type in a token.
const MAX_ENTITY: usize = 40;
/// Most bytes between the brackets of a token.
pub(crate) const MAX_BODY: usize = MAX_ENTITY + 12;

/// What one request remembers of its replacements. It must not serve another: what one user's text was would come out in another's answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pseudonyms {
    tokens: HashMap<(String, String), String>,
    originals: BTreeMap<String, String>,
    counts: HashMap<String, usize>,
}

/// Never shows what was replaced.
impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.originals.keys()).finish()
    }
}

/// By token; this is the secret itself.
impl Serialize for Pseudonyms {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(&self.originals)
    }
}

/// From tokens and what they stand for, as they were serialised.
impl<'de> Deserialize<'de> for Pseudonyms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut read = Self::new();
        for (token, original) in BTreeMap::<String, String>::deserialize(deserializer)? {
            let whole = literals(&token, 0).next() == Some(0..token.len());
            let parts = token.trim_matches(['<', '>']).rsplit_once('_').filter(|_| whole);
            let Some((entity, count)) = parts.and_then(|(entity, count)| Some((entity, count.parse::<usize>().ok()?)))
            else {
                let wrong = format!("'{token}' is no token such as <EMAIL_ADDRESS_1>");
                return Err(D::Error::custom(wrong));
            };
            let most = read.counts.entry(entity.to_owned()).or_default();
            *most = count.max(*most);
            read.tokens.insert((entity.to_owned(), original.clone()), token.clone());
            read.originals.insert(token, original);
        }
        Ok(read)
    }
}

impl Pseudonyms {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.originals.len()
    }

    /// Whether nothing was replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.originals.is_empty()
    }

    /// The text that a token stands for.
    #[must_use]
    pub fn original(&self, token: &str) -> Option<&str> {
        self.originals.get(token).map(String::as_str)
    }

    /// Whether some token begins so and is longer.
    pub(crate) fn any_begins(&self, start: &str) -> bool {
        let next =
            self.originals.range::<str, _>((std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded)).next();
        next.is_some_and(|(token, _)| token.starts_with(start))
    }

    /// The token of a text, a new one if it has none.
    pub fn token(&mut self, entity: &str, original: &str) -> String {
        let entity = name(entity);
        let key = (entity, original.to_owned());
        if let Some(token) = self.tokens.get(&key) {
            return token.clone();
        }
        let count = self.counts.entry(key.0.clone()).or_default();
        *count += 1;
        let token = format!("<{}_{count}>", key.0);
        self.originals.insert(token.clone(), key.1.clone());
        self.tokens.insert(key, token.clone());
        token
    }

    /// The text with a token for each finding.
    ///
    /// # Errors
    /// If a finding is not of this text.
    pub fn pseudonymise(&mut self, text: &str, findings: &[Finding]) -> Result<String, OperatorError> {
        Ok(Anonymiser::all(Operator::Pseudonymise).apply(text, findings, self)?.text)
    }

    /// Gives every token in the text that is not at the place of an item a token of its own.
    pub(crate) fn protect(&mut self, anonymised: Anonymised) -> Anonymised {
        let Anonymised { text, items } = anonymised;
        if !text.contains('<') {
            return Anonymised { text, items };
        }
        let mut out = String::with_capacity(text.len());
        let mut moved: Vec<Item> = Vec::with_capacity(items.len());
        let mut items = items.into_iter().peekable();
        let mut at = 0;
        loop {
            let literal = literals(&text, at).find(|literal| {
                // Those of ours are known by their places.
                while let Some(item) = items.next_if(|item| item.range.end <= literal.start) {
                    moved.push(shift(item, at, out.len()));
                }
                !items.peek().is_some_and(|item| item.operator == "pseudonymise" && item.range == *literal)
            });
            let Some(literal) = literal else { break };
            out.push_str(&text[at..literal.start]);
            while let Some(item) = items.next_if(|item| item.range.start < literal.end) {
                // A literal that was put together from an item and its surroundings.
                moved.push(Item { range: out.len()..out.len(), ..item });
            }
            out.push_str(&self.token(LITERAL, &text[literal.clone()]));
            at = literal.end;
        }
        let offset = out.len();
        moved.extend(items.map(|item| shift(item, at, offset)));
        out.push_str(&text[at..]);
        Anonymised { text: out, items: moved }
    }
}

/// An item of a text from `from` on, when that stands at `to`.
fn shift(item: Item, from: usize, to: usize) -> Item {
    let range = item.range.start - from + to..item.range.end - from + to;
    Item { range, ..item }
}

/// A type as it stands in tokens.
fn name(entity: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = entity.chars().take(MAX_ENTITY).map(clean).collect();
    if name.starts_with(|c: char| c.is_ascii_uppercase()) { name } else { format!("X{name}") }
}

/// Whether a byte may stand between a token's brackets.
pub(crate) fn is_body(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}

/// Whatever has the form of a token, from `at` on.
fn literals(text: &str, at: usize) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    text.get(at..).unwrap_or_default().match_indices('<').filter_map(move |(open, _)| {
        let start = at + open;
        let body = text.as_bytes().get(start + 1..)?;
        let len = body.iter().take(MAX_BODY + 1).take_while(|byte| is_body(**byte)).count();
        let numbered = body.get(..len)?.rsplit(|byte| *byte == b'_').next()?;
        let token = len <= MAX_BODY && body.get(len) == Some(&b'>') && numbered.len() < len && !numbered.is_empty();
        (token && numbered.iter().all(u8::is_ascii_digit)).then_some(start..start + len + 2)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Detectors, Options, Place, Restorer};

    fn restored(pseudonyms: &Pseudonyms, text: &str) -> String {
        Restorer::whole(pseudonyms, Place::Text, text)
    }

    fn detect(text: &str) -> Vec<Finding> {
        Detectors::default().detect(text, &Options::default()).unwrap()
    }

    #[test]
    fn equal_texts_get_equal_tokens_in_the_order_they_come() {
        let mut map = Pseudonyms::new();
        let text = "a@example.org, b@example.org, a@example.org, 203.0.113.7";
        let hidden = map.pseudonymise(text, &detect(text)).unwrap();
        assert_eq!(hidden, "<EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_2>, <EMAIL_ADDRESS_1>, <IP_ADDRESS_1>");
        let next = "b@example.org";
        assert_eq!(map.pseudonymise(next, &detect(next)).unwrap(), "<EMAIL_ADDRESS_2>");
        assert_eq!((map.len(), restored(&map, &hidden)), (3, text.to_owned()));
        assert!(!format!("{map:?}").contains("example.org"));
    }

    #[test]
    fn a_token_that_was_there_before_is_not_taken_for_ours() {
        let mut map = Pseudonyms::new();
        let first = "Write <EMAIL_ADDRESS_1> for a@example.org, <TEXT_1> too.";
        let hidden = map.pseudonymise(first, &detect(first)).unwrap();
        assert_eq!(hidden, "Write <TEXT_1> for <EMAIL_ADDRESS_1>, <TEXT_2> too.");
        assert_eq!(restored(&map, &hidden), first);
        // A number that is only given later was in an earlier text.
        let (early, late) = ("see <EMAIL_ADDRESS_2>", "b@example.org");
        let early_hidden = map.pseudonymise(early, &detect(early)).unwrap();
        assert_eq!(map.pseudonymise(late, &detect(late)).unwrap(), "<EMAIL_ADDRESS_2>");
        assert_eq!(restored(&map, &early_hidden), early);
    }

    #[test]
    fn names_of_any_detector_make_tokens() {
        let mut map = Pseudonyms::new();
        let tokens = ["person name", "person-name", "", "1st", &"é".repeat(99)].map(|entity| map.token(entity, "x"));
        assert_eq!(tokens[..4], ["<PERSON_NAME_1>", "<PERSON_NAME_1>", "<X_1>", "<X1ST_1>"]);
        for token in &tokens {
            assert!(literals(token, 0).eq(std::iter::once(0..token.len())), "{token}");
        }
    }

    #[test]
    fn a_stored_map_goes_on_where_it_was() {
        let mut map = Pseudonyms::new();
        (0..12).for_each(|i| drop(map.token("A_B", &format!("{i}"))));
        let mut read: Pseudonyms = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
        assert_eq!(read, map);
        assert_eq!((read.token("A_B", "7"), read.token("A_B", "new")), ("<A_B_8>".to_owned(), "<A_B_13>".to_owned()));
        for wrong in [r#"{"<A>": "x"}"#, r#"{"A_1": "x"}"#, r#"{"<A_1> ": "x"}"#, r#"{"<a_1>": "x"}"#] {
            assert!(serde_json::from_str::<Pseudonyms>(wrong).unwrap_err().to_string().contains("no token"), "{wrong}");
        }
    }

    /// Texts of pieces that are findings, tokens, parts of tokens, and others.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        let piece = prop_oneof![
            Just("a@example.org ".to_owned()),
            Just("+49 30 901820 ".to_owned()),
            Just("<EMAIL_ADDRESS_1>".to_owned()),
            Just("<TEXT_2>".to_owned()),
            Just("<PHONE_".to_owned()),
            Just("NUMBER_1>".to_owned()),
            "[<>A-Z_0-9é\\\\ ]{0,6}",
        ];
        let text = proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
        proptest::collection::vec(text, 1..4)
    }

    proptest! {
        #[test]
        fn restoring_undoes_pseudonyms(texts in texts()) {
            let mut map = Pseudonyms::new();
            let hidden: Vec<_> = texts.iter().map(|text| map.pseudonymise(text, &detect(text)).unwrap()).collect();
            for (text, hidden) in texts.iter().zip(&hidden) {
                prop_assert_eq!(&restored(&map, hidden), text);
                prop_assert!(!hidden.contains("a@example.org"));
                prop_assert!(literals(hidden, 0).all(|token| map.original(&hidden[token]).is_some()));
            }
        }
    }
}
