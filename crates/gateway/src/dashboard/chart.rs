//! Pictures of figures over time. What is worked out here is drawn by `chart.html`, in colours of the style sheet; every picture has its figures
//! in a table beside it.

use std::fmt::Write;

use bantam_ledger::Timestamp;
use bantam_ledger::query::{Group, Sums};
use bantam_types::NanoDollars;

use super::format;
use super::range::Range;

/// Of the picture and of the area within the axes, in pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 240.0;
const RIGHT: f64 = 632.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 208.0;

/// Width of a character of a label where the picture is smallest and its text, measured in it, largest; and what is left free beside a label.
const CHARACTER: f64 = 12.0;
const GAP: f64 = 8.0;

/// Half the length of a value that has none beside it.
const ALONE: f64 = 4.0;

/// A picture with its figures.
pub(super) struct Chart {
    pub(super) title: &'static str,
    /// What is to be seen, in words.
    pub(super) summary: String,
    pub(super) lines: Vec<Line>,
    pub(super) x_ticks: Vec<Tick>,
    pub(super) y_ticks: Vec<Tick>,
    /// Where the axis is, right of its labels.
    pub(super) left: f64,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

/// A line of a picture.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// The style sheet's name for how it looks.
    pub(super) class: &'static str,
    pub(super) path: String,
}

/// A value at an axis.
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// How a line gets from one value to the next.
#[derive(Clone, Copy)]
enum Course {
    /// Straight; it is interrupted where there is no value.
    Straight,
    /// Level, and then a step.
    Steps,
}

impl Chart {
    pub(super) fn width(&self) -> f64 {
        WIDTH
    }
    pub(super) fn height(&self) -> f64 {
        HEIGHT
    }
    /// Where the labels of the axis end.
    pub(super) fn labels(&self) -> f64 {
        self.left - GAP
    }
    pub(super) fn right(&self) -> f64 {
        RIGHT
    }
    pub(super) fn top(&self) -> f64 {
        TOP
    }
    pub(super) fn bottom(&self) -> f64 {
        BOTTOM
    }
}

/// One slice of time and its sums, if there were requests.
struct Slice<'a> {
    start: Timestamp,
    sums: Option<&'a Sums>,
}

/// The pictures of a range: cost and saving, requests, latency.
pub(super) fn charts(range: Range, sums: &[Sums]) -> Vec<Chart> {
    let slices = slices(range, sums);
    vec![cost(range, &slices), requests(range, &slices), latency(range, &slices)]
}

/// Every slice of a range, in order, those without requests included.
fn slices(range: Range, sums: &[Sums]) -> Vec<Slice<'_>> {
    let (_, length) = range.slice();
    let (first, last) = (range.start().0.div_euclid(length), Timestamp::now().0.div_euclid(length));
    let of = |number: i64| sums.iter().find(|sums| sums.group.parse() == Ok(number));
    (first..=last).map(|n| Slice { start: Timestamp(n.saturating_mul(length)), sums: of(n) }).collect()
}

