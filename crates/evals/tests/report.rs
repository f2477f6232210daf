//! Reports and pictures as their readers get them: whole, escaped, the same every time.

#![allow(clippy::unwrap_used, missing_docs)]

use bantam_evals::quality::{ConfidenceKind, Judged, Judgements, Kind, Prediction, Quality};
use bantam_evals::report::{About, Candidate, Comparison, Contest, DataFile, Evaluation, Skipped};
use bantam_evals::svg;
use quick_xml::Reader;
use quick_xml::events::Event;

const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"' onload=x '\"",
    "",
    "\u{202e}evil\u{2066}\u{0}\u{b}",
    "]]>&amp;<!--",
    "{{ 7*7 }}",
];

/// `n` rows of `labels`, every fifth wrong, every eleventh without an answer.
fn quality(labels: &[String], n: usize, threshold: Option<f64>) -> Quality {
    let row = |i: usize| {
        let truth = i % labels.len();
        let predicted = if i.is_multiple_of(5) { (truth + 1) % labels.len() } else { truth };
        let confidence = Some(if i.is_multiple_of(5) { 0.4 } else { 0.9 } + (i % 9) as f64 / 100.0);
        let prediction = Prediction { labels: vec![predicted], confidence, ..Prediction::default() };
        let predicted = (i % 11 != 10).then_some(prediction);
        Judged { row: i + 2, truth: vec![truth], predicted, latency: Some(0.004 + (i % 17) as f64 * 0.001) }
    };
    let rows: Vec<Judged> = (0..n).map(row).collect();
    let judged = Judgements {
        kind: Kind::Single,
        labels,
        out_of_scope: Some(0),
        confidence: ConfidenceKind::Calibrated,
        threshold,
        targets: &[],
        rows: &rows,
        wall_seconds: Some(2.5),
    };
    Quality::new(&judged).unwrap()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("label_{i}")).collect()
}

fn hostile_labels() -> Vec<String> {
    let mut labels: Vec<String> = HOSTILE.iter().map(|label| (*label).to_owned()).collect();
    labels.extend(["x".repeat(100_000), "e\u{301}".repeat(5_000), "\u{fffe}\u{ffff}\t\r\n".to_owned()]);
    labels
}

fn about(text: &str) -> About {
    About {
        task: text.to_owned(),
        task_digest: Some(text.to_owned()),
        model: Some(text.to_owned()),
        data: DataFile { path: text.to_owned(), digest: text.to_owned(), rows: 44 },
        date: text.to_owned(),
        command: text.to_owned(),
        machine: Some(text.to_owned()),
        program: text.to_owned(),
    }
}

fn candidate(name: &str, quality: Quality) -> Candidate {
    let notes = vec![name.to_owned()];
    Candidate { name: name.to_owned(), quality, ram_bytes: Some(140_000_000), cost_per_million: Some(0.94), notes }
}

fn comparison(text: &str, labels: &[String]) -> Comparison {
    Comparison::new(Contest {
        about: about(text),
        baseline: Some(Candidate { cost_per_million: Some(412.0), ..candidate(text, quality(labels, 50, None)) }),
        candidates: vec![candidate("head", quality(labels, 90, None)), candidate(text, quality(labels, 20, None))],
        winner: Some(0),
        skipped: vec![Skipped { name: text.to_owned(), reason: text.to_owned() }],
        warnings: vec![text.to_owned()],
        notes: vec![text.to_owned()],
    })
    .unwrap()
}

fn evaluation(text: &str, labels: &[String]) -> Evaluation {
    Evaluation { about: about(text), quality: quality(labels, 90, Some(0.5)) }
}

/// Parses a document strictly; returns the names of its elements and all of its text.
fn parsed(document: &str) -> (Vec<String>, String) {
    let mut reader = Reader::from_str(document);
    let (mut elements, mut text) = (Vec::new(), String::new());
    loop {
        match reader.read_event().unwrap() {
            Event::Start(tag) | Event::Empty(tag) => {
                elements.push(String::from_utf8(tag.name().as_ref().to_vec()).unwrap());
                for attribute in tag.attributes() {
                    let name = String::from_utf8(attribute.unwrap().key.as_ref().to_vec()).unwrap();
                    assert!(!name.starts_with("on") && name != "style" && name != "src", "{name}");
                }
            }
            Event::Text(said) => text.push_str(&said.decode().unwrap()),
            Event::Eof => return (elements, text),
            _ => {}
        }
    }
}

fn pictures(quality: &Quality) -> Vec<String> {
    let confidence = quality.confidence.as_ref().unwrap();
    let name = quality.labels[0].as_str();
    let curve = svg::RiskCurve { name, points: &confidence.curve, marked: confidence.at_threshold };
    let row = svg::IntervalRow { name, value: quality.accuracy };
    vec![
        svg::confusion(quality.confusion.as_ref().unwrap(), &quality.labels),
        svg::reliability(confidence),
        svg::risk_coverage(&[curve], None),
        svg::risk_coverage(&[curve; 9], Some(row)),
        svg::latency(quality.latency.as_ref().unwrap()),
        svg::intervals(Some(row), &[row, row]),
        svg::intervals(None, &[]),
    ]
}

