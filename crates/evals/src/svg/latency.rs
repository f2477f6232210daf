use super::BLUE;
use super::canvas::{Anchor, Canvas, Type, text_width};
use super::plot::{MARK, Plot, Tick, percent_ticks};
use crate::quality::LatencyQuality;
use crate::text::{counted, seconds};

/// How long rows took, on a logarithmic scale, with the median and the slow tail marked.
#[must_use]
pub fn latency(latency: &LatencyQuality) -> String {
    let log = |seconds: f64| libm::log10(seconds.max(1e-6));
    let (first, last) = (latency.bins.first(), latency.bins.last());
    let (low, high) = (first.map_or(-3.0, |bin| log(bin.from)), last.map_or(0.0, |bin| log(bin.to)));
    // A single time still gets a scale around it.
    let spare = ((high - low) * 0.02).max((0.3 - (high - low)) / 2.0);
    let share = |rows: usize| rows as f64 / latency.rows.max(1) as f64;
    let most = latency.bins.iter().map(|bin| share(bin.rows)).fold(0.0, f64::max);

    let mut canvas = Canvas::new(640.0, 320.0);
    let plot =
        Plot { area: [48.0, 70.0, 572.0, 200.0], x: (low - spare, high + spare), y: (0.0, (most * 1.1).max(0.01)) };
    plot.y_axis(&mut canvas, &percent_ticks(plot.y, 4.0), "");
    canvas.text((0.0, 14.0), Type::BODY, "share of the rows");
    plot.x_axis(&mut canvas, &time_ticks(plot.x), "time per row (logarithmic)");
    for bin in latency.bins.iter().filter(|bin| bin.rows > 0) {
        let (left, right) = (plot.px(log(bin.from)), plot.px(log(bin.to)));
        let top = plot.py(share(bin.rows));
        let said = format!("{} from {} to {}", counted(bin.rows, "row", "rows"), seconds(bin.from), seconds(bin.to));
        let area = [left + 0.5, top, right - left - 1.0, plot.bottom() - top];
        canvas.rect(area, format_args!("fill=\"{BLUE}\" fill-opacity=\"0.75\""), Some(&said));
    }
    let of = &latency.percentiles;
    let marks = [("half within", of.p50), ("95% within", of.p95), ("99% within", of.p99)];
    for (i, (name, value)) in marks.iter().enumerate() {
        let (x, y) = (plot.px(log(*value)), 28.0 + i as f64 * 15.0);
        canvas.stroke((x, y + 4.0), (x, plot.bottom()), MARK);
        let said = format!("{name} {}", seconds(*value));
        let half = text_width(&said, 11.0) / 2.0;
        let style = Type { opacity: 1.0, ..Type::SOFT.at(Anchor::Middle) };
        canvas.text((x.clamp(plot.area[0] + half, plot.right() - half), y), style, &said);
    }
    let read = marks.map(|(name, value)| format!("{name} {}", seconds(value))).join(", ");
    canvas.finish(
        "Latency distribution",
        &format!("{}: {read}, the slowest {}.", counted(latency.rows, "row", "rows"), seconds(of.max)),
    )
}

/// 1, 2 and 5 times powers of ten, or only some of them where there are many; `low` and `high` are logarithms.
fn time_ticks((low, high): (f64, f64)) -> Vec<Tick> {
    let factors: &[f64] = match high - low {
        ..1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        ..2.5 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let powers = (low.floor() as i32)..=(high.ceil() as i32);
    let values = powers.flat_map(|power| factors.iter().map(move |factor| factor * libm::pow(10.0, f64::from(power))));
    let ticks = values.map(|value| (libm::log10(value), brief(value)));
    ticks.filter(|(at, _)| (low..=high).contains(at)).collect()
}

/// A round time without needless zeros.
fn brief(value: f64) -> String {
    let (value, unit) = match value {
        ..0.999e-3 => (value * 1e6, "µs"),
        ..0.999 => (value * 1e3, "ms"),
        _ => (value, "s"),
    };
    format!("{} {unit}", super::canvas::Px(value))
}
