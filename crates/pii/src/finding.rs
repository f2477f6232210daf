use std::borrow::Cow;
use std::ops::Range;

use crate::error::DetectError;

/// Findings of a lower score are not told, unless asked for: patterns that say little by themselves need a context word to reach it.
pub const DEFAULT_THRESHOLD: f32 = 0.4;
/// Longest text that is analysed, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 << 20;
/// Most findings in one text. More are an error, since leaving some out would let them pass.
pub const MAX_FINDINGS: usize = 65_536;

/// A piece of text that is personal data or a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What it is, such as `EMAIL_ADDRESS`; Presidio's name where it has one.
    pub entity: Cow<'static, str>,
    /// Where, in bytes; both ends are character boundaries.
    pub range: Range<usize>,
    /// How sure, from 0 to 1. Scores order findings; they are no probabilities.
    pub score: f32,
    /// The row of the table, or the detector, that found it.
    pub recogniser: Cow<'static, str>,
}

/// Refuses a text that is too long to analyse.
pub(crate) fn check_length(text: &str) -> Result<(), DetectError> {
    if text.len() > MAX_TEXT_BYTES { Err(DetectError::TooLong { bytes: text.len() }) } else { Ok(()) }
}

/// Refuses more findings than one text may have.
pub(crate) fn check_count(findings: usize) -> Result<(), DetectError> {
    if findings > MAX_FINDINGS { Err(DetectError::TooMany) } else { Ok(()) }
}