#[test]
fn documents_are_whole_and_load_nothing() {
    for labels in [names(1), names(2), names(30), names(200), hostile_labels()] {
        for picture in pictures(&quality(&labels, 240, Some(0.9))) {
            let (elements, _) = parsed(&picture);
            assert_eq!((elements[0].as_str(), elements[1].as_str(), elements[2].as_str()), ("svg", "title", "desc"));
            assert!(!picture.contains("NaN") && !picture.contains("inf\""), "{picture}");
        }
    }
    for page in [evaluation("tickets", &names(30)).html(), comparison("tickets", &names(30)).html()] {
        let page = page.unwrap();
        let (elements, _) = parsed(&page);
        for element in ["script", "img", "iframe", "object", "form", "base"] {
            assert!(!elements.iter().any(|found| found == element), "{element}");
        }
        assert!(
            page.contains("default-src &#39;none&#39;; style-src &#39;sha256-")
                || page.contains("default-src 'none'; style-src 'sha256-")
        );
        // The name space of a picture is the only address.
        assert_eq!(page.matches("http").count(), page.matches("xmlns=\"http").count() + 1, "http-equiv");
        assert!(!page.contains("url(") && !page.contains("@import"));
    }
}

#[test]
fn outside_texts_cannot_leave_their_place() {
    let labels = hostile_labels();
    for text in HOSTILE.iter().map(|text| (*text).to_owned()).chain(["w".repeat(50_000)]) {
        let documents = [evaluation(&text, &labels).html().unwrap(), comparison(&text, &labels).html().unwrap()];
        for document in documents {
            let (elements, _) = parsed(&document);
            assert!(!elements.iter().any(|element| element == "script"));
            let turned =
                |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\0' | '\u{b}' | '\u{fffe}');
            assert!(!document.contains(turned));
            assert!(document.len() < 150_000, "{}", document.len());
        }
    }
    for picture in pictures(&quality(&labels, 90, None)) {
        assert!(picture.len() < 60_000, "{}", picture.len());
        let width: f64 = picture.split_once("width=\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap();
        assert!(width < 1_200.0, "{width}");
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let labels = names(50);
    assert_eq!(evaluation("t", &labels).html().unwrap(), evaluation("t", &labels).html().unwrap());
    assert_eq!(comparison("t", &labels).html().unwrap(), comparison("t", &labels).html().unwrap());
}

/// The element of the page's style is what the policy names.
#[test]
fn the_policy_names_the_style() {
    use base64::Engine;
    use sha2::Digest;
    let page = evaluation("t", &names(3)).html().unwrap();
    let style = page.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style.as_bytes()));
    let policy = page.split_once("Content-Security-Policy\" content=\"").unwrap().1.split_once('"').unwrap().0;
    let plain = policy.replace("&#43;", "+").replace("&#61;", "=");
    assert!(plain.contains(&digest), "{policy} does not name {digest}");
}

#[test]
fn pictures_and_tables_look_as_they_did() {
    let labels = names(2);
    let quality = quality(&labels, 10, None);
    insta::assert_snapshot!("confusion", svg::confusion(quality.confusion.as_ref().unwrap(), &labels));
    let lines = |rows: Vec<Vec<String>>| rows.into_iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n");
    let evaluation = Evaluation { about: about("t"), quality };
    insta::assert_snapshot!("evaluation", format!("{}\n\n{}", evaluation.verdict(), lines(evaluation.table().rows)));
    let comparison = comparison("LLM", &names(5));
    let table = comparison.table();
    let heads: Vec<_> = table.columns.iter().map(|column| column.name).collect();
    let all = format!("{}\n\n{}\n{}", comparison.verdict(), heads.join(" | "), lines(table.rows));
    insta::assert_snapshot!("comparison", all);
    assert_eq!(table.strong, Some(1));
}

#[test]
fn a_comparison_needs_neither_baseline_nor_winner() {
    let labels = names(3);
    let contest = Contest {
        baseline: None,
        candidates: vec![candidate("only", quality(&labels, 30, None))],
        winner: Some(7),
        ..comparison("t", &labels).contest
    };
    let alone = Comparison::new(contest).unwrap();
    assert_eq!(alone.verdict(), "None of 1 candidate is good enough.");
    assert!(alone.standings[0].paired.is_none() && alone.standings[0].at_baseline.is_none());
    parsed(&alone.html().unwrap());
}

/// Fields have no confusion matrix, and nothing here has a confidence or a latency.
#[test]
fn a_report_leaves_out_what_there_is_no_figure_for() {
    let labels = ["sum".to_owned(), "date".to_owned()];
    let prediction = Prediction { labels: vec![0, 1], wrong_values: vec![1], confidence: None };
    let rows = [Judged { row: 2, truth: vec![0, 1], predicted: Some(prediction), latency: None }];
    let judged = Judgements {
        kind: Kind::Fields,
        labels: &labels,
        out_of_scope: None,
        confidence: ConfidenceKind::Raw,
        threshold: Some(0.5),
        targets: &[],
        rows: &rows,
        wall_seconds: None,
    };
    let evaluation = Evaluation { about: About::default(), quality: Quality::new(&judged).unwrap() };
    assert_eq!(evaluation.verdict(), "0.0% of 1 row was answered right [0.0, 97.5].");
    let page = evaluation.html().unwrap();
    let (elements, text) = parsed(&page);
    assert!(!elements.iter().any(|element| element == "svg"));
    assert!(text.contains("Each field") && !text.contains("latency") && !text.contains("AURC"));
}

/// JSON of a report has every figure, none of them NaN.
#[test]
fn json_has_the_figures() {
    let value = serde_json::to_value(comparison("t", &names(3))).unwrap();
    assert_eq!(
        value["candidates"][0]["quality"]["accuracy"]["value"],
        value["candidates"][0]["quality"]["right"].as_f64().unwrap() / 90.0
    );
    assert!(value["standings"][0]["paired"]["p_value"].is_number());
    assert_eq!(value["about"]["data"]["rows"], 44);
}
