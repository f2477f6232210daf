//! The end of a demonstration, for people and for programs.

use std::collections::BTreeMap;

use bantam_evals::quality::Estimate;
use bantam_evals::routing::{Policy, PolicyKind};
use bantam_stats::metrics::Percentiles;
use serde_json::{Value, json};

use super::Shown;
use super::house::LARGE;
use crate::output;

/// Columns of a terminal that nobody has made wider.
const WIDTH: usize = 80;

/// One object.
pub(super) fn json(shown: &Shown<'_>) -> Value {
    let [calibration, stream, comparison] = shown.spent;
    json!({
        "small": shown.small,
        "large": LARGE,
        "calibration": {
            "questions": shown.calibration,
            "max_error": 1.0 - shown.promise.accuracy,
            "confidence": shown.promise.confidence,
            "guarantee": shown.guarantee,
        },
        "results": shown.figures,
        "kinds": kinds(shown).into_iter().map(|(kind, [asked, kept, right])| {
            json!({"kind": kind, "questions": asked, "kept": kept, "kept_right": right})
        }).collect::<Vec<_>>(),
        "ledger": {
            "requests": shown.requests,
            "calibration_nanos": calibration,
            "stream_nanos": stream,
            "comparison_nanos": comparison,
        },
    })
}

/// What a person reads.
pub(super) fn text(shown: &Shown<'_>) -> String {
    let figures = &shown.figures;
    let mut parts = vec![wrapped(&headline(shown))];
    let rows = figures.policies.iter().map(|policy| row(shown, policy)).collect();
    parts.push(output::table(&["WHO ANSWERS", "RIGHT", "COST", "SAVED"], &["COST"], rows));
    let kinds = kinds(shown).into_iter().map(|(kind, [asked, kept, right])| {
        vec![kind.to_owned(), asked.to_string(), kept.to_string(), right.to_string()]
    });
    parts.push(output::table(
        &["KIND", "QUESTIONS", "KEPT", "OF THOSE RIGHT"],
        &["QUESTIONS", "KEPT", "OF THOSE RIGHT"],
        kinds.collect(),
    ));
    let waits = [("answered here", &figures.kept_seconds), ("sent on", &figures.sent_seconds)];
    let waits: Vec<String> = waits
        .into_iter()
        .filter_map(|(who, seconds)| seconds.as_ref().map(|seconds| format!("{who} {}", wait(seconds))))
        .collect();
    parts.push(wrapped(&format!("latency: {}", waits.join("; "))));
    let [calibration, _, comparison] = shown.spent;
    parts.push(wrapped(&format!(
        "All intervals are 95 %. Costs are the ledger's: {LARGE} at its list price, {} at what this machine costs. Choosing the confidence cost {} besides, \
         asking the others for comparison {}.",
        shown.small,
        dollars(calibration.dollars()),
        dollars(comparison.dollars()),
    )));
    parts.join("\n\n")
}

fn headline(shown: &Shown<'_>) -> String {
    let (figures, promise) = (&shown.figures, &shown.promise);
    let least = percent(promise.accuracy);
    let Some(guarantee) = &shown.guarantee else {
        return format!(
            "{} kept nothing: from its answers to the {} questions to choose on, it cannot be said of any confidence that at least {least} of what \
             reaches it is right ({} sure). All {} questions went to {LARGE}, so nothing was saved. What helps: more of the questions to choose on, for the \
             same answers prove more (a larger --questions or --calibrate); a promise of less (a larger --max-error, a smaller --confidence); a model that can do more (--model).",
            shown.small,
            shown.calibration,
            percent(promise.confidence),
            figures.questions,
        );
    };
    let mut text = format!(
        "{} of {} questions were kept by {}: {}. Its answers stand from confidence {:.3} on, which was chosen on {} other questions so that at least {least} \
         are right ({} sure)",
        figures.kept,
        figures.questions,
        shown.small,
        estimate(&figures.share_kept),
        guarantee.threshold,
        shown.calibration,
        percent(promise.confidence),
    );
    match &figures.kept_accuracy {
        Some(accuracy) => text += &format!("; of those kept {} were.", estimate(accuracy)),
        None => text += "; none of the questions after those reached it.",
    }
    if let Some(saving) = figures.policy(PolicyKind::Routed).and_then(|policy| policy.saving) {
        text += &match saving.value > 0.0 {
            true => format!(" Saved: {} of what {LARGE} alone costs.", estimate(&saving)),
            false => format!(" Nothing was saved: asking first cost {} more.", percent(-saving.value)),
        };
    }
    text
}

fn row(shown: &Shown<'_>, policy: &Policy) -> Vec<String> {
    let name = match policy.policy {
        PolicyKind::Routed => "as it was routed".to_owned(),
        PolicyKind::AllSmall => format!("{}, always", shown.small),
        PolicyKind::AllLarge => format!("{LARGE}, always"),
        PolicyKind::Random => "as many kept, by chance".to_owned(),
        PolicyKind::Oracle => "oracle (knows who is right)".to_owned(),
    };
    let saved = match (policy.policy, &policy.saving) {
        (PolicyKind::AllLarge, _) | (_, None) => String::new(),
        (_, Some(saving)) => brief(saving),
    };
    vec![name, brief(&policy.accuracy), dollars(policy.cost_nanos.dollars()), saved]
}

/// Per kind: questions, those kept, and of those the right ones.
fn kinds<'a>(shown: &Shown<'a>) -> BTreeMap<&'a str, [usize; 3]> {
    let mut kinds: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    for (question, row) in shown.questions.iter().zip(shown.rows) {
        let [asked, kept, right] = kinds.entry(&question.kind).or_default();
        *asked += 1;
        *kept += usize::from(row.kept);
        *right += usize::from(row.kept && row.small.right);
    }
    kinds
}

fn estimate(estimate: &Estimate) -> String {
    format!("{} ({} to {})", percent(estimate.value), percent(estimate.lower), percent(estimate.upper))
}

/// With the interval in whole percents, for a table that fits a terminal.
fn brief(estimate: &Estimate) -> String {
    let whole = |share: f64| format!("{:.0}", 100.0 * share + 0.0);
    format!("{} ({} to {})", percent(estimate.value), whole(estimate.lower), whole(estimate.upper))
}

/// Breaks a paragraph where a line would be longer than terminals usually are. A number and its sign stay together.
fn wrapped(text: &str) -> String {
    let (mut lines, mut line) = (Vec::new(), String::new());
    for word in text.replace(" %", "\u{a0}%").split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines.join("\n").replace('\u{a0}', " ")
}

fn percent(share: f64) -> String {
    // No minus before a zero.
    format!("{:.1} %", 100.0 * share + 0.0)
}

/// Amounts here are far below a cent.
fn dollars(amount: f64) -> String {
    format!("${amount:.5}")
}

fn wait(seconds: &Percentiles) -> String {
    format!("{:.2} s at the median, {:.2} s for 19 of 20", seconds.p50, seconds.p95)
}
