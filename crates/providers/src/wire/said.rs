//! How much a model has said, for whoever has to estimate tokens that a server does not count.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Api;

/// Bytes of text that make a token, on average.
const BYTES_PER_TOKEN: u64 = 4;

/// What was said in an answer so far: its texts, thoughts and arguments of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    json: u64,
    text: u64,
    pieces: u64,
}

impl Said {
    /// Adds one event of a stream, as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn event(&mut self, api: Api, data: &str) -> Result<(), serde_json::Error> {
        let keys = match api {
            // Events at the end of a piece tell all of it again.
            Api::Responses => &["delta"],
            api => keys(api),
        };
        self.add(keys, data.as_bytes())
    }

    /// Adds a whole answer, as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn body(&mut self, api: Api, body: &[u8]) -> Result<(), serde_json::Error> {
        self.add(keys(api), body)
    }

    fn add(&mut self, keys: &[&str], json: &[u8]) -> Result<(), serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let bytes = Texts { keys, take: Take::Named }.deserialize(&mut reader)?;
        reader.end()?;
        self.json += json.len() as u64;
        self.text += bytes;
        self.pieces += u64::from(bytes > 0);
        Ok(())
    }

    /// Bytes of JSON: more than any count of tokens that was shown.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.json
    }

    /// An estimate of its tokens: a piece of a stream has one at least, and a text one for every four bytes.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.pieces.max(self.text.div_ceil(BYTES_PER_TOKEN))
    }
}

/// Under which keys of an answer there are texts that a model wrote.
fn keys(api: Api) -> &'static [&'static str] {
    match api {
        Api::Chat | Api::Completions => &["content", "text", "refusal", "reasoning_content", "reasoning", "arguments"],
        Api::Messages => &["text", "thinking", "partial_json", INPUT],
        Api::Responses => &["text", "refusal", "arguments"],
        Api::Embeddings => &[],
    }
}

/// Arguments of Anthropic's calls, which are no text.
const INPUT: &str = "input";

/// What tells again what stands elsewhere.
const TOLD_AGAIN: [&str; 3] = ["logprobs", "reasoning_details", "thinking_blocks"];

/// What of a value is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Take {
    /// Texts under the keys.
    Named,
    /// It, if it is a text.
    It,
    /// All in it.
    All,
}

/// Counts bytes of texts.
#[derive(Clone, Copy)]
struct Texts<'k> {
    keys: &'k [&'k str],
    take: Take,
}

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<u64, E> {
        Ok(if self.take == Take::Named { 0 } else { text.len() as u64 })
    }

    fn visit_bool<E>(self, _: bool) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_i64<E>(self, _: i64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_u64<E>(self, _: u64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_f64<E>(self, _: f64) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_unit<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u64, A::Error> {
        let take = if self.take == Take::All { Take::All } else { Take::Named };
        let mut bytes = 0;
        while let Some(found) = list.next_element_seed(Self { take, ..self })? {
            bytes += found;
        }
        Ok(bytes)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut bytes = 0;
        while let Some((named, take)) = map.next_key_seed(Key(self))? {
            bytes += named;
            match take {
                Some(take) => bytes += map.next_value_seed(Self { take, ..self })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(bytes)
    }
}

/// Looks at a key: its bytes, as far as they count, and what counts of what stands under it.
struct Key<'k>(Texts<'k>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (u64, Option<Take>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = (u64, Option<Take>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let Texts { keys, take } = self.0;
        Ok(match take {
            Take::All => (key.len() as u64, Some(Take::All)),
            _ if TOLD_AGAIN.contains(&key) => (0, None),
            _ if !keys.contains(&key) => (0, Some(Take::Named)),
            _ if key == INPUT => (0, Some(Take::All)),
            _ => (0, Some(Take::It)),
        })
    }
}