fn cost(range: Range, slices: &[Slice<'_>]) -> Chart {
    let (mut spent, mut without) = (NanoDollars::ZERO, NanoDollars::ZERO);
    let (mut spent_line, mut without_line, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for slice in slices {
        if let Some(sums) = slice.sums {
            spent = spent.plus(sums.compared_cost);
            without = without.plus(sums.counterfactual);
            rows.push(vec![
                format::moment(slice.start),
                format::money(sums.cost),
                format::money(sums.counterfactual),
                format::money(sums.counterfactual.minus(sums.compared_cost)),
            ]);
        }
        spent_line.push(Some(spent.dollars()));
        without_line.push(Some(without.dollars()));
    }
    let most = without.dollars().max(spent.dollars());
    let money = |dollars: f64| format::money(NanoDollars::from_dollars(dollars));
    let plot = Plot::new(range, slices, most, money);
    let summary = match rows.is_empty() {
        true => format!("No requests over {}.", range.words()),
        false => format!(
            "Over {}, requests with a counterfactual cost {} and would have cost {} without routing: a saving of {}.",
            range.words(),
            format::money(spent),
            format::money(without),
            format::saving(without.minus(spent), without),
        ),
    };
    Chart {
        title: "Cost, and what it would have been",
        summary,
        lines: vec![
            plot.line("without routing", "counterfactual", &without_line, Course::Steps),
            plot.line("cost", "cost", &spent_line, Course::Steps),
        ],
        x_ticks: plot.x_ticks(),
        left: plot.left,
        y_ticks: plot.y_ticks,
        head: vec!["From (UTC)", "Cost", "Without routing", "Saving"],
        rows,
    }
}

fn requests(range: Range, slices: &[Slice<'_>]) -> Chart {
    let values = |of: fn(&Sums) -> u64| -> Vec<Option<f64>> {
        slices.iter().map(|slice| Some(slice.sums.map_or(0, of) as f64)).collect()
    };
    let (all, failed) = (values(|sums| sums.requests), values(|sums| sums.failed));
    let total = |values: &[Option<f64>]| values.iter().flatten().sum::<f64>() as u64;
    let (sum, wrong) = (total(&all), total(&failed));
    let most = all.iter().flatten().copied().fold(0.0, f64::max);
    let plot = Plot::new(range, slices, most, |n| format::count(n.round() as u64));
    let rows = slices.iter().filter_map(|slice| {
        let sums = slice.sums?;
        Some(vec![format::moment(slice.start), format::count(sums.requests), format::count(sums.failed)])
    });
    Chart {
        title: "Requests",
        summary: match sum {
            0 => format!("No requests over {}.", range.words()),
            _ => format!(
                "{} requests over {}, of which {} failed ({}).",
                format::count(sum),
                range.words(),
                format::count(wrong),
                format::share(wrong, sum)
            ),
        },
        rows: rows.collect(),
        lines: vec![
            plot.line("all", "requests", &all, Course::Steps),
            plot.line("failed", "failed", &failed, Course::Steps),
        ],
        x_ticks: plot.x_ticks(),
        left: plot.left,
        y_ticks: plot.y_ticks,
        head: vec!["From (UTC)", "Requests", "Failed"],
    }
}

fn latency(range: Range, slices: &[Slice<'_>]) -> Chart {
    let answered = |slice: &Slice<'_>| slice.sums.map(|sums| sums.latency_us).filter(|of| of[2] > 0);
    let of = |which: usize| -> Vec<Option<f64>> {
        slices.iter().map(|slice| answered(slice).map(|quantiles| quantiles[which] as f64)).collect()
    };
    let most = of(2).into_iter().flatten().fold(0.0, f64::max);
    let plot = Plot::new(range, slices, most, |us| format::micros(us.round() as u64));
    let micros = |us: u64| format::micros(us);
    let rows: Vec<Vec<String>> = slices
        .iter()
        .filter_map(|slice| {
            let quantiles = answered(slice)?;
            Some(std::iter::once(format::moment(slice.start)).chain(quantiles.map(micros)).collect())
        })
        .collect();
    let slowest = slices.iter().filter_map(answered).map(|quantiles| quantiles[2]).max();
    let summary = match slowest {
        Some(slowest) => format!(
            "In the slowest part of {}, 99% of the requests took no longer than {}.",
            range.words(),
            micros(slowest)
        ),
        None => "No request was finished.".to_owned(),
    };
    Chart {
        title: "Latency",
        summary,
        lines: vec![
            plot.line("p99", "p99", &of(2), Course::Straight),
            plot.line("p95", "p95", &of(1), Course::Straight),
            plot.line("p50", "p50", &of(0), Course::Straight),
        ],
        x_ticks: plot.x_ticks(),
        left: plot.left,
        y_ticks: plot.y_ticks,
        head: vec!["From (UTC)", "p50", "p95", "p99"],
        rows,
    }
}

/// Where values are in a picture.
struct Plot {
    range: Range,
    starts: Vec<Timestamp>,
    /// The value at the upper end.
    most: f64,
    /// Where the axis is.
    left: f64,
    y_ticks: Vec<Tick>,
}

impl Plot {
    fn new(range: Range, slices: &[Slice<'_>], most: f64, label: impl Fn(f64) -> String) -> Self {
        // At the least one step: an axis from nothing to nothing has no place for anything.
        let step = if most > 0.0 { round_step(most / 4.0) } else { 1.0 };
        let steps = (most / step).ceil().max(1.0);
        let starts = slices.iter().map(|slice| slice.start).collect();
        let mut plot = Self { range, starts, most: steps * step, left: 0.0, y_ticks: Vec::new() };
        let label = |i: usize| match i {
            0 => "0".to_owned(),
            _ if most > 0.0 => label(i as f64 * step),
            _ => String::new(),
        };
        plot.y_ticks = (0..=steps as usize).map(|i| Tick { at: plot.y(i as f64 * step), label: label(i) }).collect();
        let longest = plot.y_ticks.iter().map(|tick| tick.label.chars().count()).max().unwrap_or(0);
        plot.left = longest as f64 * CHARACTER + GAP;
        plot
    }

    /// The left end of a slice.
    fn x(&self, slice: usize) -> f64 {
        self.left + (RIGHT - self.left) * slice as f64 / self.starts.len().max(1) as f64
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * (value / self.most).clamp(0.0, 1.0)
    }

    fn line(&self, name: &'static str, class: &'static str, values: &[Option<f64>], course: Course) -> Line {
        let mut path = String::new();
        let mut drawing = false;
        for (i, value) in values.iter().enumerate() {
            let Some(value) = value else {
                drawing = false;
                continue;
            };
            let y = self.y(*value);
            let alone = !drawing && values.get(i + 1).copied().flatten().is_none();
            let go = if drawing { 'L' } else { 'M' };
            // Writing to a string cannot fail.
            let _ = match course {
                Course::Steps => write!(path, "{go}{:.1} {y:.1}L{:.1} {y:.1}", self.x(i), self.x(i + 1)),
                Course::Straight => {
                    let x = (self.x(i) + self.x(i + 1)) / 2.0;
                    match alone {
                        true => write!(
                            path,
                            "M{:.1} {y:.1}L{:.1} {y:.1}",
                            (x - ALONE).max(self.left),
                            (x + ALONE).min(RIGHT)
                        ),
                        false => write!(path, "{go}{x:.1} {y:.1}"),
                    }
                }
            };
            drawing = true;
        }
        Line { name, class, path }
    }

    fn x_ticks(&self) -> Vec<Tick> {
        // Slices of an hour are named at round hours, those of a day by their date.
        let every = match self.range {
            Range::Hour => 10,
            Range::Day => 4,
            Range::Week => 24,
            Range::Month => 5,
        };
        let (group, length) = self.range.slice();
        let named = self.starts.iter().enumerate().filter(|(_, start)| start.0.div_euclid(length) % every == 0);
        named
            .map(|(i, start)| {
                let text = format::moment(*start);
                let part = if matches!(self.range, Range::Week) || group == Group::Day { 5..10 } else { 11..16 };
                Tick { at: self.x(i), label: text.get(part).unwrap_or_default().to_owned() }
            })
            .collect()
    }
}

/// The least of 1, 2, 5 times a power of ten that is not less.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let found = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * power).find(|step| *step >= least * 0.999_999);
    found.unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_cover_the_values() {
        for (least, step) in [(0.3, 0.5), (1.0, 1.0), (1.1, 2.0), (26.0, 50.0), (0.000_07, 0.000_1)] {
            assert!((round_step(least) / step - 1.0).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn a_range_without_requests_has_pictures_all_the_same() {
        for range in Range::ALL {
            for chart in charts(range, &[]) {
                assert!(
                    chart.rows.is_empty() && chart.y_ticks.len() >= 2 && chart.x_ticks.len() >= 4,
                    "{}",
                    chart.title
                );
                assert!(chart.lines.iter().all(|line| !line.path.contains("NaN")), "{}", chart.title);
            }
        }
    }

    #[test]
    fn figures_stay_within_the_picture() {
        let (_, length) = Range::Hour.slice();
        let now = Timestamp::now().0.div_euclid(length);
        let sums = |minute: i64, cost: i64| Sums {
            group: minute.to_string(),
            requests: 3,
            failed: 1,
            cost: NanoDollars(cost),
            compared_cost: NanoDollars(cost),
            counterfactual: NanoDollars(4 * cost),
            latency_us: [10, 20, 30],
            ..Sums::default()
        };
        let charts = charts(Range::Hour, &[sums(now - 7, 1_000_000), sums(now - 3, 2_000_000)]);
        assert!(charts[0].summary.contains("a saving of $0.009 (75%)"), "{}", charts[0].summary);
        assert!(charts[1].summary.starts_with("6 requests"), "{}", charts[1].summary);
        for line in charts.iter().flat_map(|chart| &chart.lines) {
            let numbers = line.path.split(['M', 'L', ' ']).filter_map(|n| n.parse::<f64>().ok());
            assert!(numbers.clone().count() > 2, "{}", line.path);
            assert!(numbers.into_iter().all(|n| (0.0..=WIDTH).contains(&n)), "{}", line.path);
        }
        assert_eq!(charts[0].rows.len(), 2);
        // Each of the two latencies is seen, though it has none beside it.
        assert!(charts[2].lines.iter().all(|line| line.path.matches('M').count() == 2 && line.path.contains('L')));
    }

    #[test]
    fn labels_have_their_place_left_of_the_axis() {
        let (_, length) = Range::Hour.slice();
        let minute = Timestamp::now().0.div_euclid(length).to_string();
        for nanos in [50_000, 120_000_000, 3_000_000_000_000] {
            let cost = NanoDollars(nanos);
            let sums = Sums { group: minute.clone(), compared_cost: cost, counterfactual: cost, ..Sums::default() };
            let chart = &charts(Range::Hour, &[sums])[0];
            let longest = chart.y_ticks.iter().map(|tick| tick.label.len()).max().unwrap_or(0);
            assert!(
                longest as f64 * CHARACTER <= chart.labels() && chart.left < WIDTH / 3.0,
                "{longest} {}",
                chart.left
            );
        }
    }
}
