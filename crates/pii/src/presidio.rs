//! Analysis and anonymisation as Presidio's HTTP services do them: requests in, answers out. Offsets are in characters there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::anonymise::Anonymiser;
use crate::detector::{Detectors, Options};
use crate::error::{DetectError, OperatorError};
use crate::finding::{DEFAULT_THRESHOLD, Finding};
use crate::operator::{Operator, OperatorSpec};
use crate::pseudonym::Pseudonyms;

/// What a body of `/analyze` holds. Fields that are not here and not refused are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AnalyzeRequest {
    /// One text, or several.
    pub text: Option<Texts>,
    /// Any: patterns do not depend on it.
    pub language: Option<String>,
    /// Only these types.
    pub entities: Option<Vec<String>>,
    /// Findings of a lower score are left out; [`DEFAULT_THRESHOLD`] unless given (Presidio: 0).
    pub score_threshold: Option<f32>,
    /// Words that are taken to stand near.
    pub context: Option<Vec<String>>,
    /// Texts that are no findings.
    pub allow_list: Option<Vec<String>>,
    /// `exact`.
    pub allow_list_match: Option<String>,
    /// Not supported.
    pub ad_hoc_recognizers: Option<Vec<serde_json::Value>>,
}

/// One text or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    /// One, answered by a list of findings.
    One(String),
    /// Several, answered by a list of lists.
    Many(Vec<String>),
}

/// A finding on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalyzerResult {
    /// In characters.
    pub start: usize,
    /// In characters, exclusive.
    pub end: usize,
    /// From 0 to 1.
    #[serde(default = "certain")]
    pub score: f32,
    /// The type.
    pub entity_type: String,
    /// What found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognition_metadata: Option<RecognitionMetadata>,
}

/// What found an entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecognitionMetadata {
    /// The row of the table, or the detector.
    pub recognizer_name: String,
}

fn certain() -> f32 {
    1.0
}

/// The answer of `/analyze`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum AnalyzeResponse {
    /// Of one text.
    One(Vec<AnalyzerResult>),
    /// Of several.
    Many(Vec<Vec<AnalyzerResult>>),
}

/// What a body of `/anonymize` holds.
#[derive(Debug, Clone, Deserialize)]
pub struct AnonymizeRequest {
    /// The text.
    pub text: String,
    /// By type; `DEFAULT` for the others, which is `replace` unless given.
    #[serde(default)]
    pub anonymizers: BTreeMap<String, OperatorSpec>,
    /// What `/analyze` said of the text.
    pub analyzer_results: Vec<AnalyzerResult>,
}

/// The answer of `/anonymize`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnonymizeResponse {
    /// The text after the operators.
    pub text: String,
    /// From the last to the first.
    pub items: Vec<AnonymizedItem>,
    /// What the tokens stand for, where `pseudonymise` was asked for.
    #[serde(skip_serializing_if = "Pseudonyms::is_empty")]
    pub pseudonyms: Pseudonyms,
}

/// One finding after its operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnonymizedItem {
    /// In characters of the new text.
    pub start: usize,
    /// In characters, exclusive.
    pub end: usize,
    /// The type.
    pub entity_type: String,
    /// What stands there now.
    pub text: String,
    /// What was done.
    pub operator: &'static str,
}

