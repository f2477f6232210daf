//! Finds calls in the text of an answer, as it comes.
//!
//! The grammar has made sure of their form: `{"name": NAME, "arguments": ARGUMENTS}`, bare or between marks, with
//! spaces where they are written here and nowhere else.

/// What announces a call in an answer that may also be text.
pub(crate) const OPEN: &str = "<tool_call>\n";
/// What comes after it.
pub(crate) const CLOSE: &str = "\n</tool_call>";

const HEAD: &str = r#"{"name": ""#;
const MIDDLE: &str = r#"", "arguments": "#;

/// Where calls are in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CallStyle {
    /// There are none.
    #[default]
    None,
    /// The answer is one.
    Bare,
    /// One may end it, between [`OPEN`] and [`CLOSE`].
    Marked,
}

/// What has become certain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) content: String,
    /// A call begins.
    pub(crate) name: Option<String>,
    pub(crate) arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    Head,
    Arguments,
}

/// Reads one answer.
#[derive(Debug)]
pub(crate) struct CallReader {
    style: CallStyle,
    state: State,
    /// Text that may still become something else.
    held: String,
}

impl CallReader {
    pub(crate) fn new(style: CallStyle) -> Self {
        let state = if style == CallStyle::Bare { State::Head } else { State::Text };
        CallReader { style, state, held: String::new() }
    }

    /// What ends the arguments and is not part of them.
    fn tail(&self) -> String {
        let close = if self.style == CallStyle::Marked { CLOSE } else { "" };
        format!("}}{close}")
    }

    pub(crate) fn push(&mut self, text: &str) -> Found {
        self.held.push_str(text);
        let mut found = Found::default();
        if self.state == State::Text {
            let (end, after) = match (self.style, self.held.find(OPEN)) {
                (CallStyle::Marked, Some(at)) => (at, Some(at + OPEN.len())),
                (CallStyle::Marked, None) => (self.held.len() - overlap(&self.held, OPEN), None),
                _ => (self.held.len(), None),
            };
            found.content = self.held[..end].to_owned();
            self.held.drain(..after.unwrap_or(end));
            self.state = if after.is_some() { State::Head } else { State::Text };
        }
        if self.state == State::Head
            && let Some(at) = self.held.find(MIDDLE)
        {
            found.name = Some(self.held[..at].strip_prefix(HEAD).unwrap_or_default().to_owned());
            self.held.drain(..at + MIDDLE.len());
            self.state = State::Arguments;
        }
        if self.state == State::Arguments {
            let keep = self.tail().len();
            let end = (0..=self.held.len().saturating_sub(keep)).rev().find(|&at| self.held.is_char_boundary(at));
            found.arguments = self.held.drain(..end.unwrap_or(0)).collect();
        }
        found
    }

    /// What is left at the end, and whether a call is complete.
    pub(crate) fn finish(&mut self) -> (Found, bool) {
        let held = std::mem::take(&mut self.held);
        match (self.state, held.strip_suffix(&self.tail())) {
            (State::Arguments, Some(rest)) => (Found { arguments: rest.to_owned(), ..Found::default() }, true),
            (State::Arguments, None) => (Found { arguments: held, ..Found::default() }, false),
            // A call that was cut before it had a name is text.
            _ => (Found { content: held, ..Found::default() }, false),
        }
    }
}

/// Length of the longest end of `text` that `pattern` begins with.
fn overlap(text: &str, pattern: &str) -> usize {
    let fits = |n: &usize| pattern.is_char_boundary(*n) && text.ends_with(&pattern[..*n]);
    (0..pattern.len()).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, name, arguments and whether the call is complete, with the text cut into pieces of `n` characters.
    fn read(style: CallStyle, text: &str, n: usize) -> (String, Option<String>, String, bool) {
        let mut reader = CallReader::new(style);
        let mut whole = Found::default();
        let mut take = |found: Found| {
            whole.content += &found.content;
            whole.name = whole.name.take().or(found.name);
            whole.arguments += &found.arguments;
        };
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(n).for_each(|piece| take(reader.push(&piece.iter().collect::<String>())));
        let (rest, complete) = reader.finish();
        take(rest);
        (whole.content, whole.name, whole.arguments, complete)
    }

    #[test]
    fn calls_are_found_however_the_text_is_cut() {
        let call = r#"{"name": "f-1", "arguments": {"x": "é}", "y": {"name": "a", "arguments": 1}}}"#;
        let arguments = r#"{"x": "é}", "y": {"name": "a", "arguments": 1}}"#.to_owned();
        for n in 1..100 {
            let bare = read(CallStyle::Bare, call, n);
            assert_eq!(bare, (String::new(), Some("f-1".into()), arguments.clone(), true), "{n}");
            let marked = read(CallStyle::Marked, &format!("well <tool <{OPEN}{call}{CLOSE}"), n);
            assert_eq!(marked, ("well <tool <".into(), Some("f-1".into()), arguments.clone(), true), "{n}");
            let text = "no <tool_call> here <tool_call>";
            assert_eq!(read(CallStyle::Marked, text, n), (text.into(), None, String::new(), false), "{n}");
            assert_eq!(read(CallStyle::None, call, n), (call.into(), None, String::new(), false), "{n}");
        }
    }

    #[test]
    fn a_call_that_was_cut_is_not_complete() {
        let call = format!(r#"{OPEN}{{"name": "f", "arguments": {{"x": 1}}}}{CLOSE}"#);
        for n in 0..call.len() {
            let (content, name, arguments, complete) = read(CallStyle::Marked, &call[..n], 3);
            assert!(!complete, "{n}");
            assert!(
                r#"{"x": 1}}"#.starts_with(&arguments) || arguments.ends_with(&CLOSE[..1]) || n > 40,
                "{arguments}"
            );
            assert_eq!(name.is_some(), n >= call.find("{\"x\"").unwrap(), "{n}");
            assert!(name.is_none() || content.is_empty());
        }
        assert!(read(CallStyle::Marked, &call, 3).3);
    }
}
