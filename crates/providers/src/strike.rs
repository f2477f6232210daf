//! Striking secrets out of what servers say: some quote the key or the header they do not like.

/// What stands in a secret's place.
const STRUCK: &str = "[struck out]";

/// Characters of a secret from which it is recognised, so that one that is quoted in part is struck out as well.
const RECOGNISED: usize = 8;

/// Least characters of what looks like a key.
const LEAST: usize = 8;

/// Whether a header or a parameter of this name holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["key", "token", "secret", "auth", "cookie", "sig"].iter().any(|word| name.contains(word))
}

/// The text without these secrets, and without what looks like a key: `Bearer ...`, `sk-...`.
pub(crate) fn strike<'a>(secrets: impl Iterator<Item = &'a str>, text: &str) -> String {
    let mut struck = text.to_owned();
    for secret in secrets.filter(|secret| !secret.is_empty()) {
        let shared =
            |rest: &str| secret.chars().zip(rest.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        struck = match secret.char_indices().nth(RECOGNISED) {
            Some((end, _)) => {
                words(&struck, Where::Anywhere, |rest| rest.starts_with(&secret[..end]).then(|| shared(rest)))
            }
            // A short one is as likely a part of another word.
            None => words(&struck, Where::AtWords, |rest| (rest[..word(rest)] == *secret).then_some(secret.len())),
        };
    }
    let key = |rest: &str| (rest.starts_with("sk-") && word(rest) >= LEAST).then_some(0);
    bearer(&words(&struck, Where::AtWords, key))
}

/// Where a secret may begin.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Anywhere,
    AtWords,
}

/// Bytes of the word at the beginning of a text, in the sense of keys.
fn word(text: &str) -> usize {
    let inside = |c: char| c.is_alphanumeric() || "-_.~+/=*…".contains(c);
    text.find(|c| !inside(c)).unwrap_or(text.len())
}

/// Strikes out what begins where `found` says, which tells how much of it is known, and the rest of its last word.
fn words(text: &str, at: Where, found: impl Fn(&str) -> Option<usize>) -> String {
    let (mut out, mut rest, mut before) = (String::with_capacity(text.len()), text, None::<char>);
    while let Some(next) = rest.chars().next() {
        let begins = at == Where::Anywhere || before.is_none_or(|c| !c.is_alphanumeric());
        match found(rest).filter(|_| begins) {
            Some(known) => {
                out.push_str(STRUCK);
                rest = &rest[known..];
                rest = &rest[word(rest)..];
                before = None;
            }
            None => {
                out.push(next);
                rest = &rest[next.len_utf8()..];
                before = Some(next);
            }
        }
    }
    out
}

/// Strikes out what follows the word `Bearer`.
fn bearer(text: &str) -> String {
    const SCHEME: &str = "bearer";
    let lower = text.to_ascii_lowercase();
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    while let Some(at) = lower[from..].find(SCHEME) {
        let scheme = from + at + SCHEME.len();
        let gap = lower[scheme..].find(|c: char| !c.is_whitespace() && !":'\"`\\".contains(c));
        let token = gap.map_or(lower.len(), |gap| scheme + gap);
        let end = token + word(&lower[token..]);
        out.push_str(&text[from..token]);
        if token > scheme && end - token >= LEAST {
            out.push_str(STRUCK);
        } else {
            out.push_str(&text[token..end]);
        }
        from = end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_struck_out_whole_and_in_part() {
        let strike = |text: &str| strike(["sk-upstream-1234567890", "x7", "ключ-ключ-ключ"].into_iter(), text);
        for (said, left) in [
            (
                "Incorrect API key provided: Bearer sk-upstream-1234567890.",
                "Incorrect API key provided: Bearer [struck out]",
            ),
            (
                "header 'authorization: Bearer abcdefgh12345' is bad",
                "header 'authorization: Bearer [struck out]' is bad",
            ),
            ("key sk-upstr****7890 is bad", "key [struck out] is bad"),
            ("another's sk-proj-abcdefgh, too", "another's [struck out], too"),
            ("key=x7 but not x70", "key=[struck out] but not x70"),
            ("ключ-ключ-ключ!", "[struck out]!"),
            ("BEARER \"QWERTYUIOP\"", "BEARER \"[struck out]\""),
            ("the desk-lamp of a bearer is ask-able: sk-x", "the desk-lamp of a bearer is ask-able: sk-x"),
            ("", ""),
        ] {
            assert_eq!(strike(said), left);
        }
    }

    #[test]
    fn names_that_hold_secrets() {
        assert!(["x-api-key", "Authorization", "key", "sig"].iter().all(|name| is_secret(name)));
        assert!(!["anthropic-version", "api-version", "http-referer"].iter().any(|name| is_secret(name)));
    }
}
