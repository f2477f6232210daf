//! Which assumption moves the result most: each is moved alone, up and down by the same share (a one-way sensitivity analysis, drawn as a
//! tornado).

use serde::Serialize;

use super::offers::{Offer, Supply};
use super::scenario::Scenario;

/// What the monthly saving of the candidate over the baseline depends on, what matters most first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// By which share each assumption was moved.
    pub change: f64,
    /// Dollars a month saved as assumed.
    pub saving: f64,
    /// One per assumption.
    pub swings: Vec<Swing>,
}

/// One assumption moved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Swing {
    /// Which.
    pub assumption: &'static str,
    /// Its value as assumed.
    pub value: f64,
    /// Dollars a month saved with less of it.
    pub low: f64,
    /// The same with more.
    pub high: f64,
}

/// Everything the saving depends on.
#[derive(Clone)]
struct Case {
    scenario: Scenario,
    baseline: Offer,
    candidate: Offer,
}

/// An assumption: where its value is, and what bounds it.
struct Lever {
    name: &'static str,
    most: f64,
    value: fn(&mut Case) -> Option<&mut f64>,
}

const ANY: f64 = f64::INFINITY;

/// A lever on something of the candidate's machine.
macro_rules! machine {
    ($name:literal, $field:ident) => {
        Lever { name: $name, most: ANY, value: |case| case.candidate.machine().map(|machine| &mut machine.$field) }
    };
}

const LEVERS: [Lever; 15] = [
    Lever { name: "requests a day", most: ANY, value: |case| Some(&mut case.scenario.workload.requests_per_day) },
    Lever { name: "tokens of a prompt", most: ANY, value: |case| Some(&mut case.scenario.workload.input_tokens) },
    Lever { name: "tokens of an answer", most: ANY, value: |case| Some(&mut case.scenario.workload.output_tokens) },
    Lever { name: "share of prompts cached", most: 1.0, value: |case| Some(&mut case.scenario.workload.cached_share) },
    Lever { name: "share passed on", most: 1.0, value: |case| Some(&mut case.scenario.workload.escalated_share) },
    Lever {
        name: "busiest hour over average",
        most: 24.0,
        value: |case| Some(&mut case.scenario.workload.peak_factor),
    },
    Lever {
        name: "use of machines in the busiest hour",
        most: 1.0,
        value: |case| Some(&mut case.scenario.plan.peak_utilisation),
    },
    Lever {
        name: "use of machines for work that waits",
        most: 1.0,
        value: |case| Some(&mut case.scenario.plan.batch_utilisation),
    },
    Lever { name: "hours of upkeep", most: ANY, value: |case| Some(&mut case.scenario.plan.upkeep_hours) },
    Lever {
        name: "dollars of an hour of work",
        most: ANY,
        value: |case| Some(&mut case.scenario.plan.work_hour_dollars),
    },
    Lever { name: "the baseline's price (factor)", most: ANY, value: |case| case.baseline.price_factor() },
    Lever { name: "the candidate's price (factor)", most: ANY, value: |case| case.candidate.price_factor() },
    machine!("the machine's dollars an hour", dollars_per_hour),
    machine!("the machine's tokens/s of prompts", prefill),
    machine!("the machine's tokens/s of answers", decode),
];

impl Case {
    fn saving(&self) -> f64 {
        let volume = self.scenario.workload.requests_per_day;
        let escalated = self.baseline.per_request(&self.scenario);
        let cost = |offer: &Offer| offer.curve(&self.scenario, escalated).at(volume);
        cost(&self.baseline) - cost(&self.candidate)
    }

    fn moved(&self, lever: &Lever, factor: f64) -> f64 {
        let mut case = self.clone();
        if let Some(value) = (lever.value)(&mut case) {
            *value = (*value * factor).min(lever.most);
        }
        case.saving()
    }
}

impl Offer {
    fn machine(&mut self) -> Option<&mut super::offers::Machine> {
        match &mut self.supply {
            Supply::Machine(machine) => Some(machine),
            Supply::Tokens { .. } => None,
        }
    }

    fn price_factor(&mut self) -> Option<&mut f64> {
        match &mut self.supply {
            Supply::Tokens { factor, .. } => Some(factor),
            Supply::Machine(_) => None,
        }
    }
}

impl Sensitivity {
    pub(super) fn new(scenario: &Scenario, baseline: &Offer, candidate: &Offer, change: f64) -> Self {
        let case = Case { scenario: scenario.clone(), baseline: baseline.clone(), candidate: candidate.clone() };
        let swing = |lever: &Lever| {
            let value = *(lever.value)(&mut case.clone())?;
            let (low, high) = (case.moved(lever, 1.0 - change), case.moved(lever, 1.0 + change));
            Some(Swing { assumption: lever.name, value, low, high })
        };
        let mut swings: Vec<Swing> = LEVERS.iter().filter_map(swing).filter(|swing| swing.low != swing.high).collect();
        swings.sort_by(|a, b| (b.high - b.low).abs().total_cmp(&(a.high - a.low).abs()));
        Self { change, saving: case.saving(), swings }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cost::offers::{Kind, Machine};
    use crate::cost::scenario::{DAYS_PER_MONTH, Plan, Workload};
    use crate::prices::Price;

    #[test]
    fn each_lever_moves_what_it_says() {
        let workload = Workload {
            requests_per_day: 1e6,
            input_tokens: 1000.0,
            output_tokens: 100.0,
            cached_share: 0.9,
            peak_factor: 2.0,
            latency_s: Some(10.0),
            escalated_share: 0.0,
        };
        let scenario = Scenario { workload, plan: Plan { peak_utilisation: 0.9, ..Plan::default() } };
        let offer = |name: &str, kind, supply| Offer {
            name: name.into(),
            kind,
            source: String::new(),
            date: String::new(),
            assumes: String::new(),
            supply,
        };
        let price = Box::new(Price::per_million("m", 1.0, 5.0).unwrap());
        let baseline = offer("api", Kind::HostedLlm, Supply::Tokens { price, factor: 1.0 });
        let machine =
            Machine { dollars_per_hour: 0.1, prefill: 1000.0, decode: 500.0, decode_one: 50.0, context: 8192 };
        let found = Sensitivity::new(&scenario, &baseline, &offer("box", Kind::Cpu, Supply::Machine(machine)), 0.25);
        let swing = |name: &str| found.swings.iter().find(|swing| swing.assumption == name).unwrap();
        // The baseline's bill is 1e6 x 0.0015 $ a day.
        let bill = 1500.0 * DAYS_PER_MONTH;
        let price = swing("the baseline's price (factor)");
        assert!(
            (price.high - price.low - 0.5 * bill).abs() < 1e-6
                && (price.high - found.saving - 0.25 * bill).abs() < 1e-6
        );
        assert!(swing("the machine's tokens/s of answers").high > found.saving);
        assert!(swing("the machine's dollars an hour").high < found.saving);
        // A share is not moved above 1.
        let cached = swing("share of prompts cached");
        assert!(cached.high >= found.saving && cached.low < found.saving);
        assert!(
            found.swings.iter().all(|swing| swing.assumption != "use of machines for work that waits"),
            "there is none"
        );
        let widths: Vec<f64> = found.swings.iter().map(|swing| (swing.high - swing.low).abs()).collect();
        assert!(widths.is_sorted_by(|a, b| a >= b));
    }
}
