use std::fmt;
use std::ops::Range;

/// One row of a table: all there is to know about one way to write one type of entity.
#[derive(Debug, Clone, Copy)]
pub struct Recogniser {
    /// What it is called in findings, such as `iban`.
    pub name: &'static str,
    /// What it finds, such as `IBAN_CODE`.
    pub entity: &'static str,
    /// A regular expression over bytes (no Unicode classes; `\b`, `\d` and `(?i)` are those of ASCII) with a longest match.
    pub pattern: &'static str,
    /// What must hold besides the pattern.
    pub check: Check,
    /// Words in lower case, one of which near a match raises its score.
    pub context: &'static [&'static str],
    /// The score without such a word. Below [`crate::DEFAULT_THRESHOLD`] a match needs one to be told.
    pub score: f32,
    /// Texts with what must be found between « and ».
    pub found: &'static [&'static str],
    /// Texts in which this row finds nothing.
    pub passed: &'static [&'static str],
}

/// What must hold for a match besides its pattern.
#[derive(Clone, Copy)]
pub enum Check {
    /// Nothing more.
    Pattern,
    /// A rule over the matched text, such as a checksum.
    Rule(fn(&str) -> bool),
    /// A rule that may move the ends: whole text and match in, the finding out. Work must be bounded.
    Span(fn(&str, Range<usize>) -> Option<Range<usize>>),
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::Pattern => "Pattern",
            Check::Rule(_) => "Rule",
            Check::Span(_) => "Span",
        })
    }
}

impl Check {
    /// The finding that a match is, if it is one. Both ends are character boundaries.
    pub(crate) fn accept(self, text: &str, range: Range<usize>) -> Option<Range<usize>> {
        let found = match self {
            Check::Pattern => range,
            Check::Rule(rule) => text.get(range.clone()).is_some_and(rule).then_some(range)?,
            Check::Span(span) => span(text, range)?,
        };
        text.get(found.clone()).is_some_and(|found| !found.is_empty()).then_some(found)
    }
}
