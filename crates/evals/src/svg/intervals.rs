use super::canvas::{Anchor, Canvas, Type, text_width};
use super::plot::{MARK, Plot, percent_ticks};
use super::{BLUE, ORANGE};
use crate::quality::Estimate;
use crate::text::{estimate, shortened};

/// One line of [`intervals`].
#[derive(Debug, Clone, Copy)]
pub struct IntervalRow<'a> {
    /// What was measured.
    pub name: &'a str,
    /// A share.
    pub value: Estimate,
}

/// Shares side by side with their intervals, one below the other. A baseline, if given, is the first line, and a mark
/// through all of them.
#[must_use]
pub fn intervals(baseline: Option<IntervalRow<'_>>, rows: &[IntervalRow<'_>]) -> String {
    const LINE: f64 = 28.0;
    let lines: Vec<_> = baseline.iter().chain(rows).collect();
    let names: Vec<String> = lines.iter().map(|row| shortened(row.name, 34)).collect();
    let left = names.iter().map(|name| text_width(name, 12.0)).fold(60.0, f64::max) + 14.0;
    let height = lines.len() as f64 * LINE;
    let lowest = lines.iter().map(|row| row.value.lower).fold(1.0, f64::min);
    let highest = lines.iter().map(|row| row.value.upper).fold(0.0, f64::max);
    let spare = ((highest - lowest) * 0.06).max(0.01);
    let range = ((lowest - spare).max(0.0), (highest + spare).min(1.0));

    let mut canvas = Canvas::new(760.0, height + 64.0);
    let plot = Plot { area: [left, 12.0, 760.0 - left - 150.0, height], x: range, y: (0.0, 1.0) };
    plot.x_axis(&mut canvas, &percent_ticks(range, 6.0), "share of the rows that is right, with its 95% interval");
    if let Some(baseline) = baseline {
        let x = plot.px(baseline.value.value);
        canvas.stroke((x, 12.0), (x, plot.bottom()), MARK);
    }
    for (i, (row, name)) in lines.iter().zip(&names).enumerate() {
        let y = 12.0 + (i as f64 + 0.5) * LINE;
        let colour = if baseline.is_some() && i == 0 { ORANGE } else { BLUE };
        let weight = if baseline.is_some() && i == 0 { 600 } else { 400 };
        canvas.text((left - 12.0, y + 4.0), Type { weight, ..Type::BODY.at(Anchor::End) }, name);
        let ends = ((plot.px(row.value.lower), y), (plot.px(row.value.upper), y));
        canvas.stroke(ends.0, ends.1, format_args!("stroke=\"{colour}\" stroke-width=\"5\" stroke-opacity=\"0.35\""));
        canvas.dot((plot.px(row.value.value), y), 5.0, format_args!("fill=\"{colour}\""));
        canvas.text((plot.right() + 14.0, y + 4.0), Type::BODY, &estimate(&row.value));
    }
    let read: Vec<_> =
        lines.iter().map(|row| format!("{}: {}", shortened(row.name, 60), estimate(&row.value))).collect();
    canvas.finish("Accuracies with intervals", &read.join("; "))
}
