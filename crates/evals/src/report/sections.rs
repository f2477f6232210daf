//! The parts of a page that tell of one set of judged rows.

use super::page::{Block, Section};
use super::table::{Align, Table};
use crate::quality::{
    BINS, ConfidenceKind, ConfidenceQuality, Kind, LabelQuality, LatencyQuality, PROMISE, Quality, Selected,
};
use crate::svg::{self, RiskCurve};
use crate::text::{
    NONE, count, counted, estimate_or_none, interval, percent, percent_or_none, round_percent, seconds, shortened,
    significant,
};

/// Confusions that are listed.
const LISTED: usize = 15;
/// Labels whose table needs no opening.
const OPEN_LABELS: usize = 20;

/// `figure`, `value`, `note`: what a terminal shows, and the first table of a page.
pub(super) fn figures(quality: &Quality) -> Table {
    let mut table = Table::new([("figure", Align::Left), ("value", Align::Right), ("note", Align::Left)]);
    let mut add = |figure: &str, value: String, note: String| table.rows.push(vec![figure.to_owned(), value, note]);
    let right = match quality.kind {
        Kind::Single => "the right label",
        Kind::Multi => "exactly the right set of labels",
        Kind::Fields => "every field right",
    };
    let of = format!("{} of {}; {right}", count(quality.right), counted(quality.rows, "row", "rows"));
    add("accuracy", estimate_or_none(Some(&quality.accuracy)), of);
    if quality.failed > 0 {
        let note = format!("{} without an answer count as wrong", counted(quality.failed, "row", "rows"));
        add("accuracy of the answered", estimate_or_none(quality.answered_accuracy.as_ref()), note);
    }
    let labels = if quality.kind == Kind::Fields { "fields" } else { "labels" };
    add(
        "macro-F1",
        estimate_or_none(quality.macro_f1.as_ref()),
        format!("all {labels} count the same; bootstrap interval"),
    );
    add("micro-F1", percent_or_none(quality.micro_f1), format!("{labels} count by how often they occur"));
    if let Some(scope) = &quality.scope {
        let label = quality.labels.get(scope.label).map_or_else(String::new, |label| shortened(label, 40));
        add(
            "out-of-scope recall",
            estimate_or_none(scope.recall.as_ref()),
            format!("of the rows that are {label}, those found"),
        );
        add(
            "out-of-scope precision",
            estimate_or_none(scope.precision.as_ref()),
            format!("of the rows called {label}, those that are"),
        );
        add(
            "in-scope accuracy",
            estimate_or_none(scope.in_scope_accuracy.as_ref()),
            format!("without the rows that are {label}"),
        );
    }
    if let Some(confidence) = &quality.confidence {
        add(
            "calibration error",
            format!("{} points", significant(confidence.ece * 100.0)),
            format!("mean gap of confidence and outcome, {BINS} bins (ECE)"),
        );
        add("Brier score", significant(confidence.brier), "0 is best; always unsure is 0.25".to_owned());
        add(
            "log-loss",
            format!("{} nats", significant(confidence.log_loss)),
            "0 is best; always unsure is 0.693".to_owned(),
        );
        add("AURC", significant(confidence.aurc), "mean share wrong over all coverages; 0 is best".to_owned());
        for answerable in &confidence.answerable {
            let name = format!("answerable at {}", round_percent(answerable.target));
            let share = percent_or_none(answerable.observed.map(|observed| observed.coverage));
            add(&name, share, promise_note(answerable.promised));
        }
    }
    if let Some(LatencyQuality { percentiles, .. }) = &quality.latency {
        let read =
            [("p50", percentiles.p50), ("p90", percentiles.p90), ("p95", percentiles.p95), ("p99", percentiles.p99)];
        let times = read.map(|(name, value)| format!("{name} {}", seconds(value))).join(", ");
        add("latency", seconds(percentiles.p50), format!("{times}, slowest {}", seconds(percentiles.max)));
    }
    if let Some(rate) = quality.rows_per_hour {
        add("rows per hour", significant(rate), "over the wall time of the whole run".to_owned());
    }
    table
}

