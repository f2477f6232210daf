//! Putting the originals back, in texts that come in pieces.

use std::borrow::Borrow;

use serde_json::Value;

use crate::pseudonym::{MAX_BODY, Pseudonyms, is_body};

/// What kind of text tokens stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Text that is read as it is.
    Text,
    /// JSON, such as a tool's arguments: originals are escaped as in a JSON string, and a token's brackets may be (`\u003c`, `\u003e`).
    Json,
}

/// Restores a stream. What may become a token is held back, 63 bytes at most; all else goes out at once.
/// `M` is a reference to the map, or shares it (`Arc<Pseudonyms>`).
#[derive(Debug, Clone)]
pub struct Restorer<M> {
    pseudonyms: M,
    place: Place,
    held: String,
}

/// What begins at a place.
enum Begins<'a> {
    /// A token of so many bytes, and its original.
    Token(usize, &'a str),
    /// More must come to tell.
    Perhaps,
    /// So many bytes that are none.
    Other(usize),
}

/// How far a text goes along with a fixed one.
enum Prefix {
    Whole(usize),
    Part,
    Not,
}

impl<M: Borrow<Pseudonyms>> Restorer<M> {
    /// Restores the tokens of one map.
    #[must_use]
    pub fn new(pseudonyms: M, place: Place) -> Self {
        Self { pseudonyms, place, held: String::new() }
    }

    /// Restores a whole text.
    #[must_use]
    pub fn whole(pseudonyms: M, place: Place, text: &str) -> String {
        let mut restorer = Self::new(pseudonyms, place);
        let mut out = restorer.push(text);
        out.push_str(&restorer.finish());
        out
    }

    /// The next piece of the stream in, what can be told by now out.
    pub fn push(&mut self, piece: &str) -> String {
        let held = std::mem::take(&mut self.held);
        let joined;
        let text = if held.is_empty() {
            piece
        } else {
            joined = held + piece;
            &joined
        };
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        loop {
            let json = self.place == Place::Json;
            let Some(at) = rest.bytes().position(|byte| byte == b'<' || (json && byte == b'\\')) else {
                out.push_str(rest);
                return out;
            };
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            match self.begins(rest) {
                Begins::Perhaps => {
                    rest.clone_into(&mut self.held);
                    return out;
                }
                Begins::Token(len, original) => {
                    match self.place {
                        Place::Text => out.push_str(original),
                        Place::Json => {
                            let quoted = Value::from(original).to_string();
                            out.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
                        }
                    }
                    rest = &rest[len..];
                }
                Begins::Other(len) => {
                    out.push_str(&rest[..len]);
                    rest = &rest[len..];
                }
            }
        }
    }

