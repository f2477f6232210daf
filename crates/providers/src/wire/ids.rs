//! Ids of answers, which say by their beginning what they are of.

/// An answer's id in another API: `chatcmpl-x`, `msg_x` and `resp_x` are one. Without an id of the server's, `fallback`
/// is its middle.
pub(super) fn answer(prefix: &str, given: Option<&str>, fallback: &str) -> String {
    format!("{prefix}{}", stem(given, fallback))
}

/// What the id of an answer is without the beginning that names its API.
pub(super) fn stem<'a>(given: Option<&'a str>, fallback: &'a str) -> &'a str {
    let given = given.filter(|id| !id.is_empty()).unwrap_or(fallback);
    ["chatcmpl-", "msg_", "resp_"].iter().find_map(|p| given.strip_prefix(p)).unwrap_or(given)
}

/// The id of a call to which the server gave none.
pub(super) fn call(stem: &str, index: usize) -> String {
    format!("call_{stem}_{index}")
}