/// A request that cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A field is wrong.
    #[error("{field}: {why}")]
    Field {
        /// Which one, such as `anonymizers.DEFAULT.salt`.
        field: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The text could not be analysed.
    #[error(transparent)]
    Detect(#[from] DetectError),
}

fn fault(field: impl Into<String>, why: impl Into<String>) -> RequestError {
    RequestError::Field { field: field.into(), why: why.into() }
}

/// Answers `/analyze`.
///
/// # Errors
/// [`RequestError`] names the field, or says why a text could not be analysed.
pub fn analyze(detectors: &Detectors, request: AnalyzeRequest) -> Result<AnalyzeResponse, RequestError> {
    let options = options(detectors, &request)?;
    let one = |text: &str| Ok::<_, RequestError>(results(text, &detectors.detect(text, &options)?));
    Ok(match request.text {
        None => return Err(fault("text", "is missing; give a text, or a list of them")),
        Some(Texts::One(text)) => AnalyzeResponse::One(one(&text)?),
        Some(Texts::Many(texts)) => {
            AnalyzeResponse::Many(texts.iter().map(|text| one(text)).collect::<Result<_, _>>()?)
        }
    })
}

fn options(detectors: &Detectors, request: &AnalyzeRequest) -> Result<Options, RequestError> {
    if request.ad_hoc_recognizers.as_ref().is_some_and(|list| !list.is_empty()) {
        return Err(fault("ad_hoc_recognizers", "is not supported; the table is fixed"));
    }
    if let Some(other) = request.allow_list_match.as_deref().filter(|kind| *kind != "exact") {
        return Err(fault("allow_list_match", format!("must be 'exact', is '{other}'")));
    }
    let threshold = request.score_threshold.unwrap_or(DEFAULT_THRESHOLD);
    if !(0.0..=1.0).contains(&threshold) {
        return Err(fault("score_threshold", format!("must be from 0 to 1, is {threshold}")));
    }
    let known = detectors.entities();
    let entities = request.entities.as_ref().filter(|list| !list.is_empty());
    for (i, entity) in entities.into_iter().flatten().enumerate() {
        if !known.contains(entity.as_str()) {
            let names: Vec<&str> = known.iter().copied().collect();
            return Err(fault(
                format!("entities[{i}]"),
                format!("'{entity}' is none that is found here: {}", names.join(", ")),
            ));
        }
    }
    let context = request.context.iter().flatten().map(|word| word.to_lowercase()).collect();
    Ok(Options {
        entities: entities.map(|list| list.iter().cloned().collect()),
        threshold,
        context,
        allow: request.allow_list.iter().flatten().cloned().collect(),
    })
}

/// Findings of a text as they stand on the wire.
#[must_use]
pub fn results(text: &str, findings: &[Finding]) -> Vec<AnalyzerResult> {
    let mut chars = CharCounter { text, byte: 0, chars: 0 };
    let result = |finding: &Finding| AnalyzerResult {
        start: chars.at(finding.range.start),
        end: chars.at(finding.range.end),
        score: finding.score,
        entity_type: finding.entity.to_string(),
        recognition_metadata: Some(RecognitionMetadata { recognizer_name: finding.recogniser.to_string() }),
    };
    findings.iter().map(result).collect()
}

/// Findings from the wire.
///
/// # Errors
/// If one is not of this text; `field` is what the list is called.
pub fn findings(text: &str, results: Vec<AnalyzerResult>, field: &str) -> Result<Vec<Finding>, RequestError> {
    let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let of = |(i, result): (usize, AnalyzerResult)| {
        let AnalyzerResult { start, end, score, entity_type, .. } = result;
        let range = places.get(start).zip(places.get(end)).filter(|_| start < end);
        let Some((&from, &to)) = range else {
            let why = format!("{start}..{end} is no part of the text, which has {} characters", places.len() - 1);
            return Err(fault(format!("{field}[{i}]"), why));
        };
        if !(0.0..=1.0).contains(&score) {
            return Err(fault(format!("{field}[{i}].score"), format!("must be from 0 to 1, is {score}")));
        }
        Ok(Finding { entity: entity_type.into(), range: from..to, score, recogniser: "request".into() })
    };
    results.into_iter().enumerate().map(of).collect()
}

/// Answers `/anonymize`.
///
/// # Errors
/// [`RequestError`] names the field.
pub fn anonymize(request: AnonymizeRequest) -> Result<AnonymizeResponse, RequestError> {
    let AnonymizeRequest { text, anonymizers, analyzer_results } = request;
    let mut anonymiser = Anonymiser::all(Operator::Replace { with: None });
    for (entity, spec) in anonymizers {
        let named = |error| match error {
            OperatorError::Field { field, why } => fault(format!("anonymizers.{entity}.{field}"), why),
            OperatorError::Range { .. } => fault(format!("anonymizers.{entity}"), error.to_string()),
        };
        let operator = Operator::try_from(spec).map_err(named)?;
        anonymiser =
            if entity == "DEFAULT" { anonymiser.otherwise(operator) } else { anonymiser.with(entity, operator) };
    }
    let findings = findings(&text, analyzer_results, "analyzer_results")?;
    let mut pseudonyms = Pseudonyms::new();
    let done = anonymiser.apply(&text, &findings, &mut pseudonyms);
    let done = done.map_err(|error| fault("analyzer_results", error.to_string()))?;
    let mut chars = CharCounter { text: &done.text, byte: 0, chars: 0 };
    let item = |item: &crate::Item| AnonymizedItem {
        start: chars.at(item.range.start),
        end: chars.at(item.range.end),
        entity_type: item.entity.clone(),
        text: done.text.get(item.range.clone()).unwrap_or_default().to_owned(),
        operator: item.operator,
    };
    let mut items: Vec<AnonymizedItem> = done.items.iter().map(item).collect();
    items.reverse();
    Ok(AnonymizeResponse { text: done.text, items, pseudonyms })
}

/// Bytes to characters, for places in ascending order.
struct CharCounter<'a> {
    text: &'a str,
    byte: usize,
    chars: usize,
}