fn promise_note(promised: Option<f64>) -> String {
    match promised {
        Some(share) => format!("{} with a promise for new rows", percent(share)),
        None => "too few rows for a promise for new ones".to_owned(),
    }
}

/// "of the 62.0% answered with a confidence of at least 0.80, 97.1% were right [95.6, 98.2]"
pub(super) fn selection(selected: &Selected) -> String {
    match &selected.accuracy {
        None => format!("no row has a confidence of at least {:.2}", selected.threshold),
        Some(accuracy) => format!(
            "of the {} answered with a confidence of at least {:.2}, {} were right {}",
            percent(selected.coverage),
            selected.threshold,
            percent(accuracy.value),
            interval(accuracy)
        ),
    }
}

/// The threshold of the task, or the one that the lowest target above what all rows reach asks for.
pub(super) fn threshold(quality: &Quality, confidence: &ConfidenceQuality) -> Option<Selected> {
    let useful = confidence.answerable.iter().filter(|at| at.target > quality.accuracy.value);
    confidence.at_threshold.or_else(|| useful.filter_map(|at| at.observed).next())
}

/// All sections with pictures and tables.
pub(super) fn details(quality: &Quality) -> Vec<Section> {
    let mut sections = Vec::new();
    if let Some(confidence) = &quality.confidence {
        sections.push(selective(quality, confidence));
        sections.push(calibration(quality, confidence));
    }
    sections.extend(confusion(quality));
    sections.push(labels(quality));
    sections.extend(quality.latency.as_ref().map(latency));
    sections
}

fn selective(quality: &Quality, confidence: &ConfidenceQuality) -> Section {
    let marked = threshold(quality, confidence);
    let curve = RiskCurve { name: "these rows", points: &confidence.curve, marked };
    let example = marked.map_or_else(String::new, |marked| format!(" At the mark: {}.", selection(&marked)));
    let caption = format!(
        "Answer only the surest rows and leave the others to someone else: the further right, the more rows are answered, \
         and the more of the answers are wrong.{example}"
    );
    let mut table = Table::new([
        ("wanted accuracy", Align::Right),
        ("rows answered", Align::Right),
        ("from confidence", Align::Right),
        ("accuracy of these", Align::Right),
        ("promised for new rows", Align::Right),
        ("from confidence ", Align::Right),
    ]);
    let from = |threshold: Option<f64>| threshold.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"));
    for at in &confidence.answerable {
        let observed = at.observed.as_ref();
        table.rows.push(vec![
            round_percent(at.target),
            percent_or_none(observed.map(|observed| observed.coverage)),
            from(observed.map(|observed| observed.threshold)),
            estimate_or_none(observed.and_then(|observed| observed.accuracy.as_ref())),
            percent_or_none(at.promised),
            from(at.promised_threshold),
        ]);
    }
    let note = format!(
        "“Rows answered” is what reached the accuracy on these rows. “Promised” is the share for which new rows like these \
         reach it with {} certainty; the choice of the threshold is paid for, so it is smaller, and a dash means that \
         there are too few rows for a promise.",
        round_percent(PROMISE)
    );
    let picture = Block::Picture { svg: svg::risk_coverage(&[curve], None), caption };
    Section {
        title: "How much can be answered".to_owned(),
        blocks: vec![picture, Block::Table(table), Block::Text(note)],
    }
}

fn calibration(quality: &Quality, confidence: &ConfidenceQuality) -> Section {
    let rows = confidence.rows as f64;
    let mean = confidence.bins.iter().map(|bin| bin.confidence * bin.rows as f64).sum::<f64>() / rows;
    let right = confidence.bins.iter().map(|bin| bin.accuracy * bin.rows as f64).sum::<f64>() / rows;
    let lean = match mean - right {
        ..-0.02 => "The model is better than it says",
        ..0.02 => "On the whole the confidences fit",
        _ => "The model is surer than it should be",
    };
    let source = match confidence.kind {
        ConfidenceKind::Raw => "as the model gave them",
        ConfidenceKind::Calibrated => "calibrated on other rows",
    };
    let missing = match quality.rows - confidence.rows {
        0 => String::new(),
        n => format!(" {} without a confidence are left out.", counted(n, "row", "rows")),
    };
    let caption = format!(
        "{lean}: the mean confidence is {}, and {} are right. Dots on the dashed line mean that of the predictions with \
         70% confidence 70% are right; bars through them are 95% intervals. Confidence and outcome differ by {} points on \
         average. The confidences are taken {source}.{missing}",
        percent(mean),
        percent(right),
        significant(confidence.ece * 100.0),
    );
    let picture = Block::Picture { svg: svg::reliability(confidence), caption };
    Section { title: "What a confidence means".to_owned(), blocks: vec![picture] }
}

