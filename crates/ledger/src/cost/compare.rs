//! Offers side by side.

use serde::Serialize;

use super::CostError;
use super::curve::{Crossing, Curve};
use super::offers::{Kind, Offer, Supply};
use super::scenario::Scenario;
pub use super::sensitivity::{Sensitivity, Swing};

/// Stairs up to which a staircase is drawn as one.
const MAX_DRAWN: u32 = 400;

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The work and the plan.
    pub scenario: &'a Scenario,
    /// What can do it.
    pub offers: &'a [Offer],
    /// The hosted model that is paid today; by default the first large one.
    pub baseline: Option<&'a str>,
    /// What is asked about; by default the cheapest machine that can do the work.
    pub candidate: Option<&'a str>,
    /// By which share each assumption is moved up and down.
    pub change: f64,
}

/// Offers side by side, with what the comparison rests on.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The work and the plan.
    pub scenario: Scenario,
    /// The name of what is paid today.
    pub baseline: String,
    /// The name of what is asked about.
    pub candidate: String,
    /// What the candidate costs once, in dollars.
    pub one_off_dollars: f64,
    /// One per offer; those that can do the work first, the cheapest first.
    pub rows: Vec<Row>,
    /// Which assumption matters most.
    pub sensitivity: Sensitivity,
    /// Everything that was taken for granted.
    pub assumptions: Vec<Assumption>,
    #[serde(skip)]
    curves: Vec<Curve>,
}

/// One offer.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Why it cannot do the work, if it cannot.
    pub unfit: Option<String>,
    /// What it costs a month, if it can.
    pub monthly: Option<Monthly>,
    /// From which volume on the candidate is cheaper than this.
    pub break_even: BreakEven,
    /// Months until the candidate has paid for what it costs once, by costing less than this; nothing if it does not.
    pub payback_months: Option<f64>,
}

/// A month at the workload's volume.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Monthly {
    /// All of it, in dollars.
    pub dollars: f64,
    /// For a thousand requests.
    pub per_thousand_requests: f64,
    /// Whole machines, spare ones included.
    pub machines: Option<u64>,
    /// How much of the needed machines' planned capacity is used in the busiest hour.
    pub used: Option<f64>,
}

/// From how many requests a day on the candidate is no dearer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum BreakEven {
    /// This is the candidate.
    Itself,
    /// At any volume.
    Always,
    /// At none.
    Never,
    /// From a volume on.
    From {
        /// The least with which it is no dearer; right after the next machine it may be, once more.
        requests_per_day: f64,
        /// From here on it stays so, if there is such a volume.
        steady: Option<f64>,
    },
    /// This cannot do the work.
    Unfit,
}

/// Something taken for granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assumption {
    /// About what.
    pub about: String,
    /// What.
    pub what: String,
}

/// A curve's corners: requests a day and dollars a month.
#[derive(Clone, Debug, PartialEq)]
pub struct Staircase {
    /// The offer.
    pub name: String,
    /// By ascending volume; between two the curve is straight.
    pub corners: Vec<(f64, f64)>,
}

/// Sets offers side by side.
///
/// # Errors
/// If the scenario cannot work, a name is not among the offers, the baseline is no hosted model, or no machine can do the work.
pub fn compare(question: Question<'_>) -> Result<Comparison, CostError> {
    let Question { scenario, offers, .. } = question;
    scenario.check()?;
    if !(question.change > 0.0 && question.change < 1.0) {
        return Err(CostError::field(
            "change",
            format!("{} cannot be; give a share over 0 and below 1", question.change),
        ));
    }
    let baseline = baseline(offers, question.baseline)?;
    let escalated = baseline.per_request(scenario);
    let volume = scenario.workload.requests_per_day;
    let candidate = candidate(question, escalated)?;
    let curve = candidate.curve(scenario, escalated);
    let one_off_dollars = if candidate.kind.is_machine() { scenario.plan.one_off_dollars() } else { 0.0 };

    let mut rows: Vec<(Row, Curve)> = offers
        .iter()
        .map(|offer| {
            let other = offer.curve(scenario, escalated);
            let unfit = offer.unfit(scenario);
            let saved = other.at(volume) - curve.at(volume);
            let break_even = match &unfit {
                _ if offer.name == candidate.name => BreakEven::Itself,
                Some(_) => BreakEven::Unfit,
                None => crossing(&curve, &other),
            };
            let pays = saved > 0.0 && !matches!(break_even, BreakEven::Itself | BreakEven::Unfit);
            let row = Row {
                name: offer.name.clone(),
                kind: offer.kind,
                monthly: unfit.is_none().then(|| monthly(&other, scenario)),
                unfit,
                break_even,
                payback_months: pays.then(|| one_off_dollars / saved),
            };
            (row, other)
        })
        .collect();
    let dollars = |row: &Row| row.monthly.map_or(f64::INFINITY, |monthly| monthly.dollars);
    rows.sort_by(|a, b| dollars(&a.0).total_cmp(&dollars(&b.0)));
    let (rows, curves) = rows.into_iter().unzip();
    Ok(Comparison {
        scenario: scenario.clone(),
        baseline: baseline.name.clone(),
        candidate: candidate.name.clone(),
        one_off_dollars,
        rows,
        sensitivity: Sensitivity::new(scenario, baseline, candidate, question.change),
        assumptions: assumptions(scenario, offers),
        curves,
    })
}

