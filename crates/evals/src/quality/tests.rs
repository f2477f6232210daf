use proptest::prelude::*;

use super::*;

fn judged(row: usize, truth: &[usize], predicted: Option<&[usize]>, confidence: Option<f64>) -> Judged {
    let predicted =
        predicted.map(|labels| Prediction { labels: labels.to_vec(), wrong_values: Vec::new(), confidence });
    Judged { row, truth: truth.to_vec(), predicted, latency: None }
}

fn labels(n: usize) -> Vec<String> {
    (0..n).map(|label| format!("label {label}")).collect()
}

fn judgements<'a>(kind: Kind, labels: &'a [String], rows: &'a [Judged]) -> Judgements<'a> {
    Judgements {
        kind,
        labels,
        out_of_scope: None,
        confidence: ConfidenceKind::Raw,
        threshold: None,
        targets: &[],
        rows,
        wall_seconds: None,
    }
}

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-12, "{found} is not {expected}");
}

/// Ten rows of three labels, of which the last is out of scope; two are wrong, one has no answer.
fn ten() -> Vec<Judged> {
    let table = [
        (0, Some(0), 0.9),
        (0, Some(0), 0.8),
        (0, Some(1), 0.6),
        (1, Some(1), 0.95),
        (1, Some(1), 0.7),
        (1, Some(1), 0.85),
        (1, None, 0.0),
        (2, Some(2), 0.75),
        (2, Some(2), 0.99),
        (2, Some(0), 0.5),
    ];
    let row = |(i, (truth, predicted, confidence)): (usize, (usize, Option<usize>, f64))| Judged {
        latency: Some(0.01 * (i + 1) as f64),
        ..judged(i + 2, &[truth], predicted.as_ref().map(std::slice::from_ref), Some(confidence))
    };
    table.into_iter().enumerate().map(row).collect()
}

#[test]
fn one_label_per_row_by_hand() {
    let (labels, rows) = (labels(3), ten());
    let input = Judgements {
        out_of_scope: Some(2),
        threshold: Some(0.7),
        targets: &[0.8, 0.95],
        wall_seconds: Some(0.5),
        ..judgements(Kind::Single, &labels, &rows)
    };
    let found = Quality::new(&input).unwrap();
    assert_eq!((found.rows, found.answered, found.failed, found.right), (10, 9, 1, 7));
    // Clopper-Pearson of 7 of 10, from tables.
    assert_eq!(found.accuracy.value, 0.7);
    assert!((found.accuracy.lower - 0.3475).abs() < 5e-5 && (found.accuracy.upper - 0.9333).abs() < 5e-5);
    close(found.answered_accuracy.unwrap().value, 7.0 / 9.0);
    // Label 0: 2 right, 1 missed, 1 invented. Label 1: 3, 1 (the failed row), 1. Label 2: 2, 1, 0.
    let macro_f1 = found.macro_f1.unwrap();
    close(macro_f1.value, (4.0 / 6.0 + 6.0 / 8.0 + 4.0 / 5.0) / 3.0);
    assert!(macro_f1.lower < macro_f1.value && macro_f1.value < macro_f1.upper);
    close(found.micro_f1.unwrap(), 14.0 / 19.0);
    let order: Vec<_> = found.per_label.iter().map(|of| (of.label, of.support, of.predicted, of.right)).collect();
    assert_eq!(order, [(1, 4, 4, 3), (0, 3, 3, 2), (2, 3, 2, 2)]);
    close(found.per_label[0].precision.unwrap(), 0.75);

    let scope = found.scope.as_ref().unwrap();
    close(scope.recall.unwrap().value, 2.0 / 3.0);
    assert_eq!(scope.precision.unwrap().value, 1.0);
    close(scope.in_scope_accuracy.unwrap().value, 5.0 / 7.0);

    let confusion = found.confusion.as_ref().unwrap();
    let mistakes: Vec<_> = confusion.mistakes().map(|cell| (cell.truth, cell.predicted, &cell.examples[..])).collect();
    assert_eq!(mistakes, [(0, Some(1), &[4][..]), (1, None, &[8][..]), (2, Some(0), &[11][..])]);

    let latency = found.latency.as_ref().unwrap();
    close(latency.percentiles.p50, 0.055);
    close(latency.percentiles.p90, 0.091);
    assert_eq!(latency.bins.iter().map(|bin| bin.rows).sum::<usize>(), 10);
    close(found.rows_per_hour.unwrap(), 72_000.0);
}

