//! From a model's answer to a result.

use std::sync::Arc;

use bantam_tasks::fit::Labelled;
use bantam_tasks::model::RawValue;
use bantam_tasks::{RowError, Runner, Task, TaskResult, Verdict};
use serde_json::json;

use crate::fake::{Fake, parse, task};

fn one(task: &Arc<Task>, value: RawValue) -> Result<TaskResult, RowError> {
    Fake::new(move |_| Ok(value.clone())).runner(task).run(&[vec!["text".into()]]).remove(0)
}

fn labels(mode: &str, labels: &str, accept: &str) -> Arc<Task> {
    task(&format!(
        "name = 't'\nkind = 'classify'\n[classify]\nmode = '{mode}'\nlabels = {labels}\n[accept]\n{accept}\n"
    ))
}

fn found(labels: &[(usize, f64)]) -> RawValue {
    RawValue::Labels(labels.iter().map(|&(label, p)| (label, Some(p))).collect())
}

#[test]
fn what_is_not_sure_enough_goes_where_the_task_says() {
    for (otherwise, verdict, value) in [
        ("review", Verdict::Review, json!("a")),
        ("escalate", Verdict::Escalate, json!("a")),
        ("refuse", Verdict::Refuse, json!(null)),
    ] {
        let task = labels("one", "['a', 'b']", &format!("confidence = 0.8\notherwise = '{otherwise}'"));
        let result = one(&task, found(&[(0, 0.7), (1, 0.3)])).unwrap();
        assert_eq!((result.verdict, result.value, &result.flags[..]), (verdict, value, &["low_confidence"][..]));
        assert_eq!(result.alternatives[0].label, "b");
        let sure = one(&task, found(&[(1, 0.8)])).unwrap();
        assert_eq!((sure.verdict, sure.value, sure.flags.len()), (Verdict::Accept, json!("b"), 0));
        // A model that does not say how sure it is is not sure.
        assert_eq!(one(&task, RawValue::Labels(vec![(0, None)])).unwrap().verdict, verdict);
    }
    let easy = labels("one", "['a', 'b']", "confidence = 0");
    let result = one(&easy, RawValue::Labels(vec![(1, None)])).unwrap();
    assert_eq!((result.verdict, result.confidence, result.calibrated), (Verdict::Accept, None, false));
}

#[test]
fn a_path_is_cut_where_it_is_not_sure_enough() {
    let task = labels("path", "['a/x', 'a/y', 'b/x/p', 'b/x/q']\nnone = 'n'", "confidence = 0.7");
    let value = |labels: &[(usize, f64)]| {
        let result = one(&task, found(labels)).unwrap();
        (result.value.as_str().unwrap().to_owned(), (result.confidence.unwrap() * 100.0).round(), result.verdict)
    };
    assert_eq!(value(&[(0, 0.75), (1, 0.2)]), ("a/x".into(), 75.0, Verdict::Accept));
    assert_eq!(value(&[(0, 0.5), (1, 0.4), (2, 0.1)]), ("a".into(), 90.0, Verdict::Accept));
    assert_eq!(value(&[(2, 0.4), (3, 0.35), (0, 0.25)]), ("b/x".into(), 75.0, Verdict::Accept));
    assert_eq!(value(&[(0, 0.4), (2, 0.35), (1, 0.2)]), ("a".into(), 60.0, Verdict::Review));
    // Rounded probabilities of more than one together are no more than sure.
    assert_eq!(value(&[(0, 0.6), (1, 0.400_001)]), ("a".into(), 100.0, Verdict::Accept));
    let none = one(&task, found(&[(4, 0.9)])).unwrap();
    assert!(none.out_of_scope && none.value == "n" && none.verdict == Verdict::Accept);
    let unsure = one(&task, RawValue::Labels(vec![(0, None)])).unwrap();
    assert_eq!((unsure.value, unsure.verdict), (json!("a/x"), Verdict::Review));
}

#[test]
fn of_many_labels_the_least_sure_decision_counts() {
    let task = labels("many", "['a', 'b', 'c']", "confidence = 0.6");
    let each = |each: &[(bool, f64)]| RawValue::EachLabel(each.iter().map(|&(on, p)| (on, Some(p))).collect());
    let result = one(&task, each(&[(true, 0.9), (false, 0.3), (true, 0.95)])).unwrap();
    assert_eq!((result.value, result.confidence), (json!(["a", "c"]), Some(0.7)));
    let none = one(&task, each(&[(false, 0.1), (false, 0.0), (false, 0.45)])).unwrap();
    assert_eq!((none.value, none.verdict), (json!([]), Verdict::Review));
    let silent = one(&task, RawValue::EachLabel(vec![(true, None), (false, None), (false, None)])).unwrap();
    assert_eq!((silent.value, silent.confidence), (json!(["a"]), None));
}

#[test]
fn answers_of_another_kind_or_out_of_range_are_errors() {
    let topic = labels("one", "['a', 'b']", "confidence = 0");
    for value in [
        RawValue::Labels(vec![]),
        RawValue::Labels(vec![(2, None)]),
        RawValue::OutOfScope(None),
        RawValue::Json { text: "{}".into(), pieces: vec![] },
    ] {
        assert_eq!(one(&topic, value).unwrap_err().code(), "invalid_answer");
    }
    let path = labels("path", "['a/x', 'b']", "confidence = 0");
    assert_eq!(one(&path, RawValue::Labels(vec![])).unwrap_err().code(), "invalid_answer");
}

