//! How well findings agree with a labelled data set, in the format of presidio-research.
//!
//! A finding matches a labelled span if its type is one that the span's label stands for and both share at least half of the characters that either has
//! (intersection over union); each finding matches one span at most. Equal ends are counted beside that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bantam_stats::StatsError;
use bantam_stats::intervals::{Proportion, wilson};
use bantam_stats::split;
use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::presidio::{AnalyzerResult, RequestError, findings};

/// The least intersection over union of a match.
const MIN_OVERLAP: f64 = 0.5;
const CONFIDENCE: f64 = 0.95;
/// What the halves are drawn with.
const SALT: &str = "pii";

/// What becomes of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// It has a checksum or a pattern, and counts in the sum.
    Pattern,
    /// Part of it has a pattern: shown, not in the sum.
    Partly,
    /// It needs a model that knows the language: no recogniser.
    No,
}

/// A label of the data set and the types that stand for it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Label {
    /// In the data set.
    pub label: &'static str,
    /// Among findings.
    pub entities: &'static [&'static str],
    /// Whether it counts.
    pub counted: Counted,
}

const fn label(label: &'static str, entities: &'static [&'static str], counted: Counted) -> Label {
    Label { label, entities, counted }
}

/// The labels of `synth_dataset_v2`.
pub const LABELS: &[Label] = &[
    label("CREDIT_CARD", &["CREDIT_CARD"], Counted::Pattern),
    label("PHONE_NUMBER", &["PHONE_NUMBER"], Counted::Pattern),
    label("EMAIL_ADDRESS", &["EMAIL_ADDRESS"], Counted::Pattern),
    label("DOMAIN_NAME", &["URL"], Counted::Pattern),
    label("IBAN_CODE", &["IBAN_CODE"], Counted::Pattern),
    label("US_SSN", &["US_SSN"], Counted::Pattern),
    label("IP_ADDRESS", &["IP_ADDRESS"], Counted::Pattern),
    label("US_DRIVER_LICENSE", &["US_DRIVER_LICENSE"], Counted::Pattern),
    // Years and words are dates there; numbers behind a town's name are postcodes.
    label("DATE_TIME", &["DATE_TIME", "DATE_OF_BIRTH"], Counted::Partly),
    label("ZIP_CODE", &["ZIP_CODE", "UK_POSTCODE"], Counted::Partly),
    label("PERSON", &[], Counted::No),
    label("STREET_ADDRESS", &[], Counted::No),
    label("GPE", &[], Counted::No),
    label("ORGANIZATION", &[], Counted::No),
    label("TITLE", &[], Counted::No),
    label("AGE", &[], Counted::No),
    label("NRP", &[], Counted::No),
];

/// A text and what is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The text.
    pub text: String,
    /// Its spans in bytes, with their labels.
    pub spans: Vec<(Range<usize>, String)>,
    /// Whether its template is of the half that recognisers may be developed on.
    pub development: bool,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    entities: Vec<Span>,
    template_id: serde_json::Value,
}

#[derive(Deserialize)]
struct Span {
    start: usize,
    end: usize,
    label: String,
}

impl Example {
    /// Reads a line of JSON: `text`, `entities` (with `start`, `end` in characters and `label`) and `template_id`.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let Line { text, entities, template_id } = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let labels: Vec<String> = entities.iter().map(|span| span.label.clone()).collect();
        let result = |Span { start, end, label }| AnalyzerResult {
            start,
            end,
            score: 1.0,
            entity_type: label,
            recognition_metadata: None,
        };
        let spans = findings(&text, entities.into_iter().map(result).collect(), "entities")
            .map_err(|error| error.to_string())?;
        let spans = spans.into_iter().map(|span| span.range).zip(labels).collect();
        // Texts of one template fall on one side.
        let development = split::fold(&template_id.to_string(), SALT, 2) == 0;
        Ok(Self { text, spans, development })
    }

    /// Findings that another program made, a line of JSON with a list as `/analyze` answers it.
    ///
    /// # Errors
    /// What is wrong with the line.
    pub fn parse_findings(&self, line: &str) -> Result<Vec<Finding>, String> {
        let results = serde_json::from_str(line).map_err(|error| error.to_string())?;
        findings(&self.text, results, "findings").map_err(|error: RequestError| error.to_string())
    }
}

