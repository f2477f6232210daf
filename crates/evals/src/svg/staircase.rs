use super::canvas::{Anchor, Canvas, Type, text_width};
use super::plot::{AXIS, MARK, Plot, Tick, step};
use super::{CURVES, MAX_CURVES};
use crate::text::{count, dollars, shortened};

/// What something costs a month, by requests a day.
#[derive(Debug, Clone, Copy)]
pub struct CostCurve<'a> {
    /// Whose it is.
    pub name: &'a str,
    /// Requests a day and dollars a month, neither ever descending; the curve is straight between two corners.
    pub corners: &'a [(f64, f64)],
}

/// How many times as high as the first curve the picture is at most; what rises above that leaves it.
const HEADROOM: f64 = 5.0;

/// Monthly cost by volume: machines, which come whole, are staircases, what is paid by the request is a line. At most [`MAX_CURVES`]:
/// further ones are left out. The first curve is the one that the picture is about; `volume` is marked.
#[must_use]
pub fn monthly_cost(curves: &[CostCurve<'_>], volume: f64) -> String {
    let curves = &curves[..curves.len().min(MAX_CURVES)];
    let last = |curve: &CostCurve<'_>| curve.corners.last().copied().unwrap_or((0.0, 0.0));
    let to = curves.iter().map(|curve| last(curve).0).fold(volume, f64::max).max(1.0);
    let highest = curves.iter().map(|curve| last(curve).1).fold(0.0, f64::max);
    let first = curves.first().map_or(highest, |curve| last(curve).1);
    let top = (1.08 * highest.min(HEADROOM * first)).max(1.0);

    let mut canvas = Canvas::new(640.0, 404.0 + curves.len().div_ceil(2) as f64 * 20.0);
    let plot = Plot { area: [64.0, 34.0, 540.0, 316.0], x: (0.0, to), y: (0.0, top) };
    plot.y_axis(&mut canvas, &ticks(top, 6.0, dollars), "dollars a month");
    plot.x_axis(&mut canvas, &ticks(to, 5.0, |value| count(value.round() as u64)), "requests a day");
    canvas.stroke((plot.area[0], plot.area[1]), (plot.area[0], plot.bottom()), AXIS);

    canvas.stroke((plot.px(volume), plot.area[1]), (plot.px(volume), plot.bottom()), MARK);
    let said = format!("{} a day", count(volume.round() as u64));
    let half = text_width(&said, 11.0) / 2.0;
    let x = plot.px(volume).clamp(plot.area[0] + half, plot.right() - half);
    canvas.text((x, plot.area[1] - 6.0), Type::SOFT.at(Anchor::Middle), &said);
    for (curve, colour) in curves.iter().zip(CURVES) {
        let points = cut(curve.corners, top);
        let points = points.iter().map(|(x, y)| (plot.px(*x), plot.py(*y)));
        canvas.path(points, format_args!("stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\""));
    }
    for (i, (curve, colour)) in curves.iter().zip(CURVES).enumerate() {
        let (x, y) = (plot.area[0] + (i % 2) as f64 * 282.0, 412.0 + (i / 2) as f64 * 20.0);
        canvas.stroke((x, y - 4.0), (x + 22.0, y - 4.0), format_args!("stroke=\"{colour}\" stroke-width=\"3\""));
        canvas.text((x + 30.0, y), Type::BODY, &shortened(curve.name, 34));
    }
    let read = |curve: &CostCurve<'_>| {
        let (at, cost) = last(curve);
        format!("{}: {} at {} requests a day.", shortened(curve.name, 60), dollars(cost), count(at.round() as u64))
    };
    canvas.finish("Monthly cost by volume", &curves.iter().map(read).collect::<Vec<_>>().join(" "))
}

/// A rising curve up to where it leaves the picture.
fn cut(corners: &[(f64, f64)], top: f64) -> Vec<(f64, f64)> {
    let inside = corners.iter().take_while(|corner| corner.1 <= top).count();
    let mut points = corners[..inside].to_vec();
    if let (Some((x0, y0)), Some((x1, y1))) = (points.last().copied(), corners.get(inside)) {
        points.push((x0 + (x1 - x0) * (top - y0) / (y1 - y0), top));
    }
    points
}

/// Round values from 0.
fn ticks(high: f64, parts: f64, read: impl Fn(f64) -> String) -> Vec<Tick> {
    let step = step(high, parts);
    (0..50).map(|i| f64::from(i) * step).take_while(|value| *value <= high).map(|value| (value, read(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rises_out_of_the_picture_ends_at_its_edge() {
        assert_eq!(cut(&[(0.0, 0.0), (10.0, 20.0)], 5.0), [(0.0, 0.0), (2.5, 5.0)]);
        assert_eq!(cut(&[(0.0, 1.0), (4.0, 1.0), (4.0, 9.0), (6.0, 9.0)], 5.0), [(0.0, 1.0), (4.0, 1.0), (4.0, 5.0)]);
        assert_eq!(cut(&[(0.0, 1.0), (4.0, 2.0)], 5.0), [(0.0, 1.0), (4.0, 2.0)]);
        assert!(cut(&[(0.0, 9.0)], 5.0).is_empty());
    }

    #[test]
    fn names_are_escaped_and_nothing_at_all_is_a_picture_too() {
        let drawn = monthly_cost(&[CostCurve { name: "<box>", corners: &[(0.0, 80.0), (100.0, 160.0)] }], 50.0);
        assert!(drawn.contains("&lt;box&gt;") && !drawn.contains("<box>") && drawn.contains("50 a day"));
        assert!(monthly_cost(&[], 0.0).starts_with("<svg"));
    }
}