fn confusion(quality: &Quality) -> Option<Section> {
    let confusion = quality.confusion.as_ref()?;
    let name = |label: usize| quality.labels.get(label).map_or_else(String::new, |label| shortened(label, 60));
    let predicted = |label: Option<usize>| label.map_or_else(|| "no answer".to_owned(), name);
    let support =
        |label: usize| quality.per_label.iter().find(|of| of.label == label).map_or(0, |of| of.support as usize);
    let worst = confusion.mistakes().next().map_or_else(
        || "There is no mistake.".to_owned(),
        |cell| {
            let of = format!("{} of {}", count(cell.rows), counted(support(cell.truth), "row", "rows"));
            format!("Most often, {} was taken for {} ({of}).", name(cell.truth), predicted(cell.predicted))
        },
    );
    let caption = format!(
        "Each line is a true label, each column a prediction; on the diagonal they agree. Labels that were mixed up stand \
         side by side. {worst}"
    );
    let picture = Block::Picture { svg: svg::confusion(confusion, &quality.labels), caption };
    let mut blocks = vec![picture];
    let mut table = Table::new([
        ("true label", Align::Left),
        ("taken for", Align::Left),
        ("rows", Align::Right),
        ("of the label", Align::Right),
        ("for example rows", Align::Left),
    ]);
    for cell in confusion.mistakes().take(LISTED) {
        let examples: Vec<String> = cell.examples.iter().map(|&row| row.to_string()).collect();
        table.rows.push(vec![
            name(cell.truth),
            predicted(cell.predicted),
            count(cell.rows),
            percent(cell.rows as f64 / support(cell.truth).max(1) as f64),
            examples.join(", "),
        ]);
    }
    if !table.rows.is_empty() {
        blocks.push(Block::Table(table));
    }
    Some(Section { title: "What is taken for what".to_owned(), blocks })
}

fn labels(quality: &Quality) -> Section {
    let first = if quality.kind == Kind::Fields { "field" } else { "label" };
    let mut table = Table::new([
        (first, Align::Left),
        ("rows", Align::Right),
        ("predicted", Align::Right),
        ("right", Align::Right),
        ("precision", Align::Right),
        ("recall", Align::Right),
        ("F1", Align::Right),
    ]);
    let line = |of: &LabelQuality| {
        let name = quality.labels.get(of.label).map_or_else(String::new, |label| shortened(label, 80));
        let [precision, recall, f1] = [of.precision, of.recall, of.f1].map(percent_or_none);
        vec![name, count(of.support), count(of.predicted), count(of.right), precision, recall, f1]
    };
    table.rows = quality.per_label.iter().map(line).collect();
    let n = table.rows.len();
    let note = format!(
        "The most mistakes first. Precision: of the rows predicted as this {first}, the share that is. Recall: of the rows \
         that are, the share that was found. F1 is their harmonic mean."
    );
    let table = if n <= OPEN_LABELS {
        Block::Table(table)
    } else {
        Block::Folded { summary: format!("All {} {first}s", count(n)), table }
    };
    Section { title: format!("Each {first}"), blocks: vec![Block::Text(note), table] }
}

fn latency(latency: &LatencyQuality) -> Section {
    let of = &latency.percentiles;
    let caption = format!(
        "Half of the rows took at most {}, 99 of 100 at most {}, the slowest {}.",
        seconds(of.p50),
        seconds(of.p99),
        seconds(of.max)
    );
    let picture = Block::Picture { svg: svg::latency(latency), caption };
    Section { title: "How long a row takes".to_owned(), blocks: vec![picture] }
}
