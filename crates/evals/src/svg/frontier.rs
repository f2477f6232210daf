use super::canvas::{Anchor, Canvas, Type};
use super::plot::{AXIS, Plot, percent_ticks, step};
use super::{CURVES, MAX_CURVES};
use crate::text::{percent, shortened};

/// One way of routing, as cost and quality.
#[derive(Debug, Clone, Copy)]
pub struct QualityCurve<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Mean cost and mean quality (0 to 1), by ascending cost; a single point is drawn as a dot.
    pub points: &'a [(f64, f64)],
}

/// Accuracy-cost curves, at most [`MAX_CURVES`] of them. `axis` says what a cost is.
#[must_use]
pub fn accuracy_cost(curves: &[QualityCurve<'_>], axis: &str) -> String {
    let curves = &curves[..curves.len().min(MAX_CURVES)];
    let all = || curves.iter().flat_map(|curve| curve.points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let range = |of: fn(&(f64, f64)) -> f64| {
        all().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let wide = |(low, high): (f64, f64)| {
        let room = ((high - low) * 0.06).max(1e-9);
        if low <= high { (low - room, high + room) } else { (0.0, 1.0) }
    };
    let (x, y) = (wide(range(|point| point.0)), wide(range(|point| point.1)));
    let mut canvas = Canvas::new(640.0, 400.0 + curves.len().div_ceil(2) as f64 * 20.0);
    let plot = Plot { area: [56.0, 30.0, 564.0, 320.0], x, y };
    plot.y_axis(&mut canvas, &percent_ticks(y, 6.0), "quality of the answers");
    let by = step(x.1 - x.0, 6.0);
    let first = libm::ceil(x.0 / by - 1e-9);
    let decimals = (-libm::floor(libm::log10(by))).clamp(0.0, 9.0) as usize;
    let values = (0..20).map(|i| (first + f64::from(i)) * by).take_while(|value| *value <= x.1);
    let ticks: Vec<_> = values.map(|value| (value, format!("{value:.decimals$}"))).collect();
    plot.x_axis(&mut canvas, &ticks, axis);
    canvas.stroke((56.0, plot.area[1]), (56.0, plot.bottom()), AXIS);
    for (i, (curve, colour)) in curves.iter().zip(CURVES).enumerate() {
        let at = |point: &(f64, f64)| (plot.px(point.0), plot.py(point.1));
        if curve.points.len() > 1 {
            let line = format_args!("stroke=\"{colour}\" stroke-width=\"2.2\" stroke-linejoin=\"round\"").to_string();
            canvas.path(curve.points.iter().map(at), line);
        } else if let Some(point) = curve.points.first() {
            canvas.dot(at(point), 5.0, format_args!("fill=\"{colour}\""));
        }
        let (x, y) = (56.0 + (i % 2) as f64 * 290.0, 408.0 + (i / 2) as f64 * 20.0);
        canvas.stroke((x, y - 4.0), (x + 22.0, y - 4.0), format_args!("stroke=\"{colour}\" stroke-width=\"3\""));
        canvas.text((x + 30.0, y), Type::BODY.at(Anchor::Start), &shortened(curve.name, 36));
    }
    let read = |curve: &QualityCurve<'_>| {
        let ends = curve.points.first().zip(curve.points.last());
        ends.map_or_else(String::new, |(first, last)| {
            let name = shortened(curve.name, 60);
            format!("{name}: {} at {:.3}, {} at {:.3}.", percent(first.1), first.0, percent(last.1), last.0)
        })
    };
    canvas.finish("Accuracy-cost curve", &curves.iter().map(read).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_and_single_points_are_drawn_and_said() {
        let router = [(0.0, 0.5), (0.5, 0.8), (1.0, 0.9)];
        let picture = accuracy_cost(
            &[
                QualityCurve { name: "a <router>", points: &router },
                QualityCurve { name: "oracle", points: &[(0.4, 0.95)] },
            ],
            "share of large calls",
        );
        assert!(picture.contains("a &lt;router&gt;: 50.0% at 0.000, 90.0% at 1.000."), "{picture}");
        assert_eq!((picture.matches("<path").count(), picture.matches("<circle").count()), (1, 1));
        let mut reader = quick_xml::Reader::from_str(&picture);
        while !matches!(reader.read_event().unwrap(), quick_xml::events::Event::Eof) {}
        assert!(!accuracy_cost(&[QualityCurve { name: "one", points: &[(0.0, 0.5)] }], "x").contains("NaN"));
        assert!(!accuracy_cost(&[], "x").contains("NaN"));
    }
}