impl CharCounter<'_> {
    fn at(&mut self, byte: usize) -> usize {
        self.chars += self.text.get(self.byte..byte).map_or(0, |text| text.chars().count());
        self.byte = byte;
        self.chars
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn analyzed(body: Value) -> Result<Value, RequestError> {
        let request = serde_json::from_value(body).unwrap();
        analyze(&Detectors::default(), request).map(|response| serde_json::to_value(response).unwrap())
    }

    fn anonymized(body: Value) -> Result<Value, RequestError> {
        let request = serde_json::from_value(body).unwrap();
        anonymize(request).map(|response| serde_json::to_value(response).unwrap())
    }

    #[test]
    fn offsets_are_in_characters() {
        let found = analyzed(json!({ "text": "Zoë: zoë@example.org", "language": "en" })).unwrap();
        let expected = json!([{
            "start": 5, "end": 20, "score": 0.95f32, "entity_type": "EMAIL_ADDRESS", "recognition_metadata": { "recognizer_name": "email" },
        }]);
        assert_eq!(found, expected);
        let many = analyzed(json!({ "text": ["a", "b@example.org"] })).unwrap();
        assert_eq!((many[0].as_array().unwrap().len(), &many[1][0]["end"]), (0, &json!(13)));
    }

    #[test]
    fn a_request_says_what_it_wants() {
        let text = "b@example.org 203.0.113.7 943-476-5870";
        let types = |more: Value| -> Vec<String> {
            let mut body = json!({ "text": text });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let found = analyzed(body).unwrap();
            found.as_array().unwrap().iter().map(|f| f["entity_type"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(types(json!({ "entities": ["IP_ADDRESS"] })), ["IP_ADDRESS"]);
        assert_eq!(types(json!({ "score_threshold": 0.9 })), ["EMAIL_ADDRESS"]);
        assert_eq!(types(json!({ "allow_list": ["b@example.org"], "entities": [] }))[0], "IP_ADDRESS");
        assert_eq!(types(json!({ "entities": ["UK_NHS"] })), [""; 0]);
        assert_eq!(types(json!({ "entities": ["UK_NHS"], "context": ["NHS"] })), ["UK_NHS"]);
    }

    #[test]
    fn operators_apply_by_type_and_items_go_backwards() {
        let body = json!({
            "text": "hello world, my name is Jané Doe. My number is: 034453334",
            "anonymizers": {
                "DEFAULT": { "type": "replace", "new_value": "ANONYMIZED" },
                "PHONE_NUMBER": { "type": "mask", "masking_char": "*", "chars_to_mask": 4, "from_end": true },
            },
            "analyzer_results": [
                { "start": 24, "end": 32, "score": 0.8, "entity_type": "NAME" },
                { "start": 24, "end": 28, "score": 0.8, "entity_type": "FIRST_NAME" },
                { "start": 48, "end": 57, "score": 0.95, "entity_type": "PHONE_NUMBER" },
            ],
        });
        let expected = json!({
            "text": "hello world, my name is ANONYMIZED. My number is: 03445****",
            "items": [
                { "start": 50, "end": 59, "entity_type": "PHONE_NUMBER", "text": "03445****", "operator": "mask" },
                { "start": 24, "end": 34, "entity_type": "NAME", "text": "ANONYMIZED", "operator": "replace" },
            ],
        });
        assert_eq!(anonymized(body).unwrap(), expected);
    }

    #[test]
    fn pseudonyms_come_with_their_map() {
        let body = json!({
            "text": "Ann", "anonymizers": { "DEFAULT": { "type": "pseudonymise" } },
            "analyzer_results": [{ "start": 0, "end": 3, "entity_type": "PERSON" }],
        });
        let done = anonymized(body).unwrap();
        assert_eq!((&done["text"], &done["pseudonyms"]), (&json!("<PERSON_1>"), &json!({ "<PERSON_1>": "Ann" })));
    }

    #[test]
    fn faults_name_the_field() {
        let field = |error: RequestError| match error {
            RequestError::Field { field, .. } => field,
            RequestError::Detect(error) => panic!("{error}"),
        };
        for (body, name) in [
            (json!({}), "text"),
            (json!({ "text": "a", "entities": ["IP_ADDRESS", "NAMES"] }), "entities[1]"),
            (json!({ "text": "a", "score_threshold": 2.0 }), "score_threshold"),
            (json!({ "text": "a", "ad_hoc_recognizers": [{}] }), "ad_hoc_recognizers"),
            (json!({ "text": "a", "allow_list_match": "regex" }), "allow_list_match"),
        ] {
            assert_eq!(field(analyzed(body).unwrap_err()), name);
        }
        let result = json!([{ "start": 0, "end": 1, "entity_type": "X" }]);
        for (more, results, name) in [
            (json!({ "DEFAULT": { "type": "hash" } }), result.clone(), "anonymizers.DEFAULT.salt"),
            (json!({ "X": { "type": "rot13" } }), result, "anonymizers.X.type"),
            (json!({}), json!([{ "start": 1, "end": 1, "entity_type": "X" }]), "analyzer_results[0]"),
            (json!({}), json!([{ "start": 0, "end": 9, "entity_type": "X" }]), "analyzer_results[0]"),
            (
                json!({}),
                json!([{ "start": 0, "end": 1, "score": -1.0, "entity_type": "X" }]),
                "analyzer_results[0].score",
            ),
        ] {
            let body = json!({ "text": "ab", "anonymizers": more, "analyzer_results": results });
            assert_eq!(field(anonymized(body).unwrap_err()), name);
        }
    }
}
