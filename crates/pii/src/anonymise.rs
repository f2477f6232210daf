use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::OperatorError;
use crate::finding::Finding;
use crate::operator::Operator;
use crate::pseudonym::Pseudonyms;
use crate::resolve;

/// Which operator each type of entity gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymiser {
    default: Operator,
    by_entity: BTreeMap<String, Operator>,
}

/// A text after its operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anonymised {
    /// The text.
    pub text: String,
    /// What was done, in the order of the text.
    pub items: Vec<Item>,
}

/// One finding after its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its type.
    pub entity: String,
    /// What was done.
    pub operator: &'static str,
    /// Where its place is in the new text, in bytes.
    pub range: Range<usize>,
}

impl Anonymiser {
    /// The same for all.
    #[must_use]
    pub fn all(default: Operator) -> Self {
        Self { default, by_entity: BTreeMap::new() }
    }

    /// Another for one type.
    #[must_use]
    pub fn with(mut self, entity: impl Into<String>, operator: Operator) -> Self {
        self.by_entity.insert(entity.into(), operator);
        self
    }

    /// Another for all types that have none of their own.
    #[must_use]
    pub fn otherwise(self, default: Operator) -> Self {
        Self { default, ..self }
    }

    fn operator(&self, entity: &str) -> &Operator {
        self.by_entity.get(entity).unwrap_or(&self.default)
    }

    /// Applies the operators. Findings may overlap: the better one has the shared characters. Where pseudonyms are among the operators,
    /// whatever else in the text looks like one is replaced as well, so that none is taken for ours.
    ///
    /// # Errors
    /// If a finding is not of this text.
    pub fn apply(
        &self,
        text: &str,
        findings: &[Finding],
        pseudonyms: &mut Pseudonyms,
    ) -> Result<Anonymised, OperatorError> {
        if let Some(bad) = findings.iter().find(|finding| text.get(finding.range.clone()).is_none_or(str::is_empty)) {
            return Err(OperatorError::Range { range: bad.range.clone(), len: text.len() });
        }
        let mut anonymised = Anonymised { text: String::with_capacity(text.len()), items: Vec::new() };
        let mut at = 0;
        for Finding { entity, range, .. } in resolve::cover(findings.to_vec()) {
            let found = &text[range.clone()];
            let operator = self.operator(&entity);
            anonymised.text.push_str(&text[at..range.start]);
            let start = anonymised.text.len();
            match operator.apply(&entity, found)? {
                Some(replaced) => anonymised.text.push_str(&replaced),
                None => anonymised.text.push_str(&pseudonyms.token(&entity, found)),
            }
            let range_after = start..anonymised.text.len();
            anonymised.items.push(Item { entity: entity.into_owned(), operator: operator.name(), range: range_after });
            at = range.end;
        }
        anonymised.text.push_str(&text[at..]);
        let pseudonymises =
            std::iter::once(&self.default).chain(self.by_entity.values()).any(|o| *o == Operator::Pseudonymise);
        Ok(if pseudonymises { pseudonyms.protect(anonymised) } else { anonymised })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Place, Restorer};

    fn finding(entity: &'static str, range: Range<usize>, score: f32) -> Finding {
        Finding { entity: entity.into(), range, score, recogniser: "r".into() }
    }

    #[test]
    fn each_type_gets_its_operator_and_items_say_where() {
        let text = "é Ann, ann@x.org, 12345";
        let findings = [finding("PERSON", 3..6, 0.9), finding("MAIL", 8..17, 0.9), finding("ID", 19..24, 0.9)];
        let anonymiser = Anonymiser::all(Operator::Replace { with: None })
            .with("MAIL", Operator::Pseudonymise)
            .with("ID", Operator::Redact);
        let mut map = Pseudonyms::new();
        let done = anonymiser.apply(text, &findings, &mut map).unwrap();
        assert_eq!(done.text, "é <PERSON>, <MAIL_1>, ");
        let items: Vec<_> = done.items.iter().map(|i| (i.operator, &done.text[i.range.clone()])).collect();
        assert_eq!(items, [("replace", "<PERSON>"), ("pseudonymise", "<MAIL_1>"), ("redact", "")]);
        assert_eq!(
            anonymiser.apply(text, &[finding("MAIL", 1..6, 0.5)], &mut map).unwrap_err(),
            OperatorError::Range { range: 1..6, len: 24 }
        );
    }

    /// What one operator leaves must not read as another's token.
    #[test]
    fn a_token_that_comes_of_two_pieces_is_not_taken_for_ours() {
        let text = "<MAIL_9 1> and ann@x.org <MAIL_1>";
        let findings = [finding("GAP", 6..8, 0.9), finding("MAIL", 15..24, 0.9)];
        let anonymiser = Anonymiser::all(Operator::Pseudonymise).with("GAP", Operator::Redact);
        let mut map = Pseudonyms::new();
        let done = anonymiser.apply(text, &findings, &mut map).unwrap();
        assert_eq!(done.text, "<TEXT_1> and <MAIL_1> <TEXT_1>");
        assert_eq!(&done.text[done.items[1].range.clone()], "<MAIL_1>");
        assert_eq!(Restorer::whole(&map, Place::Text, &done.text), "<MAIL_1> and ann@x.org <MAIL_1>");
    }

    #[test]
    fn findings_that_overlap_leave_nothing_uncovered() {
        let text = "abcdef";
        let anonymiser = Anonymiser::all(Operator::Mask { with: '*', count: usize::MAX, from: crate::End::Start });
        let done = anonymiser
            .apply(text, &[finding("A", 0..4, 0.5), finding("B", 2..5, 0.9)], &mut Pseudonyms::new())
            .unwrap();
        assert_eq!(done.text, "*****f");
    }
}