#[test]
fn confidences_by_hand() {
    let (labels, rows) = (labels(3), ten());
    let targets = [0.8, 0.95, 1.0, 0.0];
    let input = Judgements { threshold: Some(0.7), targets: &targets, ..judgements(Kind::Single, &labels, &rows) };
    let found = Quality::new(&input).unwrap().confidence.unwrap();
    assert_eq!(found.rows, 9);
    // The seven right ones are those from 0.7 on, so only the last two points of the curve have a risk.
    let points: Vec<_> = found.curve.iter().map(|point| (point.threshold, point.coverage)).collect();
    assert_eq!((points[0], points[6], points[8]), ((0.99, 0.1), (0.7, 0.7), (0.5, 0.9)));
    close(found.curve[8].risk, 2.0 / 9.0);
    close(found.aurc, (1.0 / 8.0 + 2.0 / 9.0) / 9.0);
    let squares = [0.1, 0.2, 0.6, 0.05, 0.3, 0.15, 0.25, 0.01, 0.5];
    close(found.brier, squares.iter().map(|gap: &f64| gap * gap).sum::<f64>() / 9.0);
    close(found.log_loss, squares.iter().map(|gap: &f64| -(1.0 - gap).ln()).sum::<f64>() / 9.0);
    // Bins (0.4, 0.5], (0.5, 0.6], (0.6, 0.7], (0.7, 0.8], (0.8, 0.9], (0.9, 1].
    close(found.ece, (0.5 + 0.6 + 0.3 + (2.0 - 1.55) + (2.0 - 1.75) + (2.0 - 1.94)) / 9.0);

    let at = found.at_threshold.unwrap();
    assert_eq!((at.answered, at.coverage, at.accuracy.unwrap().value), (7, 0.7, 1.0));
    let coverages: Vec<_> =
        found.answerable.iter().map(|at| (at.target, at.observed.map(|observed| observed.answered))).collect();
    let all = [(0.0, Some(9)), (0.8, Some(8)), (0.9, Some(7)), (0.95, Some(7)), (0.99, Some(7)), (1.0, Some(7))];
    assert_eq!(coverages, all);
    assert_eq!(found.answerable[3].promised, None);
}

#[test]
fn promises_count_rows_without_a_confidence() {
    let rows: Vec<_> = (0..400).map(|i| judged(i, &[0], Some(&[0]), (i % 2 == 0).then_some(0.9))).collect();
    let found = Quality::new(&judgements(Kind::Single, &labels(2), &rows)).unwrap();
    let at = found.answerable_at(0.9).unwrap().unwrap();
    assert_eq!((at.observed.unwrap().coverage, at.promised), (0.5, Some(0.5)));
    assert!(found.answerable_at(1.5).is_err() && found.answerable_at(f64::NAN).is_err());
}

#[test]
fn several_labels_per_row_by_hand() {
    let rows = [
        judged(0, &[0, 1], Some(&[1, 0]), None),
        judged(1, &[0], Some(&[0, 2]), None),
        judged(2, &[], Some(&[]), None),
        judged(3, &[1, 2], Some(&[1]), None),
        judged(4, &[2], None, None),
    ];
    let found = Quality::new(&judgements(Kind::Multi, &labels(4), &rows)).unwrap();
    assert_eq!((found.right, found.failed), (2, 1));
    // Label 0: 2 right. Label 1: 2 right. Label 2: 2 missed, 1 invented. Label 3 never occurs.
    close(found.macro_f1.unwrap().value, 2.0 / 3.0);
    close(found.micro_f1.unwrap(), 8.0 / 11.0);
    assert_eq!((found.confusion, found.confidence), (None, None));
    let last = found.per_label.last().unwrap();
    assert_eq!((last.label, last.precision, last.recall, last.f1), (3, None, None, None));
}

