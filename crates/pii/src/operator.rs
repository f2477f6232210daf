//! What becomes of a finding.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::error::OperatorError;

/// Shortest key of a hash, in bytes: with a shorter one, trying all telephone numbers undoes it.
const MIN_KEY_BYTES: usize = 16;

/// What becomes of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "OperatorSpec")]
pub enum Operator {
    /// A text in its place; `<EMAIL_ADDRESS>` for an e-mail address unless given.
    Replace {
        /// The text.
        with: Option<String>,
    },
    /// Some of its characters, each by another.
    Mask {
        /// What stands for each.
        with: char,
        /// How many; all of them if there are fewer.
        count: usize,
        /// Counted from where.
        from: End,
    },
    /// HMAC-SHA-256 of it, in hex: equal texts stay equal, and only who has the key can try what they are.
    Hash {
        /// The key.
        key: HashKey,
    },
    /// A token that the holder of the [`crate::Pseudonyms`] can turn back.
    Pseudonymise,
    /// Nothing in its place.
    Redact,
    /// Itself.
    Keep,
}

/// An end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first character.
    Start,
    /// The last.
    End,
}

/// The key of a hash. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey(Vec<u8>);

impl HashKey {
    /// A key of 16 bytes at least.
    ///
    /// # Errors
    /// If it is shorter.
    pub fn new(key: impl Into<Vec<u8>>) -> Result<Self, OperatorError> {
        let key = key.into();
        if key.len() < MIN_KEY_BYTES {
            let why = format!(
                "has {} bytes, and {MIN_KEY_BYTES} are the least: without it hashes can be undone by trying",
                key.len()
            );
            return Err(OperatorError::field("salt", why));
        }
        Ok(Self(key))
    }

    fn hash(&self, text: &str) -> Result<String, OperatorError> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let mac = mac.map_err(|error| OperatorError::field("salt", error.to_string()))?.chain_update(text);
        Ok(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl Operator {
    /// What it is called on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Operator::Replace { .. } => "replace",
            Operator::Mask { .. } => "mask",
            Operator::Hash { .. } => "hash",
            Operator::Pseudonymise => "pseudonymise",
            Operator::Redact => "redact",
            Operator::Keep => "keep",
        }
    }

    /// The text that takes the place of `found`; nothing for a pseudonym, which more than the text decides.
    pub(crate) fn apply(&self, entity: &str, found: &str) -> Result<Option<String>, OperatorError> {
        Ok(Some(match self {
            Operator::Replace { with: Some(text) } => text.clone(),
            Operator::Replace { with: None } => format!("<{entity}>"),
            Operator::Mask { with, count, from } => {
                let chars = found.chars().count();
                let masked = (*count).min(chars);
                let kept = chars - masked;
                let mask = std::iter::repeat_n(*with, masked);
                match from {
                    End::Start => mask.chain(found.chars().skip(masked)).collect(),
                    End::End => found.chars().take(kept).chain(mask).collect(),
                }
            }
            Operator::Hash { key } => key.hash(found)?,
            Operator::Redact => String::new(),
            Operator::Keep => found.to_owned(),
            Operator::Pseudonymise => return Ok(None),
        }))
    }
}

/// An operator as Presidio's anonymiser takes it: `{"type": "mask", "masking_char": "*", "chars_to_mask": 4, "from_end": true}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperatorSpec {
    /// `replace`, `mask`, `hash`, `pseudonymise`, `redact` or `keep`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of `replace`.
    pub new_value: Option<String>,
    /// Of `mask`: one character, `*` unless given.
    pub masking_char: Option<String>,
    /// Of `mask`; all unless given.
    pub chars_to_mask: Option<i64>,
    /// Of `mask`.
    pub from_end: Option<bool>,
    /// Of `hash`: `sha256`.
    pub hash_type: Option<String>,
    /// Of `hash`: the key.
    pub salt: Option<String>,
}

impl TryFrom<OperatorSpec> for Operator {
    type Error = OperatorError;