    /// The stream has ended: what was held back is no token.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// `text` begins with `<` or `\`.
    fn begins(&self, text: &str) -> Begins<'_> {
        let pseudonyms: &Pseudonyms = self.pseudonyms.borrow();
        let bytes = text.as_bytes();
        let open = match self.bracket(bytes, b'<') {
            Prefix::Whole(len) => len,
            Prefix::Part => return Begins::Perhaps,
            // A backslash and what it escapes: the second of two backslashes begins nothing.
            Prefix::Not if bytes.starts_with(b"\\") => {
                return Begins::Other(1 + text[1..].chars().next().map_or(0, char::len_utf8));
            }
            Prefix::Not => return Begins::Other(1),
        };
        let rest = &bytes[open..];
        let body = rest.iter().take(MAX_BODY + 1).take_while(|byte| is_body(**byte)).count();
        let token = format!("<{}>", &text[open..open + body]);
        let original = pseudonyms.original(&token);
        match (self.bracket(&rest[body..], b'>'), original) {
            (Prefix::Whole(close), Some(original)) => Begins::Token(open + body + close, original),
            (Prefix::Part, _) if rest.len() == body && pseudonyms.any_begins(&token[..token.len() - 1]) => {
                Begins::Perhaps
            }
            (Prefix::Part, Some(_)) if rest.len() > body => Begins::Perhaps,
            // Past the first character nothing has been looked at: a bracket may follow.
            _ => Begins::Other(open),
        }
    }

    /// Whether `bytes` begin with a bracket, in one of the forms it has in this place.
    fn bracket(&self, bytes: &[u8], bracket: u8) -> Prefix {
        if bytes.first() == Some(&bracket) {
            return Prefix::Whole(1);
        }
        if bytes.is_empty() {
            return Prefix::Part;
        }
        if self.place == Place::Text {
            return Prefix::Not;
        }
        let escaped = format!("\\u{bracket:04x}");
        // Hex digits may be capitals, the `u` may not.
        let same = bytes
            .iter()
            .zip(escaped.bytes())
            .enumerate()
            .all(|(i, (a, b))| if i < 2 { *a == b } else { a.eq_ignore_ascii_case(&b) });
        match (same, bytes.len() >= escaped.len()) {
            (true, true) => Prefix::Whole(escaped.len()),
            (true, false) => Prefix::Part,
            (false, _) => Prefix::Not,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn map() -> Pseudonyms {
        let mut map = Pseudonyms::new();
        map.token("EMAIL_ADDRESS", "a@example.org");
        map.token("EMAIL_ADDRESS", "say \"<EMAIL_ADDRESS_1>\"\n");
        (0..9).for_each(|i| drop(map.token("EMAIL_ADDRESS", &format!("é{i}"))));
        map.token("E", "e");
        map
    }

    fn whole(place: Place, text: &str) -> String {
        Restorer::whole(map(), place, text)
    }

    #[test]
    fn tokens_are_restored_once_and_others_stay() {
        let text = "<EMAIL_ADDRESS_1>, <EMAIL_ADDRESS_10><EMAIL_ADDRESS_99> <<E_1> <E_ <E_1 > <e_1> \\u003cE_1> <EMAIL_ADDRESS_2>";
        let expected =
            "a@example.org, é7<EMAIL_ADDRESS_99> <e <E_ <E_1 > <e_1> \\u003cE_1> say \"<EMAIL_ADDRESS_1>\"\n";
        assert_eq!(whole(Place::Text, text), expected);
    }

    #[test]
    fn in_json_originals_are_escaped_and_brackets_may_be() {
        for (json, value) in [
            (r#"["<EMAIL_ADDRESS_2>"]"#, "say \"<EMAIL_ADDRESS_1>\"\n"),
            (r#"["\u003cEMAIL_ADDRESS_1\u003E"]"#, "a@example.org"),
            (r#"["<E_1\u003e"]"#, "e"),
            (r#"["\\u003cE_1\\u003e"]"#, "\\u003cE_1\\u003e"),
            (r#"["\\<E_1>\""]"#, "\\e\""),
            (r#"["\u003d\u003cE_1\u003d"]"#, "=<E_1="),
            (r#"["\\\u003cE_1>"]"#, "\\e"),
        ] {
            let restored: Vec<String> = serde_json::from_str(&whole(Place::Json, json)).unwrap();
            assert_eq!(restored, [value], "{json}");
        }
    }

    #[test]
    fn nothing_is_held_but_what_may_become_a_token() {
        let mut restorer = Restorer::new(Arc::new(map()), Place::Text);
        for (piece, out) in [
            ("Hello <", "Hello "),
            ("E", ""),
            ("MAIL", ""),
            ("S>", "<EMAILS>"),
            ("a <X", "a <X"),
            ("<E_1", ""),
            ("> b", "e b"),
            ("<E", ""),
        ] {
            assert_eq!(restorer.push(piece), out, "{piece}");
        }
        assert_eq!((restorer.finish(), restorer.finish()), ("<E".to_owned(), String::new()));
        let mut empty = Restorer::new(Arc::new(Pseudonyms::new()), Place::Text);
        assert_eq!(empty.push("a <EMAIL_ADDRESS_1"), "a <EMAIL_ADDRESS_1");
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("<EMAIL_ADDRESS_1>"),
            Just("<EMAIL_ADDRESS_10>"),
            Just("<EMAIL_ADDRESS_2>"),
            Just("<E_1>"),
            Just("<"),
            Just(">"),
            Just("\\"),
            Just("\\u003c"),
            Just("\\u003C"),
            Just("\\u003e"),
            Just("E_1"),
            Just("EMAIL"),
            Just("_"),
            Just("é"),
            Just("\"u0"),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_stream_is_restored_as_the_whole_wherever_it_is_split(text in pieces(), cuts in proptest::collection::vec(0_usize..60, 0..8)) {
            let map = map();
            for place in [Place::Text, Place::Json] {
                let mut restorer = Restorer::new(&map, place);
                let mut cuts: Vec<usize> = cuts.iter().map(|&cut| crate::check::boundary(&text, cut)).collect();
                cuts.extend([0, text.len()]);
                cuts.sort_unstable();
                let mut out = String::new();
                for cut in cuts.windows(2) {
                    out.push_str(&restorer.push(&text[cut[0]..cut[1]]));
                    prop_assert!(restorer.held.len() <= MAX_BODY + 12);
                }
                out.push_str(&restorer.finish());
                prop_assert_eq!(out, Restorer::whole(&map, place, &text));
            }
        }
    }
}
