use super::canvas::{Anchor, Canvas, Type, text_width};
use super::plot::{AXIS, MARK, Plot, percent_ticks};
use super::{CURVES, IntervalRow, MAX_CURVES};
use crate::quality::{CurvePoint, Selected};
use crate::text::{percent, shortened};

/// One system's trade between how much is answered and how much of that is wrong.
#[derive(Debug, Clone, Copy)]
pub struct RiskCurve<'a> {
    /// Whose it is.
    pub name: &'a str,
    /// By ascending coverage.
    pub points: &'a [CurvePoint],
    /// A threshold to mark.
    pub marked: Option<Selected>,
}

/// Where curves begin: before that, single rows make them jump.
const BEGIN: f64 = 0.02;

/// Risk-coverage curves (Geifman and El-Yaniv 2017), at most [`MAX_CURVES`] of them: further ones are left out. A baseline
/// that answers every row is a line across.
#[must_use]
pub fn risk_coverage(curves: &[RiskCurve<'_>], baseline: Option<IntervalRow<'_>>) -> String {
    let curves = &curves[..curves.len().min(MAX_CURVES)];
    let drawn = |curve: &RiskCurve<'_>| -> Vec<CurvePoint> {
        let last = curve.points.last().map_or(0.0, |point| point.coverage);
        curve.points.iter().filter(|point| point.coverage >= BEGIN.min(last)).copied().collect()
    };
    let lines: Vec<_> = curves.iter().map(drawn).collect();
    let across = baseline.map(|baseline| 1.0 - baseline.value.value);
    let highest = lines.iter().flatten().map(|point| point.risk).chain(across).fold(0.0, f64::max);
    let top = (highest * 1.12).clamp(0.02, 1.0);

    let mut legend: Vec<(String, String)> = Vec::new();
    if curves.len() > 1 || baseline.is_some() {
        let line = |i: usize| format!("stroke=\"{}\" stroke-width=\"3\"", CURVES[i]);
        legend.extend(curves.iter().enumerate().map(|(i, curve)| (line(i), shortened(curve.name, 36))));
    }
    if let Some((baseline, risk)) = baseline.zip(across) {
        legend.push((MARK.to_owned(), format!("{}: {} wrong", shortened(baseline.name, 24), percent(risk))));
    }
    let mut canvas = Canvas::new(640.0, 400.0 + legend.len().div_ceil(2) as f64 * 20.0);
    let plot = Plot { area: [48.0, 30.0, 572.0, 320.0], x: (0.0, 1.0), y: (0.0, top) };
    plot.y_axis(&mut canvas, &percent_ticks((0.0, top), 6.0), "share of the answers that is wrong");
    plot.x_axis(&mut canvas, &percent_ticks((0.0, 1.0), 5.0), "share of the rows that is answered, surest first");
    canvas.stroke((48.0, plot.area[1]), (48.0, plot.bottom()), AXIS);

    for (line, colour) in lines.iter().zip(CURVES) {
        let points = line.iter().map(|point| (plot.px(point.coverage), plot.py(point.risk)));
        canvas.path(points, format_args!("stroke=\"{colour}\" stroke-width=\"2.2\" stroke-linejoin=\"round\""));
        if let Some(end) = line.last() {
            canvas.dot((plot.px(end.coverage), plot.py(end.risk)), 3.0, format_args!("fill=\"{colour}\""));
        }
    }
    for (i, (line, name)) in legend.iter().enumerate() {
        let (x, y) = (48.0 + (i % 2) as f64 * 290.0, 408.0 + (i / 2) as f64 * 20.0);
        canvas.stroke((x, y - 4.0), (x + 22.0, y - 4.0), line);
        canvas.text((x + 30.0, y), Type::BODY, name);
    }
    if let Some(risk) = across {
        canvas.stroke((plot.area[0], plot.py(risk)), (plot.right(), plot.py(risk)), MARK);
    }
    for (i, curve) in curves.iter().enumerate() {
        let Some((selected, accuracy)) = curve.marked.and_then(|selected| Some((selected, selected.accuracy?))) else {
            continue;
        };
        let at = (plot.px(selected.coverage), plot.py(1.0 - accuracy.value));
        canvas.stroke(at, (at.0, plot.bottom()), MARK);
        let ring = format_args!("fill=\"{}\" stroke=\"currentColor\" stroke-width=\"1.5\"", CURVES[i]).to_string();
        canvas.dot(at, 5.5, ring);
        if curves.len() == 1 {
            let (coverage, wrong) = (percent(selected.coverage), percent(1.0 - accuracy.value));
            let said = format!("threshold {:.2}: {coverage} answered, {wrong} wrong", selected.threshold);
            // A curve rises to the right: there is room below on its right and above on its left.
            let (anchor, x, y) = if at.0 + 14.0 + text_width(&said, 12.0) < plot.right() {
                (Anchor::Start, at.0 + 14.0, (at.1 + 20.0).min(plot.bottom() - 8.0))
            } else {
                (Anchor::End, at.0 - 12.0, (at.1 - 12.0).max(plot.area[1] + 12.0))
            };
            canvas.text((x, y), Type { weight: 600, ..Type::BODY.at(anchor) }, &said);
        }
    }
    let read = |curve: &RiskCurve<'_>| {
        let all = curve.points.last().map_or_else(String::new, |point| {
            format!(" with {} answered {} are wrong", percent(point.coverage), percent(point.risk))
        });
        let half = curve.points.iter().rfind(|point| point.coverage <= 0.5);
        let half = half.map_or_else(String::new, |point| {
            format!(", with {} answered {}", percent(point.coverage), percent(point.risk))
        });
        format!("{}:{all}{half}.", shortened(curve.name, 60))
    };
    canvas.finish("Risk-coverage curve", &curves.iter().map(read).collect::<Vec<_>>().join(" "))
}
