//! From the name asked for to what may answer, as far as the policy lets it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bantam_ledger::Estimate;
use bantam_providers::plan::Plan;

use super::Scope;
use super::account::Account;
use super::screen::Redacted;
use crate::config::Action;
use crate::error::ApiError;
use crate::live::{AUTO, Decision, Route, Sight, Step};

/// What may answer.
pub(super) enum Ways {
    /// Steps in the order in which they are tried.
    One(Vec<Step>),
    /// A small and a large model to choose from.
    Auto(AutoWays),
}

/// How a request leaves.
pub(super) enum Leaving<'a> {
    AsItIs,
    Redacted(&'a Redacted),
}

/// The two sides of a choice. One of them may be empty, but not both.
pub(super) struct AutoWays {
    pub(super) small: Vec<Step>,
    pub(super) large: Vec<Step>,
}

impl Scope {
    /// Finds what may answer.
    pub(super) async fn ways(&mut self, name: &str, account: &mut Account) -> Result<Ways, ApiError> {
        let live = Arc::clone(&self.live);
        let routes = &live.routes;
        let leaves = match (routes.get(name), &routes.auto) {
            (Some(route), _) => route.leaves(),
            (None, Some(auto)) if name == AUTO => auto.small.leaves() || auto.large.leaves(),
            _ => return Err(self.app.unknown_model(name, self.served())),
        };
        if leaves && live.policy.needs_detection() {
            self.screened = self.screen(account).await?;
        }
        match (routes.get(name), &routes.auto) {
            (Some(route), _) => {
                account.routed(route);
                let steps = self.allowed(route, account)?;
                if steps.is_empty() { self.stand_in(account) } else { Ok(Ways::One(steps)) }
            }
            (None, Some(auto)) if name == AUTO => {
                account.routed(&auto.large);
                let (small, large) = (self.allowed(&auto.small, account)?, self.allowed(&auto.large, account)?);
                if small.is_empty() && large.is_empty() {
                    return Err(self.must_stay());
                }
                Ok(Ways::Auto(AutoWays { small, large }))
            }
            _ => Err(self.app.unknown_model(name, self.served())),
        }
    }

    /// The steps of a route that the policy lets be tried.
    fn allowed(&self, route: &Route, account: &mut Account) -> Result<Vec<Step>, ApiError> {
        let policy = &self.live.policy;
        let sight = self.sight();
        if self.screened.failed && policy.on_failure == Action::Refuse && !policy.dry_run {
            return Err(ApiError::PolicyRefused { rule: "policy.on_failure".into() });
        }
        if let Some(rule) = policy.refuses(sight) {
            account.decided("policy", format!("refuse: {rule}"));
            if !policy.dry_run {
                return Err(ApiError::PolicyRefused { rule: rule.into() });
            }
        }
        let mut steps = Vec::new();
        for step in route.steps(fastrand::f64()) {
            let Step::Upstream(plan) = &step else {
                steps.push(step);
                continue;
            };
            for target in plan.targets() {
                let decision = self.judge(&target.attributes);
                if let Some(rule) = decision.rule {
                    account.decided("policy", format!("{}: {rule}", name_of(decision.action)));
                }
            }
            let kept = match policy.dry_run {
                true => Some(plan.clone()),
                false => plan.keep(|t| self.leaving(&t.attributes).is_some()),
            };
            steps.extend(kept.map(Step::Upstream));
        }
        Ok(steps)
    }

    /// The small model, for a request whose own route may not be taken.
    fn stand_in(&self, account: &mut Account) -> Result<Ways, ApiError> {
        let small = self.live.routes.auto.as_ref().map(|auto| auto.small.steps(0.0)).unwrap_or_default();
        let local: Vec<Step> = small.into_iter().filter(|step| matches!(step, Step::Local(_))).collect();
        if local.is_empty() {
            return Err(self.must_stay());
        }
        account.decided("stand_in", "the small model answers what must not leave");
        Ok(Ways::One(local))
    }

    fn must_stay(&self) -> ApiError {
        ApiError::MustStay { rule: self.judge(&BTreeMap::new()).rule.unwrap_or("policy.default").into() }
    }

    /// What the policy says of a target with these attributes.
    fn judge(&self, attributes: &BTreeMap<String, String>) -> Decision<'_> {
        let policy = &self.live.policy;
        if self.screened.failed {
            return Decision { action: policy.on_failure, rule: Some("policy.on_failure") };
        }
        policy.judge(self.sight(), attributes)
    }

    /// How the request leaves for a target with these attributes, if it may.
    pub(super) fn leaving(&self, attributes: &BTreeMap<String, String>) -> Option<Leaving<'_>> {
        if self.live.policy.dry_run {
            return Some(Leaving::AsItIs);
        }
        match self.judge(attributes).action {
            Action::Allow => Some(Leaving::AsItIs),
            // What cannot be redacted stays.
            Action::RedactThenAllow => self.screened.redacted.as_ref().map(Leaving::Redacted),
            Action::LocalOnly | Action::Refuse => None,
        }
    }

    fn sight(&self) -> Sight<'_> {
        Sight {
            entities: &self.screened.entities,
            labels: &self.caller.labels,
            key: self.caller.key_name(),
            model: self.asked.model.as_deref().unwrap_or_default(),
        }
    }

    /// The most that the dearest way costs; where both sides of a choice may be asked, both. All of them must have a price where that is charged to
    /// a budget.
    pub(super) fn estimate(&self, ways: &Ways, account: &Account) -> Result<Estimate, ApiError> {
        let steps = match ways {
            Ways::One(steps) => [steps.as_slice(), &[]],
            Ways::Auto(AutoWays { small, large }) => [small.as_slice(), large],
        };
        let upstreams = steps.into_iter().flatten().filter_map(|step| match step {
            Step::Upstream(plan) => Some(plan),
            _ => None,
        });
        for target in upstreams.flat_map(Plan::targets) {
            account.check_price(&target.preset.name, &target.model)?;
        }
        let [one, other] = steps.map(|steps| self.dearest(steps));
        Ok(Estimate { cost: one.cost.plus(other.cost), tokens: one.tokens.saturating_add(other.tokens) })
    }

    fn dearest(&self, steps: &[Step]) -> Estimate {
        let pricing = &self.live.pricing;
        let (prompt, output) = (self.asked.prompt_bound(), self.asked.output_bound());
        let mut most = Estimate::default();
        let mut take = |cost, tokens| {
            most.cost = most.cost.max(cost);
            most.tokens = most.tokens.max(tokens);
        };
        for step in steps {
            match step {
                Step::Local(model) => {
                    let (cost, tokens) = pricing.local_bound(model, prompt, output);
                    take(cost, tokens);
                }
                Step::Encoder(_) => take(bantam_types::NanoDollars::ZERO, prompt),
                Step::Upstream(plan) => plan.targets().for_each(|target| {
                    let (cost, tokens) = pricing.hosted_bound(Some(&target.preset.name), &target.model, prompt, output);
                    take(cost, tokens);
                }),
            }
        }
        most
    }
}

fn name_of(action: Action) -> &'static str {
    match action {
        Action::Allow => "allow",
        Action::RedactThenAllow => "redact_then_allow",
        Action::LocalOnly => "local_only",
        Action::Refuse => "refuse",
    }
}