/// A share with its interval after Wilson.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Of the successes.
    pub value: f64,
    /// With 95 % confidence.
    pub lower: f64,
    /// With 95 % confidence.
    pub upper: f64,
}

impl Share {
    fn new(successes: u64, trials: u64) -> Result<Option<Self>, StatsError> {
        if trials == 0 {
            return Ok(None);
        }
        let share = Proportion::new(successes, trials)?;
        let interval = wilson(share, CONFIDENCE)?;
        Ok(Some(Self { value: share.value(), lower: interval.lower, upper: interval.upper }))
    }
}

/// Counts of one label, or of several together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Labelled spans.
    pub labelled: u64,
    /// Findings.
    pub found: u64,
    /// Findings that match a span.
    pub matched: u64,
    /// Those with the same ends.
    pub exact: u64,
}

/// The figures of one label, or of several together.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    /// What they come from.
    #[serde(flatten)]
    pub counts: Counts,
    /// Of the findings, those that match.
    pub precision: Option<Share>,
    /// Of the spans, those that were found.
    pub recall: Option<Share>,
    /// The harmonic mean of both.
    pub f1: Option<f64>,
    /// Precision where only equal ends match.
    pub exact_precision: Option<Share>,
    /// Recall where only equal ends match.
    pub exact_recall: Option<Share>,
}

impl Figures {
    fn new(counts: Counts) -> Result<Self, StatsError> {
        let Counts { labelled, found, matched, exact } = counts;
        let f1 = (labelled + found > 0).then(|| 2.0 * matched as f64 / (labelled + found) as f64);
        Ok(Self {
            counts,
            precision: Share::new(matched, found)?,
            recall: Share::new(matched, labelled)?,
            f1,
            exact_precision: Share::new(exact, found)?,
            exact_recall: Share::new(exact, labelled)?,
        })
    }
}

/// The figures of some examples.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How many.
    pub texts: usize,
    /// Of their text.
    pub bytes: usize,
    /// Labels that a type stands for.
    pub labels: Vec<(Label, Figures)>,
    /// The sum of those that count, with `unlabelled` among the findings.
    pub sum: Figures,
    /// Findings of types that no label of the data set stands for. Each counts as wrong.
    pub unlabelled: BTreeMap<String, u64>,
    /// Spans of labels that have no recogniser.
    pub not_counted: BTreeMap<String, u64>,
}

impl Report {
    /// Judges findings, one list for each example.
    ///
    /// # Errors
    /// If the figures cannot be computed.
    pub fn new<'a>(judged: impl IntoIterator<Item = (&'a Example, &'a [Finding])>) -> Result<Self, StatsError> {
        let mut counts = vec![Counts::default(); LABELS.len()];
        let (mut texts, mut bytes) = (0, 0);
        let (mut unlabelled, mut not_counted) = (BTreeMap::new(), BTreeMap::new());
        for (example, findings) in judged {
            texts += 1;
            bytes += example.text.len();
            for (label, counts) in LABELS.iter().zip(&mut counts) {
                count(label, example, findings, counts);
            }
            let labelled = |entity: &str| LABELS.iter().any(|label| label.entities.contains(&entity));
            for finding in findings.iter().filter(|finding| !labelled(&finding.entity)) {
                *unlabelled.entry(finding.entity.to_string()).or_default() += 1;
            }
            let counted = |name: &str| LABELS.iter().any(|label| label.label == name && label.counted != Counted::No);
            for (_, name) in example.spans.iter().filter(|(_, name)| !counted(name)) {
                *not_counted.entry(name.clone()).or_default() += 1;
            }
        }
        let mut sum = Counts { found: unlabelled.values().sum(), ..Counts::default() };
        for (_, of) in LABELS.iter().zip(&counts).filter(|(label, _)| label.counted == Counted::Pattern) {
            sum.labelled += of.labelled;
            sum.found += of.found;
            sum.matched += of.matched;
            sum.exact += of.exact;
        }
        let shown = LABELS.iter().zip(counts).filter(|(label, _)| label.counted != Counted::No);
        let labels =
            shown.map(|(label, counts)| Ok((*label, Figures::new(counts)?))).collect::<Result<_, StatsError>>()?;
        Ok(Self { texts, bytes, labels, sum: Figures::new(sum)?, unlabelled, not_counted })
    }
}

