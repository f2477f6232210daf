//! Pictures as SVG documents that need nothing else: no script, no style sheet, text as text. Words and lines take the
//! colour of the text around them, so that a picture works on a light page and on a dark one.

mod canvas;
mod confusion;
mod frontier;
mod intervals;
mod latency;
mod plot;
mod reliability;
mod risk;
mod staircase;

pub use confusion::confusion;
pub use frontier::{QualityCurve, accuracy_cost};
pub use intervals::{IntervalRow, intervals};
pub use latency::latency;
pub use reliability::reliability;
pub use risk::{RiskCurve, risk_coverage};
pub use staircase::{CostCurve, monthly_cost};

/// Colours that can be told apart by most people with a colour vision deficiency (after Wong 2011), on white and on black.
const BLUE: &str = "#2b78c2";
const ORANGE: &str = "#d9702a";
const CURVES: [&str; MAX_CURVES] = [BLUE, ORANGE, "#199276", "#9a5fb8", "#c0952a", "#7a7f87"];
/// Most curves in one picture.
pub const MAX_CURVES: usize = 6;
