//! What each name leads to, and what came of it.

use askama::Template;
use axum::extract::Query;
use axum::response::Response;
use bantam_ledger::TokenCounts;
use bantam_ledger::query::{Group, Sums};
use bantam_providers::target::Target;
use serde::Deserialize;

use super::failure::Failure;
use super::range::Range;
use super::recent::LOCAL;
use super::viewer::Viewer;
use super::{Frame, format, render, requests};
use crate::live::{AUTO, Live, Route, Step};

pub(super) const PATH: &str = "/dashboard/routes";

/// Tokens that prices are told for.
const MILLION: u64 = 1_000_000;

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    range: String,
}

#[derive(Template)]
#[template(path = "dashboard/routes.html")]
struct Page {
    frame: Frame,
    ranges: [(&'static str, &'static str, bool); 4],
    words: &'static str,
    has_ledger: bool,
    auto: Vec<String>,
    routes: Vec<Shown>,
    by_route: Vec<SumRow>,
    by_model: Vec<SumRow>,
}

/// A route and what it leads to.
struct Shown {
    name: String,
    baseline: Option<String>,
    steps: Vec<StepRow>,
}

struct StepRow {
    /// In which turn it is tried.
    turn: String,
    who: String,
    share: String,
    price: String,
    attributes: String,
}

/// Sums of a route or a model.
struct SumRow {
    name: String,
    /// To its requests.
    link: Option<String>,
    requests: String,
    share: String,
    failed: String,
    latency: String,
    tokens: String,
    cost: String,
    saving: String,
    /// Of all requests, as the width of a bar of 100 units.
    bar: f64,
}

/// Sums by `field` of the requests' page, those of most requests first; `none` is what they are called that have no value in it.
fn sum_rows(sums: &[Sums], field: &str, none: &str) -> Vec<SumRow> {
    let all: u64 = sums.iter().map(|sums| sums.requests).sum();
    let mut sums: Vec<&Sums> = sums.iter().collect();
    sums.sort_by_key(|sums| std::cmp::Reverse(sums.requests));
    let link = |name: &str| {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair(field, name).finish();
        format!("{}?{query}", requests::PATH)
    };
    let row = |sums: &&Sums| SumRow {
        link: (!sums.group.is_empty()).then(|| link(&sums.group)),
        name: if sums.group.is_empty() { none.to_owned() } else { sums.group.clone() },
        requests: format::count(sums.requests),
        share: format::share(sums.requests, all),
        failed: format::share(sums.failed, sums.requests),
        latency: if sums.latency_us[2] == 0 {
            "–".to_owned()
        } else {
            sums.latency_us.map(format::micros).join(" / ")
        },
        tokens: format!("{} / {}", format::count(sums.tokens.input), format::count(sums.tokens.output)),
        cost: format::money(sums.cost),
        saving: match sums.counterfactual.0 {
            0 => "–".to_owned(),
            _ => format::saving(sums.counterfactual.minus(sums.compared_cost), sums.counterfactual),
        },
        bar: sums.requests as f64 / all.max(1) as f64 * 100.0,
    };
    sums.iter().map(row).collect()
}

fn turn(number: usize) -> String {
    match number {
        0 => "first".to_owned(),
        n => format!("fallback {n}"),
    }
}

fn shown(live: &Live, route: &Route) -> Shown {
    let mut steps = Vec::new();
    for (number, choices) in route.groups().enumerate() {
        let all: u64 = choices.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut add = |who: String, weight: u32, price: String, attributes: String| {
            let share = if choices.len() == 1 && u64::from(weight) == all { "all" } else { "" };
            let share = if share.is_empty() { format::share(weight.into(), all) } else { share.to_owned() };
            steps.push(StepRow { turn: turn(number), who, share, price, attributes });
        };
        for (step, weight) in choices {
            match step {
                Step::Local(model) => add(
                    format!("{LOCAL}/{}", model.id),
                    *weight,
                    local_price(live, model),
                    "stays in this process".to_owned(),
                ),
                Step::Encoder(encoder) => {
                    add(
                        format!("{LOCAL}/{}", encoder.id),
                        *weight,
                        "by machine time".to_owned(),
                        "stays in this process".to_owned(),
                    );
                }
                Step::Upstream(plan) => {
                    for target in plan.targets() {
                        add(target.name.clone(), target.weight, hosted_price(live, target), attributes(target));
                    }
                }
            }
        }
    }
    Shown { name: route.name.clone(), baseline: route.baseline.clone(), steps }
}

fn local_price(live: &Live, model: &crate::model::ServedModel) -> String {
    let [input, output] = of_a_million().map(|tokens| format::money(live.pricing.local(model, &tokens)));
    format!("{input} / {output}")
}

fn hosted_price(live: &Live, target: &Target) -> String {
    let price = |tokens| live.pricing.hosted(Some(&target.preset.name), &target.model, &tokens).map(format::money);
    let [input, output] = of_a_million().map(price);
    match (input, output) {
        (Some(input), Some(output)) => format!("{input} / {output}"),
        _ => "not in the price list".to_owned(),
    }
}

/// A million tokens of a prompt, and of an answer.
fn of_a_million() -> [TokenCounts; 2] {
    let none = TokenCounts::default();
    [TokenCounts { input: MILLION, ..none }, TokenCounts { output: MILLION, ..none }]
}

fn attributes(target: &Target) -> String {
    let said: Vec<String> = target.attributes.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if said.is_empty() { "no region, contract or retention given".to_owned() } else { said.join(", ") }
}

/// What the name `auto` does, sentence by sentence.
fn auto(live: &Live) -> Vec<String> {
    let Some(auto) = &live.routes.auto else { return Vec::new() };
    let (small, large) = (&auto.small.name, &auto.large.name);
    let mut said = vec![format!("Requests for {AUTO} are answered by {small} (small) or {large} (large).")];
    let router = auto.difficulty.as_ref().map(|difficulty| &difficulty.router);
    said.extend(router.map(|_| {
        format!("The router reads each prompt, and where it expects {large} to gain enough, {large} is asked at once.")
    }));
    said.push(match (auto.cascade, router) {
        (Some(least), _) => format!(
            "{small} answers first otherwise. Where the confidence of its answer (the geometric mean of its tokens' probabilities) is under {least}, {large} answers instead."
        ),
        (None, Some(router)) if router.cascade().is_some() => {
            format!("{small} answers otherwise, and where the router finds its answer doubtful, {large} answers instead.")
        }
        (None, Some(_)) => format!("{small} answers otherwise, and its answer stands."),
        (None, None) => format!("There is no router and no cascade, so {large} answers what may leave."),
    });
    said.push("Before that, the policy says what may leave; what may not is answered here or refused.".to_owned());
    said
}

pub(super) async fn page(viewer: Viewer, Query(asked): Query<Asked>) -> Result<Response, Failure> {
    let range = Range::of(&asked.range)?;
    let Viewer { app, shared, .. } = &viewer;
    let live = app.live();
    let (by_route, by_model) =
        (shared.sums(app, range, Group::Route).await?, shared.sums(app, range, Group::Model).await?);
    let routes = live.routes.names().filter_map(|name| live.routes.get(name)).map(|route| shown(&live, route));
    Ok(render(&Page {
        frame: viewer.frame("Routes", PATH),
        ranges: range.choices(),
        words: range.words(),
        has_ledger: app.ledger.is_some(),
        auto: auto(&live),
        routes: routes.collect(),
        by_route: sum_rows(&by_route, "route", "(no route)"),
        by_model: sum_rows(&by_model, "model", "(nobody answered)"),
    }))
}