    fn try_from(spec: OperatorSpec) -> Result<Self, OperatorError> {
        let OperatorSpec { kind, new_value, masking_char, chars_to_mask, from_end, hash_type, salt } = spec;
        let given = [
            ("new_value", new_value.is_some(), "replace"),
            ("masking_char", masking_char.is_some(), "mask"),
            ("chars_to_mask", chars_to_mask.is_some(), "mask"),
            ("from_end", from_end.is_some(), "mask"),
            ("hash_type", hash_type.is_some(), "hash"),
            ("salt", salt.is_some(), "hash"),
        ];
        if let Some((field, _, of)) = given.into_iter().find(|(_, given, of)| *given && *of != kind) {
            return Err(OperatorError::field(field, format!("belongs to the type '{of}', and the type is '{kind}'")));
        }
        match &*kind {
            "replace" => Ok(Operator::Replace { with: new_value }),
            "mask" => {
                let with = masking_char.as_deref().unwrap_or("*");
                let mut chars = with.chars();
                let (Some(with), None) = (chars.next(), chars.next()) else {
                    return Err(OperatorError::field("masking_char", format!("must be one character, is '{with}'")));
                };
                // As Presidio has it, less than nothing is nothing.
                let count = chars_to_mask.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(0));
                Ok(Operator::Mask { with, count, from: if from_end == Some(true) { End::End } else { End::Start } })
            }
            "hash" => {
                if let Some(other) = hash_type.filter(|kind| kind != "sha256") {
                    return Err(OperatorError::field("hash_type", format!("must be 'sha256', is '{other}'")));
                }
                let salt = salt.ok_or_else(|| {
                    OperatorError::field(
                        "salt",
                        "is missing; give the key, 16 bytes at least, and keep it for equal hashes",
                    )
                })?;
                Ok(Operator::Hash { key: HashKey::new(salt)? })
            }
            "pseudonymise" | "pseudonymize" => Ok(Operator::Pseudonymise),
            "redact" => Ok(Operator::Redact),
            "keep" => Ok(Operator::Keep),
            other => Err(OperatorError::field(
                "type",
                format!("must be replace, mask, hash, pseudonymise, redact or keep, is '{other}'"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(json: &str) -> Result<Operator, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    fn applied(json: &str, found: &str) -> String {
        operator(json).unwrap().apply("X", found).unwrap().unwrap()
    }

    #[test]
    fn operators_do_what_their_names_say() {
        assert_eq!(applied(r#"{"type": "replace"}"#, "a"), "<X>");
        assert_eq!(applied(r#"{"type": "replace", "new_value": "?"}"#, "a"), "?");
        assert_eq!(applied(r#"{"type": "mask"}"#, "äöü"), "***");
        assert_eq!(applied(r##"{"type": "mask", "masking_char": "#", "chars_to_mask": 2}"##, "äöü"), "##ü");
        assert_eq!(applied(r#"{"type": "mask", "chars_to_mask": 2, "from_end": true}"#, "äöü"), "ä**");
        assert_eq!(applied(r#"{"type": "mask", "chars_to_mask": -2}"#, "äöü"), "äöü");
        assert_eq!(applied(r#"{"type": "redact"}"#, "a"), "");
        assert_eq!(applied(r#"{"type": "keep"}"#, "a"), "a");
        assert_eq!(operator(r#"{"type": "pseudonymise"}"#).unwrap().apply("X", "a"), Ok(None));
    }

    /// `printf abc | openssl dgst -sha256 -hmac 0123456789abcdef`
    #[test]
    fn hashes_are_keyed() {
        let with = |salt: &str| applied(&format!(r#"{{"type": "hash", "salt": "{salt}"}}"#), "abc");
        assert_eq!(with("0123456789abcdef"), "bcaa92843247bc258080d2824bddeba4afb1bd61b4688ca65f60a214e1d9759e");
        assert_ne!(with("0123456789abcdeg"), with("0123456789abcdef"));
        let key = HashKey::new("0123456789abcdef").unwrap();
        assert_eq!(format!("{:?}", Operator::Hash { key }), "Hash { key: HashKey(..) }");
    }

    #[test]
    fn bad_parameters_are_named() {
        for (json, field) in [
            (r#"{"type": "hash"}"#, "salt"),
            (r#"{"type": "hash", "salt": "short"}"#, "salt"),
            (r#"{"type": "hash", "salt": "0123456789abcdef", "hash_type": "md5"}"#, "hash_type"),
            (r#"{"type": "mask", "masking_char": "**"}"#, "masking_char"),
            (r#"{"type": "redact", "new_value": "x"}"#, "new_value"),
            (r#"{"type": "encrypt"}"#, "type"),
            (r#"{"type": "mask", "mask_char": "x"}"#, "mask_char"),
            ("{}", "type"),
        ] {
            let error = operator(json).unwrap_err();
            assert!(error.contains(field), "{json}: {error}");
        }
    }
}