#[test]
fn wrong_values_of_fields_are_missed_and_invented() {
    let mut rows = vec![judged(0, &[0, 1], Some(&[0, 1]), Some(0.9)), judged(1, &[0, 1], Some(&[0, 1]), Some(0.8))];
    rows[1].predicted.as_mut().unwrap().wrong_values = vec![1];
    let found = Quality::new(&judgements(Kind::Fields, &labels(2), &rows)).unwrap();
    assert_eq!(found.right, 1);
    let field = &found.per_label[0];
    assert_eq!((field.label, field.support, field.predicted, field.right), (1, 2, 2, 1));
    close(found.micro_f1.unwrap(), 0.75);
}

#[test]
fn systems_are_compared_on_the_rows_they_share() {
    let labels = labels(2);
    let row = |i: usize, right: bool| judged(i, &[0], Some(if right { &[0] } else { &[1] }), None);
    let first: Vec<_> = (0..40).map(|i| row(i, i % 10 != 0)).collect();
    let second: Vec<_> = (20..60).map(|i| row(i, i % 4 != 0)).collect();
    let quality = |rows: &[Judged]| Quality::new(&judgements(Kind::Single, &labels, rows)).unwrap();
    let found = quality(&first).against(&quality(&second)).unwrap().unwrap();
    // Of 20 to 39 the first misses 20 and 30, the second 20, 24, 28, 32 and 36.
    assert_eq!((found.rows, found.only_first, found.only_second), (20, 4, 1));
    close(found.difference.value, 0.15);
    close(found.p_value, 2.0 * 6.0 / 32.0);
    assert_eq!(quality(&first[..10]).against(&quality(&second)).unwrap(), None);
}

#[test]
fn little_input_gives_no_figure_rather_than_a_wrong_one() {
    let labels = labels(1);
    let failed = [judged(0, &[0], None, None)];
    let found = Quality::new(&judgements(Kind::Single, &labels, &failed)).unwrap();
    assert_eq!((found.accuracy.value, found.answered_accuracy, found.rows_per_hour), (0.0, None, None));
    assert!(found.confidence.is_none() && found.latency.is_none());
    let right = [judged(0, &[0], Some(&[0]), Some(1.0))];
    let found = Quality::new(&judgements(Kind::Single, &labels, &right)).unwrap();
    assert_eq!((found.accuracy.value, found.macro_f1.unwrap().value), (1.0, 1.0));
    assert_eq!(found.confidence.unwrap().ece, 0.0);
    let empty = [judged(0, &[], Some(&[]), None)];
    let found = Quality::new(&judgements(Kind::Multi, &labels, &empty)).unwrap();
    assert_eq!((found.right, found.macro_f1, found.micro_f1), (1, None, None));
}

#[test]
fn curves_keep_their_ends_and_few_points() {
    let rows: Vec<_> = (0..5_000)
        .map(|i| judged(i, &[0], Some(if i % 7 == 0 { &[1] } else { &[0] }), Some(i as f64 / 5_000.0)))
        .collect();
    let found = Quality::new(&judgements(Kind::Single, &labels(2), &rows)).unwrap().confidence.unwrap();
    assert!((150..=200).contains(&found.curve.len()), "{}", found.curve.len());
    assert_eq!(found.curve[0].coverage, 1.0 / 5_000.0);
    assert_eq!(found.curve.last().unwrap().coverage, 1.0);
}