fn named<'a>(offers: &'a [Offer], name: &str) -> Result<&'a Offer, CostError> {
    offers.iter().find(|offer| offer.name == name).ok_or_else(|| {
        let known: Vec<String> = offers.iter().map(|offer| format!("`{}`", offer.name)).collect();
        CostError::NoOffer { name: name.to_owned(), known: known.join(", ") }
    })
}

fn baseline<'a>(offers: &'a [Offer], name: Option<&str>) -> Result<&'a Offer, CostError> {
    let found = match name {
        Some(name) => Some(named(offers, name)?),
        None => offers.iter().find(|offer| offer.kind == Kind::HostedLlm),
    };
    found.filter(|offer| matches!(offer.supply, Supply::Tokens { .. })).ok_or_else(|| {
        CostError::field("baseline", "there is no such hosted model; name one that is paid by the token")
    })
}

fn candidate<'a>(question: Question<'a>, escalated: f64) -> Result<&'a Offer, CostError> {
    let Question { scenario, offers, .. } = question;
    if let Some(name) = question.candidate {
        let offer = named(offers, name)?;
        return match offer.unfit(scenario) {
            Some(why) => Err(CostError::field("candidate", format!("`{name}` cannot do this work: {why}"))),
            None => Ok(offer),
        };
    }
    let machines = offers.iter().filter(|offer| offer.kind.is_machine());
    let cost = |offer: &Offer| offer.curve(scenario, escalated).at(scenario.workload.requests_per_day);
    let fit = machines.clone().filter(|offer| offer.unfit(scenario).is_none());
    fit.min_by(|a, b| cost(a).total_cmp(&cost(b))).ok_or_else(|| {
        let why = machines.filter_map(|offer| Some(format!("  {}: {}", offer.name, offer.unfit(scenario)?)));
        CostError::NoneFits { why: why.collect::<Vec<_>>().join("\n") }
    })
}

fn monthly(curve: &Curve, scenario: &Scenario) -> Monthly {
    let volume = scenario.workload.requests_per_day;
    let dollars = curve.at(volume);
    let needed = curve.machines.map(|stairs| (stairs.needed(volume), stairs.capacity));
    Monthly {
        dollars,
        per_thousand_requests: dollars / (volume * super::scenario::DAYS_PER_MONTH) * 1000.0,
        machines: needed.map(|(needed, _)| needed as u64 + u64::from(scenario.plan.spare_machines)),
        used: needed.map(|(needed, capacity)| volume / (needed * capacity)),
    }
}

fn crossing(candidate: &Curve, other: &Curve) -> BreakEven {
    match candidate.crossing(other) {
        Crossing::Always => BreakEven::Always,
        Crossing::Never => BreakEven::Never,
        Crossing::From { first, steady } => BreakEven::From { requests_per_day: first, steady },
    }
}

impl Comparison {
    /// The curves worth drawing, at most six: the candidate, the baseline, and the cheapest of each kind. Up to twice the volume, or to
    /// where the candidate breaks even with the baseline, if that is not far beyond.
    #[must_use]
    pub fn staircases(&self) -> Vec<Staircase> {
        let volume = self.scenario.workload.requests_per_day;
        let row = |name: &str| self.rows.iter().position(|row| row.name == name);
        let beyond = row(&self.baseline).and_then(|at| match self.rows[at].break_even {
            BreakEven::From { requests_per_day, .. } => Some(1.5 * requests_per_day).filter(|to| *to < 20.0 * volume),
            _ => None,
        });
        let to = beyond.unwrap_or(0.0).max(2.0 * volume);
        let mut drawn: Vec<usize> =
            [&self.candidate, &self.baseline].into_iter().filter_map(|name| row(name)).collect();
        for kind in [Kind::Cpu, Kind::Gpu, Kind::HostedSlm, Kind::HostedLlm] {
            let cheapest = self.rows.iter().position(|row| row.kind == kind && row.unfit.is_none());
            drawn.extend(cheapest.filter(|at| !drawn.contains(at)));
        }
        drawn.dedup();
        let staircase =
            |at: usize| Staircase { name: self.rows[at].name.clone(), corners: self.curves[at].corners(to, MAX_DRAWN) };
        drawn.into_iter().map(staircase).collect()
    }
}

