use super::canvas::{Anchor, Canvas, Type};

pub(super) const GRID: &str = "stroke=\"currentColor\" stroke-opacity=\"0.13\"";
pub(super) const AXIS: &str = "stroke=\"currentColor\" stroke-opacity=\"0.5\"";
pub(super) const MARK: &str = "stroke=\"currentColor\" stroke-opacity=\"0.6\" stroke-dasharray=\"4 3\"";

/// A rectangle with two axes: `[left, top, width, height]` in pixels, and the values at its edges.
pub(super) struct Plot {
    pub(super) area: [f64; 4],
    pub(super) x: (f64, f64),
    pub(super) y: (f64, f64),
}

/// A value at an axis and how it reads.
pub(super) type Tick = (f64, String);

impl Plot {
    pub(super) fn px(&self, x: f64) -> f64 {
        let [left, _, width, _] = self.area;
        left + width * ((x - self.x.0) / (self.x.1 - self.x.0)).clamp(0.0, 1.0)
    }

    pub(super) fn py(&self, y: f64) -> f64 {
        let [_, top, _, height] = self.area;
        top + height * (1.0 - ((y - self.y.0) / (self.y.1 - self.y.0)).clamp(0.0, 1.0))
    }

    pub(super) fn bottom(&self) -> f64 {
        self.area[1] + self.area[3]
    }

    pub(super) fn right(&self) -> f64 {
        self.area[0] + self.area[2]
    }

    /// Vertical lines with what they stand for below.
    pub(super) fn x_axis(&self, canvas: &mut Canvas, ticks: &[Tick], name: &str) {
        let [left, top, width, _] = self.area;
        for (value, label) in ticks {
            let x = self.px(*value);
            canvas.stroke((x, top), (x, self.bottom()), GRID);
            canvas.text((x, self.bottom() + 16.0), Type::SOFT.at(Anchor::Middle), label);
        }
        canvas.stroke((left, self.bottom()), (left + width, self.bottom()), AXIS);
        canvas.text((left + width / 2.0, self.bottom() + 36.0), Type::BODY.at(Anchor::Middle), name);
    }

    /// Horizontal lines with what they stand for on the left, and the name of the axis above.
    pub(super) fn y_axis(&self, canvas: &mut Canvas, ticks: &[Tick], name: &str) {
        let [left, top, width, _] = self.area;
        for (value, label) in ticks {
            let y = self.py(*value);
            canvas.stroke((left, y), (left + width, y), GRID);
            canvas.text((left - 8.0, y + 4.0), Type::SOFT.at(Anchor::End), label);
        }
        canvas.text((0.0, top - 12.0), Type::BODY, name);
    }
}

/// The step of 1, 2 or 5 times a power of ten that cuts `span` into at most `parts`.
pub(super) fn step(span: f64, parts: f64) -> f64 {
    let least = span / parts;
    let power = libm::pow(10.0, libm::floor(libm::log10(least)));
    let factors = [1.0, 2.0, 5.0, 10.0];
    factors.iter().map(|factor| factor * power).find(|step| *step >= least * 0.999_999).unwrap_or(10.0 * power)
}

/// Shares at even steps within `(low, high)`, as percentages.
pub(super) fn percent_ticks((low, high): (f64, f64), parts: f64) -> Vec<Tick> {
    let step = step(high - low, parts);
    let decimals = usize::from(step < 0.009_99) + usize::from(step < 0.000_999);
    let first = libm::ceil(low / step - 1e-6);
    let values = (0..50).map(|i| (first + f64::from(i)) * step).take_while(|value| *value <= high + step * 1e-6);
    values.map(|value| (value, format!("{:.decimals$}%", value * 100.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let read = |range, parts| percent_ticks(range, parts).into_iter().map(|tick| tick.1).collect::<Vec<_>>();
        assert_eq!(read((0.0, 1.0), 5.0), ["0%", "20%", "40%", "60%", "80%", "100%"]);
        assert_eq!(read((0.0, 0.02), 5.0), ["0.0%", "0.5%", "1.0%", "1.5%", "2.0%"]);
        assert_eq!(read((0.873, 0.961), 5.0), ["88%", "90%", "92%", "94%", "96%"]);
    }
}
