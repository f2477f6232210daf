use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::DetectError;
use crate::finding::{DEFAULT_THRESHOLD, Finding, check_count, check_length};
use crate::resolve;
use crate::scan::Recognisers;

/// What of a text is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Only these types; all of them if none are named.
    pub entities: Option<BTreeSet<String>>,
    /// Findings of a lower score are left out.
    pub threshold: f32,
    /// Words (lower case) that are taken to stand near every match, such as the name of the text's column.
    pub context: Vec<String>,
    /// Texts that are no findings, exactly as written.
    pub allow: BTreeSet<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { entities: None, threshold: DEFAULT_THRESHOLD, context: Vec::new(), allow: BTreeSet::new() }
    }
}

impl Options {
    /// Whether a type is wanted.
    #[must_use]
    pub fn wants(&self, entity: &str) -> bool {
        self.entities.as_ref().is_none_or(|wanted| wanted.contains(entity))
    }
}

/// Something that finds entities: the table of patterns, or a model.
pub trait Detector: Send + Sync {
    /// What it is called in errors.
    fn name(&self) -> &str;

    /// The types that it can find.
    fn entities(&self) -> BTreeSet<&str>;

    /// Findings in any order. Those that `options` does not want may be among them; they are left out afterwards.
    ///
    /// # Errors
    /// [`DetectError`] if any part of the text could not be analysed.
    fn detect(&self, text: &str, options: &Options) -> Result<Vec<Finding>, DetectError>;
}

/// Several detectors as one.
#[derive(Clone)]
pub struct Detectors {
    detectors: Vec<Arc<dyn Detector>>,
}

impl Default for Detectors {
    /// The standard table alone.
    fn default() -> Self {
        Self { detectors: vec![Arc::new(Recognisers::standard())] }
    }
}

impl std::fmt::Debug for Detectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.detectors.iter().map(|detector| detector.name())).finish()
    }
}

impl Detectors {
    /// These and no others; the standard table is not among them unless given.
    #[must_use]
    pub fn new(detectors: Vec<Arc<dyn Detector>>) -> Self {
        Self { detectors }
    }

    /// One more.
    #[must_use]
    pub fn with(mut self, detector: Arc<dyn Detector>) -> Self {
        self.detectors.push(detector);
        self
    }

    /// The types that can be found.
    #[must_use]
    pub fn entities(&self) -> BTreeSet<&str> {
        self.detectors.iter().flat_map(|detector| detector.entities()).collect()
    }

    /// Disjoint findings in the order of the text. Where detectors overlap, the higher score wins, then the longer finding, and the other
    /// keeps what is left of it: nothing that any detector found is lost.
    ///
    /// # Errors
    /// If any detector fails, or gives what is no finding in this text.
    pub fn detect(&self, text: &str, options: &Options) -> Result<Vec<Finding>, DetectError> {
        check_length(text)?;
        let mut all = Vec::new();
        for detector in &self.detectors {
            let found = detector.detect(text, options)?;
            check_count(all.len() + found.len())?;
            for finding in found {
                let good = !finding.range.is_empty() && (0.0..=1.0).contains(&finding.score);
                let Some(matched) = text.get(finding.range.clone()).filter(|_| good) else {
                    return Err(DetectError::Invalid {
                        detector: detector.name().to_owned(),
                        range: finding.range,
                        score: finding.score.to_string(),
                        len: text.len(),
                    });
                };
                if finding.score >= options.threshold
                    && options.wants(&finding.entity)
                    && !options.allow.contains(matched)
                {
                    all.push(finding);
                }
            }
        }
        let disjoint = resolve::cover(all);
        check_count(disjoint.len())?;
        Ok(disjoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finds what it is told to.
    struct Fixed(Result<Vec<Finding>, DetectError>);

    impl Detector for Fixed {
        fn name(&self) -> &str {
            "fixed"
        }

        fn entities(&self) -> BTreeSet<&str> {
            BTreeSet::from(["PERSON"])
        }

        fn detect(&self, _: &str, _: &Options) -> Result<Vec<Finding>, DetectError> {
            self.0.clone()
        }
    }

    fn person(range: std::ops::Range<usize>, score: f32) -> Finding {
        Finding { entity: "PERSON".into(), range, score, recogniser: "fixed".into() }
    }

    fn with(found: Result<Vec<Finding>, DetectError>) -> Detectors {
        Detectors::default().with(Arc::new(Fixed(found)))
    }

    const TEXT: &str = "Ann Lee ann@example.org é";

    #[test]
    fn a_detector_beside_the_table_is_merged_and_loses_nothing() {
        let found = with(Ok(vec![person(0..11, 0.8)])).detect(TEXT, &Options::default()).unwrap();
        let found: Vec<_> = found.iter().map(|f| (&*f.entity, &TEXT[f.range.clone()])).collect();
        assert_eq!(found, [("PERSON", "Ann Lee "), ("EMAIL_ADDRESS", "ann@example.org")]);
        let wanted = Options { entities: Some(BTreeSet::from(["PERSON".to_owned()])), ..Options::default() };
        assert_eq!(with(Ok(vec![person(0..7, 0.8)])).detect(TEXT, &wanted).unwrap().len(), 1);
        let allowed = Options { allow: BTreeSet::from(["ann@example.org".to_owned()]), ..Options::default() };
        assert_eq!(Detectors::default().detect(TEXT, &allowed).unwrap(), []);
        assert!(with(Ok(Vec::new())).entities().contains("PERSON"));
    }

    #[test]
    fn a_detector_that_fails_or_lies_is_an_error() {
        let failed = DetectError::Failed { detector: "fixed".into(), why: "no memory".into() };
        assert_eq!(with(Err(failed.clone())).detect(TEXT, &Options::default()), Err(failed));
        let end = TEXT.len();
        for bad in [person(0..99, 0.5), person(3..3, 0.5), person(end - 1..end, 0.5), person(0..3, f32::NAN)] {
            let error = with(Ok(vec![bad])).detect(TEXT, &Options::default()).unwrap_err();
            assert!(matches!(error, DetectError::Invalid { .. }), "{error}");
        }
        let many = with(Ok(vec![person(0..3, 0.5); crate::MAX_FINDINGS + 1]));
        assert_eq!(many.detect(TEXT, &Options::default()), Err(DetectError::TooMany));
        let long = "a".repeat(crate::MAX_TEXT_BYTES + 1);
        assert!(matches!(with(Ok(Vec::new())).detect(&long, &Options::default()), Err(DetectError::TooLong { .. })));
    }
}