fn count(label: &Label, example: &Example, findings: &[Finding], counts: &mut Counts) {
    let of_label: Vec<&Range<usize>> =
        example.spans.iter().filter(|(_, name)| name == label.label).map(|(range, _)| range).collect();
    let mut free: BTreeSet<usize> = (0..of_label.len()).collect();
    counts.labelled += of_label.len() as u64;
    for finding in findings.iter().filter(|finding| label.entities.contains(&&*finding.entity)) {
        counts.found += 1;
        let best = free.iter().map(|&i| (i, overlap(of_label[i], &finding.range))).max_by(|a, b| a.1.total_cmp(&b.1));
        if let Some((i, _)) = best.filter(|(_, overlap)| *overlap >= MIN_OVERLAP) {
            free.remove(&i);
            counts.matched += 1;
            counts.exact += u64::from(*of_label[i] == finding.range);
        }
    }
}

/// Intersection over union; in bytes, which are characters where patterns match.
fn overlap(a: &Range<usize>, b: &Range<usize>) -> f64 {
    let shared = a.end.min(b.end).saturating_sub(a.start.max(b.start));
    shared as f64 / (a.len() + b.len() - shared) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(text: &str, spans: &[(usize, usize, &str)], template: u32) -> Example {
        let spans: Vec<_> = spans
            .iter()
            .map(|(start, end, label)| serde_json::json!({ "start": start, "end": end, "label": label }))
            .collect();
        let line = serde_json::json!({ "text": text, "entities": spans, "template_id": template });
        Example::parse(&line.to_string()).unwrap()
    }

    #[test]
    fn matches_share_half_of_their_characters_and_are_made_once() {
        let example = example("é 0123456789 0123456789", &[(2, 12, "US_SSN"), (13, 23, "US_SSN"), (0, 1, "PERSON")], 1);
        let found = |ranges: &[(usize, usize, &str)]| {
            let results: Vec<_> = ranges
                .iter()
                .map(|(start, end, entity)| serde_json::json!({ "start": start, "end": end, "entity_type": entity }))
                .collect();
            let found = example.parse_findings(&serde_json::Value::from(results).to_string()).unwrap();
            let report = Report::new([(&example, &found[..])]).unwrap();
            let figures = |name| report.labels.iter().find(|(label, _)| label.label == name).unwrap().1.counts;
            assert_eq!(report.not_counted, BTreeMap::from([("PERSON".to_owned(), 1)]));
            (figures("US_SSN"), report.sum.counts)
        };
        let counts = |labelled, found, matched, exact| Counts { labelled, found, matched, exact };
        assert_eq!(found(&[]).0, counts(2, 0, 0, 0));
        assert_eq!(found(&[(2, 12, "US_SSN"), (13, 18, "US_SSN")]).0, counts(2, 2, 2, 1));
        assert_eq!(found(&[(2, 6, "US_SSN"), (6, 12, "US_SSN")]).0, counts(2, 2, 1, 0));
        // Another type at the same place is one span missed and one finding wrong, whether the data set has the type or not.
        assert_eq!(found(&[(2, 12, "PHONE_NUMBER")]), (counts(2, 0, 0, 0), counts(2, 1, 0, 0)));
        assert_eq!(found(&[(2, 12, "UK_NHS")]).1, counts(2, 1, 0, 0));
        assert_eq!(found(&[(2, 12, "DATE_TIME")]).1, counts(2, 0, 0, 0));
    }

    #[test]
    fn lines_that_cannot_be_used_say_why_and_templates_stay_together() {
        assert!(Example::parse("{}").unwrap_err().contains("text"));
        let line = r#"{"text": "ab", "entities": [{"start": 1, "end": 9, "label": "X"}], "template_id": 1}"#;
        assert!(Example::parse(line).unwrap_err().contains("entities[0]"));
        let sides: BTreeSet<bool> = (0..50).map(|template| example("a", &[], template).development).collect();
        assert_eq!(sides.len(), 2);
        assert_eq!(example("a", &[], 7).development, example("b", &[], 7).development);
    }
}