#[test]
fn fields_are_valid_checked_and_as_sure_as_their_tokens() {
    let order = task(
        "name = 'o'\nkind = 'fields'\n[fields.schema]\ntype = 'object'\nrequired = ['n']\n[fields.schema.properties]\n\
         n = { type = 'integer' }\ns = { type = 'string' }\n[[checks]]\nfield = 'n'\nrange = [1, 9]\n\
         [accept]\nconfidence = 0.5\notherwise = 'refuse'\n",
    );
    let answer = |text: &str, pieces: &[(std::ops::Range<usize>, f64)]| {
        let pieces = pieces.iter().map(|(range, p)| (range.clone(), p.ln() as f32)).collect();
        one(&order, RawValue::Json { text: text.into(), pieces })
    };
    let result = answer(r#"{"n": 5, "s": "x"}"#, &[(0..6, 0.1), (6..7, 0.8), (7..14, 0.2), (14..17, 0.6)]).unwrap();
    assert!((result.field_confidence["n"] - 0.8).abs() < 1e-6 && (result.confidence.unwrap() - 0.6).abs() < 1e-6);
    assert_eq!((result.verdict, &result.value["n"]), (Verdict::Accept, &json!(5)));
    let failed = answer(r#"{"n": 50}"#, &[(0..9, 0.9)]).unwrap();
    assert_eq!(
        (failed.verdict, failed.value, &failed.flags[..]),
        (Verdict::Refuse, json!(null), &["failed_checks"][..])
    );
    assert_eq!(failed.failed_checks[0].check, "n");
    for text in ["{", "[]", r#"{"n": "x"}"#, "{}", r#"{"n": 1} {"n": 2}"#, ""] {
        assert_eq!(answer(text, &[]).unwrap_err().code(), "invalid_answer", "{text}");
    }
}

#[test]
fn inputs_are_looked_at_before_a_model_sees_them() {
    let fake = Fake::new(|_| Ok(found(&[(0, 1.0)])));
    let two = task("name = 't'\nkind = 'classify'\ninput = ['s', 'b']\n[classify]\nlabels = ['a', 'b']\n");
    let runner = fake.runner(&two);
    let row = |s: &str, b: &str| vec![s.to_owned(), b.to_owned()];
    let rows = [
        row("x", " y "),
        row(" ", ""),
        vec!["x".into()],
        row("x", "a\0b"),
        row("x", &"y".repeat(1 << 20)),
        row("", "<|end|>"),
    ];
    let outcomes = runner.run(&rows);
    let codes: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().map_or_else(RowError::code, |_| "ok")).collect();
    assert_eq!(codes, ["ok", "bad_input", "bad_input", "bad_input", "bad_input", "ok"]);
    assert!(outcomes[3].as_ref().unwrap_err().to_string().starts_with("b: "));
    assert_eq!(*fake.seen.lock().unwrap(), ["s: x\nb: y", "s: \nb: <|end|>"]);
    assert_eq!(outcomes[5].as_ref().unwrap().flags, ["special_tokens_in_input"]);
    for (row, together) in rows.iter().zip(&outcomes) {
        assert_eq!(&runner.run(std::slice::from_ref(row))[0], together);
    }
    assert!(runner.run(&[]).is_empty());
}

#[test]
fn a_calibration_judges_answers_as_the_model_gave_them() {
    let text = |accept: &str| {
        format!("name = 't'\nkind = 'classify'\n[classify]\nlabels = ['a', 'b']\n[accept]\nconfidence = {accept}\n")
    };
    let strict = Arc::new(parse(&(text("0.99") + "otherwise = 'refuse'\n")).unwrap());
    let fake = Fake::new(|input| {
        let n: usize = input.parse().unwrap();
        // Right when it is sure, and as often as not when it is not.
        Ok(found(&[(if n.is_multiple_of(2) { 0 } else { n / 2 % 2 }, if n.is_multiple_of(2) { 0.9 } else { 0.6 })]))
    });
    let rows: Vec<Labelled> = (0..80).map(|n| Labelled { input: vec![n.to_string()], answer: "a".into() }).collect();
    let fitted = fake.runner(&strict).calibrate(&rows, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    assert_eq!((fitted.report.rows, fitted.report.accuracy), (80, 0.75));
    let lenient = Arc::new(parse(&text("0.9")).unwrap());
    let runner = Runner::generating(Arc::clone(&lenient), &fake, Some(&fitted)).unwrap();
    let confidence = |n: usize| runner.run(&[vec![n.to_string()]])[0].as_ref().unwrap().confidence.unwrap();
    assert!(confidence(0) > 0.9 && (0.4..0.6).contains(&confidence(1)), "{} {}", confidence(0), confidence(1));
    // What another model's confidence is worth, this one's is not.
    let other = Fake { fingerprint: "fake-2", ..fake };
    let result =
        Runner::generating(lenient, &other, Some(&fitted)).unwrap().run(&[vec!["0".into()]]).remove(0).unwrap();
    assert_eq!((result.confidence, result.calibrated), (Some(0.9), false));
}
