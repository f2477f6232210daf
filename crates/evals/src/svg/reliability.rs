use super::BLUE;
use super::canvas::{Anchor, Canvas, Type};
use super::plot::{AXIS, MARK, Plot, percent_ticks};
use crate::quality::{BINS, ConfidenceQuality, Estimate};
use crate::text::{count, counted, estimate, percent};

/// How often predictions of each confidence are right, with exact 95 % intervals, over how many rows there are of each.
#[must_use]
pub fn reliability(confidence: &ConfidenceQuality) -> String {
    let mut canvas = Canvas::new(480.0, 470.0);
    let range = (0.0, 1.0);
    let shares = Plot { area: [48.0, 30.0, 410.0, 270.0], x: range, y: range };
    let ticks = percent_ticks(range, 5.0);
    shares.y_axis(&mut canvas, &ticks, "share that is right");
    shares.x_axis(&mut canvas, &[], "");
    canvas.stroke((shares.px(0.0), shares.py(0.0)), (shares.px(1.0), shares.py(1.0)), MARK);
    canvas.text((shares.right(), 18.0), Type::SOFT.at(Anchor::End), "dashed: as it should be");

    let most = confidence.bins.iter().map(|bin| bin.rows).max().unwrap_or(1);
    let rows = Plot { area: [48.0, 340.0, 410.0, 80.0], x: range, y: (0.0, most as f64 * 1.25) };
    rows.x_axis(&mut canvas, &ticks, "confidence");
    canvas.text((0.0, 332.0), Type::BODY, "rows");

    let width = 1.0 / BINS as f64;
    for bin in &confidence.bins {
        // Bins hold their upper edge.
        let index = ((bin.confidence * BINS as f64 - 1e-9).ceil().max(1.0) - 1.0).min(BINS as f64 - 1.0);
        let (left, right) = (rows.px(index * width) + 2.0, rows.px((index + 1.0) * width) - 2.0);
        let top = rows.py(bin.rows as f64);
        let said = format!(
            "{}, confidence from {} to {}",
            counted(bin.rows, "row", "rows"),
            percent(bin.lowest),
            percent(bin.highest)
        );
        let fill = format_args!("fill=\"{BLUE}\" fill-opacity=\"0.55\"").to_string();
        canvas.rect([left, top, right - left, rows.bottom() - top], fill, Some(&said));
        canvas.text(
            ((left + right) / 2.0, top - 4.0),
            Type { size: 10.0, ..Type::SOFT.at(Anchor::Middle) },
            &count(bin.rows),
        );

        let right_rows = (bin.accuracy * bin.rows as f64).round() as usize;
        let Ok(Some(share)) = Estimate::share(right_rows, bin.rows) else { continue };
        let x = shares.px(bin.confidence);
        let whisker = format_args!("stroke=\"{BLUE}\" stroke-opacity=\"0.5\" stroke-width=\"3\"").to_string();
        canvas.stroke((x, shares.py(share.lower)), (x, shares.py(share.upper)), whisker);
    }
    let points = confidence.bins.iter().map(|bin| (shares.px(bin.confidence), shares.py(bin.accuracy)));
    canvas.path(points.clone(), format_args!("stroke=\"{BLUE}\" stroke-width=\"1.5\""));
    points.for_each(|point| canvas.dot(point, 4.0, format_args!("fill=\"{BLUE}\"")));
    canvas.stroke((48.0, shares.area[1]), (48.0, shares.bottom()), AXIS);

    let read = confidence.bins.iter().map(|bin| {
        let right = (bin.accuracy * bin.rows as f64).round() as usize;
        let share = Estimate::share(right, bin.rows).ok().flatten();
        let share = share.map_or_else(|| percent(bin.accuracy), |share| estimate(&share));
        format!("at confidence {} {share} of {} right", percent(bin.confidence), counted(bin.rows, "row", "rows"))
    });
    canvas.finish("Reliability diagram", &format!("{}.", read.collect::<Vec<_>>().join("; ")))
}
