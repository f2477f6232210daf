//! Where the values of an object's fields stand in its text.

use std::collections::HashMap;
use std::ops::Range;

/// The bytes of each top-level field's value in the text of a JSON object. What is no object has none.
#[must_use]
pub(crate) fn value_spans(text: &str) -> HashMap<String, Range<usize>> {
    let bytes = text.as_bytes();
    let mut spans = HashMap::new();
    let mut at = skip(bytes, 0, b" \t\r\n");
    if bytes.get(at) != Some(&b'{') {
        return spans;
    }
    at += 1;
    loop {
        at = skip(bytes, at, b" \t\r\n,");
        let Some(key_end) = string_end(bytes, at) else { return spans };
        let key = text.get(at..key_end).and_then(|key| serde_json::from_str::<String>(key).ok());
        at = skip(bytes, key_end, b" \t\r\n:");
        let end = value_end(bytes, at);
        if let Some(key) = key {
            spans.insert(key, at..end);
        }
        at = end;
    }
}

fn skip(bytes: &[u8], mut at: usize, what: &[u8]) -> usize {
    while bytes.get(at).is_some_and(|byte| what.contains(byte)) {
        at += 1;
    }
    at
}

/// One past the closing quote of a string that begins here.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut i = at + 1;
    loop {
        match bytes.get(i)? {
            b'\\' => i += 2,
            b'"' => return Some(i + 1),
            _ => i += 1,
        }
    }
}

/// One past a value that begins here.
fn value_end(bytes: &[u8], at: usize) -> usize {
    if let Some(end) = string_end(bytes, at) {
        return end;
    }
    let (mut i, mut depth) = (at, 0usize);
    while let Some(byte) = bytes.get(i) {
        match byte {
            b'"' => {
                i = string_end(bytes, i).unwrap_or(bytes.len());
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return i,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            b',' | b' ' | b'\n' | b'\t' | b'\r' if depth == 0 => return i,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_and_nothing_breaks_on_what_is_no_object() {
        let text = r#" {"a": 1.5, "b\"x": "y, \"z\" }", "c":[1,{"d":"]"}],"e":{"f":[]} , "g":null}"#;
        let spans = value_spans(text);
        let value = |key: &str| &text[spans[key].clone()];
        assert_eq!((value("a"), value("b\"x"), value("c")), ("1.5", r#""y, \"z\" }""#, r#"[1,{"d":"]"}]"#));
        assert_eq!((value("e"), value("g"), spans.len()), (r#"{"f":[]}"#, "null", 5));
        for end in 0..text.len() {
            assert!(value_spans(&text[..end]).len() <= 5);
        }
        for odd in ["", "[]", "{", "{\"a\"", "{\"a\":", "{\"a\":}", "nope", "{,,,}", "{\"a\\", "{}"] {
            assert!(value_spans(odd).values().all(|span| span.end <= odd.len()), "{odd}");
        }
    }
}
