//! What an evaluation prints.

use bantam_router::curve::{self, Figures, Measured};
use bantam_stats::intervals::{Bootstrap, BootstrapConfig};
use serde::Serialize;

use super::Judged;
use super::splits::Promises;
use crate::output;

/// One way of answering all requests.
#[derive(Debug, Clone, Serialize)]
struct Way {
    name: &'static str,
    quality: Bootstrap,
    /// The share of requests that the large model answers.
    large: f64,
    cost: Bootstrap,
}

/// The figures of one order of requests.
#[derive(Debug, Serialize)]
struct Ranked {
    name: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

/// APGR over splits by other hashes.
#[derive(Debug, Serialize)]
struct Splits {
    n: usize,
    mean: f64,
    deviation: f64,
    lowest: f64,
    highest: f64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    rows: usize,
    taught: Option<usize>,
    ways: Vec<Way>,
    ranked: Vec<Ranked>,
    splits: Option<Splits>,
    promises: Vec<Promises>,
}

impl Report {
    pub(super) fn new(
        judged: &Judged,
        measured: &[Measured],
        cascade: Option<&[Measured]>,
        splits: Vec<f64>,
        promises: Vec<Promises>,
    ) -> anyhow::Result<Self> {
        let config = BootstrapConfig::default();
        let way = |name, rows: &[(f64, f64, f64)]| -> anyhow::Result<Way> {
            let column = |of: fn(&(f64, f64, f64)) -> f64| rows.iter().map(of).collect::<Vec<_>>();
            Ok(Way {
                name,
                quality: curve::mean(&column(|row| row.1), &config)?,
                large: column(|row| row.0).iter().sum::<f64>() / rows.len() as f64,
                cost: curve::mean(&column(|row| row.2), &config)?,
            })
        };
        let at = |rows: &[Measured], threshold: f64| -> Vec<(f64, f64, f64)> {
            let all = curve::at_threshold(rows, threshold).into_iter();
            all.map(|(large, quality, cost)| (f64::from(u8::from(large)), quality, cost)).collect()
        };
        let routed = at(measured, judged.router.threshold().gain());
        let share = routed.iter().map(|row| row.0).sum::<f64>() / routed.len() as f64;
        let mix = |row: &Measured| {
            let of = |small: f64, large: f64| small + share * (large - small);
            (share, of(row.small, row.large), of(row.costs.small, row.costs.large))
        };
        let oracle: Vec<Measured> =
            measured.iter().map(|row| Measured { gain: row.large - row.small, ..*row }).collect();
        let mut ways = vec![
            way("all small", &at(measured, 2.0))?,
            way("all large", &at(measured, -2.0))?,
            way("random, as many large calls", &measured.iter().map(mix).collect::<Vec<_>>())?,
            way("router", &routed)?,
        ];
        if let (Some(rows), Some(of)) = (cascade, judged.router.cascade()) {
            ways.push(way("cascade", &at(rows, of.threshold().gain()))?);
        }
        ways.push(way("oracle", &at(&oracle, 0.0))?);
        let best = usize::from(ways[1].quality.estimate > ways[0].quality.estimate);
        let single = Way { name: "best single model", ..ways[best].clone() };
        ways.insert(2, single);
        let mut ranked = vec![Ranked { name: "router", figures: curve::figures(measured, &config)? }];
        if let Some(rows) = cascade {
            ranked.push(Ranked { name: "cascade", figures: curve::figures(rows, &config)? });
        }
        if let Some(gains) = &judged.neighbours {
            let rows: Vec<Measured> =
                measured.iter().zip(gains).map(|(row, gain)| Measured { gain: *gain, ..*row }).collect();
            ranked.push(Ranked { name: "kNN baseline", figures: curve::figures(&rows, &config)? });
        }
        ranked.push(Ranked { name: "oracle", figures: curve::figures(&oracle, &config)? });
        let taught = judged.taught.as_ref().map(|taught| taught.rows);
        Ok(Self { rows: measured.len(), taught, ways, ranked, splits: over(&splits), promises })
    }

    pub(super) fn text(&self) -> String {
        let percent = |of: &Bootstrap| {
            let (value, low, high) = (of.estimate, of.interval.lower, of.interval.upper);
            format!("{:.1}% [{:.1}, {:.1}]", 100.0 * value, 100.0 * low, 100.0 * high)
        };
        let number =
            |of: &Bootstrap| format!("{:.3} [{:.3}, {:.3}]", of.estimate, of.interval.lower, of.interval.upper);
        let taught = self.taught.map_or_else(String::new, |taught| format!("trained on {taught} rows, "));
        let headers = ["WAY", "QUALITY", "LARGE CALLS", "COST"];
        let ways = self.ways.iter().map(|way| {
            vec![way.name.to_owned(), percent(&way.quality), format!("{:.1}%", 100.0 * way.large), number(&way.cost)]
        });
        let mut said =
            format!("{taught}judged on {}\n\n{}", self.rows, output::table(&headers, &headers[1..], ways.collect()));
        let headers = ["ORDER", "APGR", "CPT50", "CPT80"];
        let mut ranked: Vec<Vec<String>> = (self.ranked.iter())
            .map(|row| {
                let figures = &row.figures;
                vec![row.name.to_owned(), number(&figures.apgr), percent(&figures.cpt50), percent(&figures.cpt80)]
            })
            .collect();
        ranked.push(["random", "0.500", "50.0%", "80.0%"].map(str::to_owned).to_vec());
        said.push_str(&format!("\n\n{}", output::table(&headers, &headers[1..], ranked)));
        if let Some(Splits { n, mean, deviation, lowest, highest }) = &self.splits {
            said.push_str(&format!(
                "\n\nAPGR over {n} further splits: mean {mean:.3}, standard deviation {deviation:.3}, from {lowest:.3} to {highest:.3}"
            ));
        }
        for held in &self.promises {
            said.push_str(&format!(
                "\n\n{}, losses promised to be at most {:.1}% of {} with confidence {}: of {} splits {} broke it ({} with the true share known), {} \
                 could promise nothing; on average {:.1}% of requests stay small, with {:.1}% losses",
                held.of,
                100.0 * held.bound.bound,
                match held.bound.of {
                    bantam_stats::risk::RiskOf::Accepted => "what the small model answers",
                    bantam_stats::risk::RiskOf::All => "all requests",
                },
                held.bound.confidence,
                held.splits,
                held.broken,
                held.broken_exact,
                held.refused,
                100.0 * held.kept,
                100.0 * held.losses,
            ));
        }
        said
    }
}

fn over(apgrs: &[f64]) -> Option<Splits> {
    let n = apgrs.len();
    let mean = apgrs.iter().sum::<f64>() / n as f64;
    let deviation = (apgrs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n.max(2) - 1) as f64).sqrt();
    let (lowest, highest) =
        apgrs.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
    (n > 0).then_some(Splits { n, mean, deviation, lowest, highest })
}