fn assumptions(scenario: &Scenario, offers: &[Offer]) -> Vec<Assumption> {
    let (w, p) = (&scenario.workload, &scenario.plan);
    let plan = |what: String| Assumption { about: "plan".into(), what };
    let mut all = vec![
        plan(match w.latency_s {
            Some(seconds) => format!(
                "answers within {seconds} s; the busiest hour has {} times the average's requests, for which machines are used to {:.0}%",
                w.peak_factor,
                p.peak_utilisation * 100.0
            ),
            None => format!(
                "answers may take a day: no peaks, machines are used to {:.0}%, hosted models at their price for batches where they have one",
                p.batch_utilisation * 100.0
            ),
        }),
        plan(format!(
            "machines are paid every hour of the month, {} of them spare; setting them up takes {} h and {} $ of tuning once, keeping them {} h a month, at {} $ an hour",
            p.spare_machines, p.setup_hours, p.tuning_dollars, p.upkeep_hours, p.work_hour_dollars
        )),
        plan(format!(
            "of the requests to small models {:.0}% go on to the baseline and are paid there, too",
            w.escalated_share * 100.0
        )),
        plan(
            "network, storage, taxes and discounts are not counted; whether an answer is good enough is not asked here"
                .into(),
        ),
    ];
    all.extend(offers.iter().map(|offer| Assumption {
        about: offer.name.clone(),
        what: match &offer.supply {
            Supply::Tokens { price, .. } => {
                let rates = price.rates(w.input_tokens.round() as u64);
                format!(
                    "{:.4} $ and {:.4} $ a million tokens of prompts and answers ({}, {}); {}",
                    rates.input.dollars() * 1e6,
                    rates.output.dollars() * 1e6,
                    offer.source,
                    offer.date,
                    offer.assumes
                )
            }
            Supply::Machine(machine) => format!(
                "{} $ an hour ({}, {}); {} and {} tokens/s, {} for one stream: {}",
                machine.dollars_per_hour,
                offer.source,
                offer.date,
                machine.prefill,
                machine.decode,
                machine.decode_one,
                offer.assumes
            ),
        },
    }));
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cost::offers;
    use crate::cost::scenario::{DAYS_PER_MONTH, HOURS_PER_MONTH, Plan, Workload};
    use crate::prices::PriceList;

    const OFFERS: &str = r#"
        [[hosted]]
        model = "large"
        kind = "llm"
        input_per_million = 2.0
        output_per_million = 10.0
        source = "made up"
        date = "2026-01-01"
        [[hosted]]
        model = "small"
        kind = "slm"
        input_per_million = 0.2
        output_per_million = 1.0
        source = "made up"
        date = "2026-01-01"
        [[machine]]
        name = "box"
        kind = "cpu"
        dollars_per_hour = 0.1
        source = "made up"
        date = "2026-01-01"
        prefill = 1000
        decode = 500
        decode_one = 100
        context = 4096
        assumes = "nothing"
    "#;

    fn scenario() -> Scenario {
        let workload = Workload {
            requests_per_day: 50_000.0,
            input_tokens: 1000.0,
            output_tokens: 100.0,
            cached_share: 0.5,
            peak_factor: 3.0,
            latency_s: Some(5.0),
            escalated_share: 0.1,
        };
        Scenario { workload, plan: Plan { spare_machines: 1, ..Plan::default() } }
    }

    fn ask(scenario: &Scenario) -> Result<Comparison, CostError> {
        let offers = offers::parse(OFFERS, "test", &PriceList::default()).unwrap();
        compare(Question { scenario, offers: &offers, baseline: None, candidate: None, change: 0.25 })
    }

    fn row<'a>(comparison: &'a Comparison, name: &str) -> &'a Row {
        comparison.rows.iter().find(|row| row.name == name).unwrap()
    }

    /// Computed by hand.
    #[test]
    fn a_month_is_what_its_parts_cost() {
        let found = ask(&scenario()).unwrap();
        let requests = 50_000.0 * DAYS_PER_MONTH;
        // 1000 tokens at 2 $ and 100 at 10 $ a million; the price knows no discount for cached ones.
        let large = requests * 0.003;
        assert!((row(&found, "large").monthly.unwrap().dollars - large).abs() < 1e-6);
        let small = requests * 0.0003 + 0.1 * large;
        assert!((row(&found, "small").monthly.unwrap().dollars - small).abs() < 1e-6);
        // 500 computed tokens of the prompt and 100 of the answer take 0.7 s; 3 x 50,000 / 86,400 requests a second at 0.7: 1.736 machines.
        let boxed = row(&found, "box").monthly.unwrap();
        assert_eq!(boxed.machines, Some(3), "two and a spare one");
        assert!((boxed.used.unwrap() - 1.7361 / 2.0).abs() < 1e-3);
        assert!((boxed.dollars - (3.0 * 0.1 * HOURS_PER_MONTH + 160.0 + 0.1 * large)).abs() < 1e-6);
        assert_eq!((found.candidate.as_str(), found.baseline.as_str()), ("box", "large"));
        let payback = row(&found, "large").payback_months.unwrap();
        assert!((payback - 1280.0 / (large - boxed.dollars)).abs() < 1e-9);
    }

    /// At the break-even volume the two cost the same, or the candidate has just become cheaper.
    #[test]
    fn break_even_is_where_they_cost_the_same() {
        let found = ask(&scenario()).unwrap();
        let BreakEven::From { requests_per_day, steady } = row(&found, "large").break_even else { panic!("{found:?}") };
        let at = |volume: f64| {
            let mut scenario = scenario();
            scenario.workload.requests_per_day = volume;
            let found = ask(&scenario).unwrap();
            row(&found, "box").monthly.unwrap().dollars - row(&found, "large").monthly.unwrap().dollars
        };
        assert!(at(requests_per_day).abs() < 1e-3, "{}", at(requests_per_day));
        assert!(at(requests_per_day * 0.99) > 0.0 && at(steady.unwrap() * 1.01) < 0.0);
    }

    #[test]
    fn what_is_too_slow_or_too_short_is_left_out_and_said() {
        let mut slow = scenario();
        slow.workload.latency_s = Some(1.0);
        let error = ask(&slow).unwrap_err().to_string();
        assert!(error.contains("box") && error.contains("1.50 s"), "{error}");
        slow.workload.latency_s = None;
        slow.workload.input_tokens = 5000.0;
        assert!(ask(&slow).unwrap_err().to_string().contains("4096 tokens"));
        slow.workload.input_tokens = 1000.0;
        let batch = ask(&slow).unwrap();
        assert_eq!(row(&batch, "box").monthly.unwrap().machines, Some(2), "without peaks one is enough");
    }

    #[test]
    fn faults_are_named() {
        let offers = offers::parse(OFFERS, "test", &PriceList::default()).unwrap();
        let scenario = scenario();
        let question = Question { scenario: &scenario, offers: &offers, baseline: None, candidate: None, change: 0.25 };
        for (question, part) in [
            (Question { baseline: Some("nobody"), ..question }, "`large`, `small`, `box`"),
            (Question { baseline: Some("box"), ..question }, "baseline"),
            (Question { candidate: Some("bix"), ..question }, "`bix`"),
            (Question { change: 1.0, ..question }, "change"),
        ] {
            let error = compare(question).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for (text, part) in [
            ("[workload]\nrequests_per_day = 0\ninput_tokens = 1\noutput_tokens = 1", "requests_per_day"),
            ("[workload]\nrequests_per_day = 1\ninput_tokens = nan\noutput_tokens = 1", "input_tokens"),
            ("[workload]\nrequest_per_day = 1", "request_per_day"),
            ("[plan]\n", "workload"),
            (
                "[workload]\nrequests_per_day = 1\ninput_tokens = 1\noutput_tokens = 1\n[plan]\npeak_utilisation = 0",
                "peak_utilisation",
            ),
        ] {
            let error = Scenario::parse(text, "w.toml").unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        for (from, to, part) in [
            ("prefill = 1000", "prefill = -1", "machine[0].prefill"),
            ("name = \"box\"", "name = \"small\"", "`small`"),
            ("output_per_million = 10.0", "", "hosted[0]"),
            ("date = \"2026-01-01\"", "", "hosted[0].date"),
            ("kind = \"cpu\"", "kind = \"tpu\"", "tpu"),
        ] {
            let error =
                offers::parse(&OFFERS.replacen(from, to, 1), "o.toml", &PriceList::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{to}: {error}");
        }
    }

    #[test]
    fn the_builtin_offers_are_dated_and_comparable() {
        let offers = offers::builtin(&PriceList::builtin().unwrap()).unwrap();
        let kinds: std::collections::HashSet<_> = offers.iter().map(|offer| format!("{:?}", offer.kind)).collect();
        assert_eq!(kinds.len(), 4);
        assert!(
            offers.iter().all(|offer| offer.date.len() == 10 && !offer.source.is_empty() && !offer.assumes.is_empty())
        );
        let scenario = scenario();
        let found =
            compare(Question { scenario: &scenario, offers: &offers, baseline: None, candidate: None, change: 0.25 })
                .unwrap();
        assert_eq!(found.assumptions.len(), 4 + offers.len());
        let drawn = found.staircases();
        assert!(
            drawn.len() >= 4 && drawn.len() <= 6 && drawn.iter().all(|s| s.corners.iter().all(|c| c.1.is_finite()))
        );
    }
}