#[test]
fn bad_input_is_named() {
    let labels = labels(2);
    let refused = |kind, rows: &[Judged]| Quality::new(&judgements(kind, &labels, rows)).unwrap_err().to_string();
    let good = judged(5, &[0], Some(&[1]), None);
    let mut value = judged(5, &[0], Some(&[1]), None);
    value.predicted.as_mut().unwrap().wrong_values = vec![1];
    let messages = [
        refused(Kind::Single, &[]),
        refused(Kind::Single, &[good.clone(), good.clone()]),
        refused(Kind::Single, &[judged(5, &[2], None, None)]),
        refused(Kind::Multi, &[judged(5, &[0], Some(&[1, 1]), None)]),
        refused(Kind::Single, &[judged(5, &[0], Some(&[]), None)]),
        refused(Kind::Fields, &[value]),
        refused(Kind::Single, &[judged(5, &[0], Some(&[0]), Some(1.5))]),
        refused(Kind::Single, &[Judged { latency: Some(f64::NAN), ..good.clone() }]),
    ];
    insta::assert_snapshot!(messages.join("\n"));
    let rows = [good];
    let input = judgements(Kind::Single, &labels, &rows);
    for bad in [
        Judgements { threshold: Some(-0.1), ..input },
        Judgements { targets: &[f64::NAN], ..input },
        Judgements { wall_seconds: Some(0.0), ..input },
        Judgements { out_of_scope: Some(2), ..input },
        Judgements { out_of_scope: Some(0), kind: Kind::Multi, ..input },
    ] {
        assert!(matches!(Quality::new(&bad), Err(QualityError::Setting { .. })), "{bad:?}");
    }
}

fn any_row() -> impl Strategy<Value = (Vec<usize>, Option<Vec<usize>>, Option<f64>, Option<f64>)> {
    let set = || proptest::collection::btree_set(0..4_usize, 0..4).prop_map(|set| set.into_iter().collect::<Vec<_>>());
    let confidence = prop_oneof![Just(None), (0..=8_u32).prop_map(|eighth| Some(f64::from(eighth) / 8.0))];
    (set(), proptest::option::of(set()), confidence, proptest::option::of(0.0..1e3_f64))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the rows: every figure is finite, shares are shares, intervals hold their figure, and the order of the
    /// rows does not matter.
    #[test]
    fn figures_are_figures(table in proptest::collection::vec(any_row(), 1..12)) {
        let labels = labels(4);
        let mut rows: Vec<Judged> = table
            .into_iter()
            .enumerate()
            .map(|(i, (truth, predicted, confidence, latency))| Judged {
                latency,
                ..judged(i, &truth, predicted.as_deref(), confidence)
            })
            .collect();
        let found = Quality::new(&judgements(Kind::Multi, &labels, &rows)).unwrap();
        prop_assert!(found.accuracy.lower <= found.accuracy.value && found.accuracy.value <= found.accuracy.upper);
        if let Some(confidence) = &found.confidence {
            prop_assert!((0.0..=1.0).contains(&confidence.ece) && (0.0..=1.0).contains(&confidence.aurc));
            prop_assert!(confidence.curve.windows(2).all(|pair| pair[0].coverage < pair[1].coverage));
        }
        for number in numbers(&serde_json::to_value(&found).unwrap()) {
            prop_assert!(number.is_finite());
        }
        let nulls = serde_json::to_string(&found).unwrap().matches(r#""value":null"#).count();
        prop_assert_eq!(nulls, 0);
        rows.reverse();
        let again = Quality::new(&judgements(Kind::Multi, &labels, &rows)).unwrap();
        prop_assert_eq!(&found.per_label, &again.per_label);
        prop_assert_eq!(&found.confidence, &again.confidence);
    }
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Number(number) => number.as_f64().into_iter().collect(),
        serde_json::Value::Array(all) => all.iter().flat_map(numbers).collect(),
        serde_json::Value::Object(all) => all.values().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}
