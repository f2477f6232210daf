//! What was decided about a request, in words.

use serde_json::Value;

/// One reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) what: String,
    pub(super) why: String,
}

/// What is said of the names that decisions have. Others are shown as they are.
const WORDS: [(&str, &str); 10] = [
    ("policy", "Policy"),
    ("found", "Personal data found"),
    ("redacted", "Pseudonyms put in place"),
    ("detection_failed", "Looking for personal data failed"),
    ("router", "What the router expected"),
    ("route", "Choice between small and large"),
    ("confidence", "Confidence of the small model"),
    ("stand_in", "Stand-in"),
    ("unpriced", "Cost unknown"),
    ("left_out", "Not kept"),
];

/// The reasons of an entry's decision, in its order.
pub(super) fn reasons(decision: &Value) -> Vec<Reason> {
    let Value::Object(parts) = decision else { return Vec::new() };
    let reason = |(name, value): (&String, &Value)| {
        let words = WORDS.iter().find(|(known, _)| known == name).map(|(_, words)| (*words).to_owned());
        let why = match (name.as_str(), value) {
            ("unpriced", Value::Bool(true)) => {
                "the model has no price in the list: see [prices] of the configuration".to_owned()
            }
            ("found", Value::Array(types)) if types.is_empty() => "none".to_owned(),
            ("router", Value::Object(expected)) => {
                let said = expected.iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), plain(value)));
                said.collect::<Vec<_>>().join(", ")
            }
            (_, value) => plain(value),
        };
        Reason { what: words.unwrap_or_else(|| name.replace('_', " ")), why }
    };
    parts.iter().map(reason).collect()
}

/// A value without the punctuation of JSON where it has little of it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(n) => n.as_f64().filter(|_| n.is_f64()).map_or_else(|| n.to_string(), |n| format!("{n:.3}")),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_decisions_have_words_and_others_are_shown_as_they_are() {
        let decision = json!({"found": ["EMAIL_ADDRESS", "IBAN"], "confidence": 0.91234, "new_thing": {"a": 1}, "unpriced": true,
            "router": {"choose": "small", "p_small": 0.75, "gain": 0.0}});
        let said: Vec<_> = reasons(&decision).into_iter().map(|r| (r.what, r.why)).collect();
        assert_eq!(said[0], ("Personal data found".into(), "EMAIL_ADDRESS, IBAN".into()));
        assert_eq!(said[1].1, "0.912");
        assert_eq!(said[2], ("new thing".into(), "{\"a\":1}".into()));
        assert!(said[3].1.contains("[prices]"));
        assert_eq!(said[4].1, "choose small, p small 0.750, gain 0.000");
        assert_eq!(reasons(&Value::Null), Vec::new());
    }
}
