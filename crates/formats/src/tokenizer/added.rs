//! Tokens that are found in the text before anything is split or merged: control tokens, where they are asked for, and
//! user-defined tokens always. Of several that match, the one that begins first counts, and of those the longest, found
//! in one pass however many there are.

use aho_corasick::{AhoCorasick, MatchKind};

use super::error::TokenizerError;

/// A token that is found in text as it stands.
#[derive(Debug, Clone)]
pub(super) struct AddedToken {
    pub(super) id: u32,
    pub(super) text: String,
    /// Found only where special tokens are parsed.
    pub(super) control: bool,
    /// Swallows the white space before it.
    pub(super) strip_before: bool,
    /// Swallows the white space after it.
    pub(super) strip_after: bool,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment<'t> {
    Text(&'t str),
    Token(u32),
}

/// Finds added tokens.
#[derive(Debug)]
pub(super) struct AddedTokens {
    user_defined: Option<Matcher>,
    with_control: Option<Matcher>,
}

#[derive(Debug)]
struct Matcher {
    automaton: AhoCorasick,
    tokens: Vec<AddedToken>,
}

impl AddedTokens {
    pub(super) fn new(tokens: Vec<AddedToken>) -> Result<AddedTokens, TokenizerError> {
        let tokens: Vec<AddedToken> = tokens.into_iter().filter(|token| !token.text.is_empty()).collect();
        let user_defined = tokens.iter().filter(|token| !token.control).cloned().collect();
        Ok(AddedTokens { user_defined: Matcher::new(user_defined)?, with_control: Matcher::new(tokens)? })
    }

    /// Calls `segment` with every part of `text` in order.
    pub(super) fn split<'t>(&self, text: &'t str, parse_special: bool, segment: &mut dyn FnMut(Segment<'t>)) {
        let matcher = if parse_special { &self.with_control } else { &self.user_defined };
        let mut text_segment = |text: &'t str| {
            if !text.is_empty() {
                segment(Segment::Text(text));
            }
        };
        let Some(matcher) = matcher else { return text_segment(text) };
        let mut done = 0;
        for found in matcher.automaton.find_iter(text) {
            let token = &matcher.tokens[found.pattern().as_usize()];
            if found.start() < done {
                continue;
            }
            let mut before = text.get(done..found.start()).unwrap_or_default();
            if token.strip_before {
                before = before.trim_end();
            }
            done = found.end();
            if token.strip_after {
                let after = text.get(done..).unwrap_or_default();
                done += after.len() - after.trim_start().len();
            }
            if !before.is_empty() {
                segment(Segment::Text(before));
            }
            segment(Segment::Token(token.id));
        }
        let rest = text.get(done..).unwrap_or_default();
        if !rest.is_empty() {
            segment(Segment::Text(rest));
        }
    }
}

impl Matcher {
    fn new(tokens: Vec<AddedToken>) -> Result<Option<Matcher>, TokenizerError> {
        if tokens.is_empty() {
            return Ok(None);
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|token| &token.text))
            .map_err(|error| TokenizerError::AddedTokens { reason: error.to_string() })?;
        Ok(Some(Matcher { automaton, tokens }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(id: u32, text: &str, control: bool) -> AddedToken {
        AddedToken { id, text: text.to_owned(), control, strip_before: false, strip_after: false }
    }

    fn split<'t>(tokens: &[AddedToken], text: &'t str, parse_special: bool) -> Vec<Segment<'t>> {
        let mut segments = Vec::new();
        AddedTokens::new(tokens.to_vec()).unwrap().split(text, parse_special, &mut |segment| segments.push(segment));
        segments
    }

    #[test]
    fn the_earliest_then_longest_token_is_found() {
        let tokens = [added(0, "<|im|>", true), added(1, "  ", false), added(2, "   ", false), added(3, "m|>", false)];
        let (text, token) = (Segment::Text, Segment::Token);
        assert_eq!(split(&tokens, "a<|im|>    b", true), [text("a"), token(0), token(2), text(" b")]);
        assert_eq!(split(&tokens, "a<|im|>", false), [text("a<|i"), token(3)]);
        assert_eq!(split(&tokens, "", true), []);
        assert_eq!(split(&[], "<|im|>", true), [text("<|im|>")]);
    }

    #[test]
    fn white_space_around_a_stripping_token_is_swallowed() {
        let mut tokens = [added(0, "<a>", true), added(1, "\n", false)];
        tokens[0].strip_before = true;
        tokens[0].strip_after = true;
        let (text, token) = (Segment::Text, Segment::Token);
        assert_eq!(split(&tokens, "x \t<a> \n\n<a> y", true), [text("x"), token(0), token(0), text("y")]);
    }
}
