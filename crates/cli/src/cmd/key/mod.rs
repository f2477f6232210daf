//! `bantam key`: virtual keys. Looking at them disturbs nobody; a running server changes its keys through its admin API.

mod limits;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use bantam_ledger::keys::{KeyChange, KeyId, KeyRecord, NewKey, Scope, Secret};
use bantam_ledger::{BudgetUse, Ledger, Period, Reading, Timestamp};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::load::ledger::{LedgerPlace, a_while, wait};
use crate::output;
use limits::{LimitArgs, budget_text};

/// Arguments of `bantam key`.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(flatten)]
    place: LedgerPlace,
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key; its secret is shown this once
    Create(CreateArgs),
    /// List the keys
    #[command(visible_alias = "ls")]
    List,
    /// Show a key
    Show {
        /// The key's id, the part after sk-bantam-, or its name where no other key has it
        #[arg(value_name = "ID|NAME")]
        key: String,
    },
    /// Change a key; what is not given stays
    Update(UpdateArgs),
    /// Give a key a new secret
    Rotate {
        /// The key's id
        id: String,
        /// How long the secret before stays good, such as 90s, 15m, 24h or 30d
        #[arg(long, value_name = "WHILE", default_value = "24h", value_parser = a_while)]
        grace: Duration,
    },
    /// End a key
    Revoke {
        /// The key's id
        id: String,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What people call it
    name: String,
    #[command(flatten)]
    fields: FieldArgs,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// The key's id
    id: String,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    fields: FieldArgs,
    /// It does not end by itself any more
    #[arg(long, conflicts_with = "expires")]
    no_expiry: bool,
    /// Every model and route may be asked for again
    #[arg(long, conflicts_with = "model")]
    all_models: bool,
}

#[derive(Debug, Args)]
struct FieldArgs {
    /// What it is for: inference, reports or admin [default: inference]; may be given several times
    #[arg(long, value_name = "SCOPE", value_parser = scope)]
    scope: Vec<Scope>,
    /// A model or route it may ask for [default: all]; may be given several times
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
    #[command(flatten)]
    limits: LimitArgs,
    /// When it ends: after a while such as 30d
    #[arg(long, value_name = "WHILE", value_parser = a_while)]
    expires: Option<Duration>,
    /// A label for rules and reports; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
}

fn scope(text: &str) -> Result<Scope, String> {
    match text {
        "inference" => Ok(Scope::Inference),
        "reports" => Ok(Scope::Reports),
        "admin" => Ok(Scope::Admin),
        _ => Err("a scope is inference, reports or admin".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) fn run(args: &KeyArgs, globals: &Globals) -> anyhow::Result<()> {
    wait(async {
        let ledger = match &args.command {
            KeyCommand::List => return list(&args.place.read(globals).await?, globals).await,
            KeyCommand::Show { key } => {
                let reading = args.place.read(globals).await?;
                let record = named(reading.keys().await?, key)?;
                return show(&record, &reading.budgets(&record).await?, globals);
            }
            // The first key may come before the first request.
            KeyCommand::Create(_) => Ledger::open(args.place.config(globals)?).await?,
            _ => args.place.write(globals).await?,
        };
        let outcome = work(&args.command, &ledger, globals).await;
        ledger.close().await?;
        outcome
    })
}

/// The key of this id, or the only one of this name.
fn named(keys: Vec<KeyRecord>, key: &str) -> anyhow::Result<KeyRecord> {
    let is = |record: &&KeyRecord| record.id.as_str() == key;
    if let Some(record) = keys.iter().find(is) {
        return Ok(record.clone());
    }
    let mut of_name: Vec<KeyRecord> = keys.into_iter().filter(|record| record.name == key).collect();
    match (of_name.pop(), of_name.as_slice()) {
        (None, _) => Err(bantam_ledger::KeyError::NoSuchKey { id: key.to_owned() }.into()),
        (Some(record), []) => Ok(record),
        (Some(last), others) => {
            let ids: Vec<&str> = others.iter().chain([&last]).map(|record| record.id.as_str()).collect();
            bail!("{} keys are called {key}; give the id of one: {}", ids.len(), ids.join(", "))
        }
    }
}

async fn work(command: &KeyCommand, ledger: &Ledger, globals: &Globals) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(args) => {
            let FieldArgs { scope, model, limits, expires, label } = &args.fields;
            let new = NewKey {
                name: args.name.clone(),
                scopes: scope.iter().copied().collect(),
                models: model.iter().cloned().collect(),
                limits: limits.apply(None),
                expires: expires.map(|expires| Timestamp::now().plus(expires)),
                metadata: label.iter().cloned().collect(),
            };
            let (record, secret) = ledger.create_key(new).await?;
            show_secret(&record, &secret, globals)
        }
        // Done without holding the ledger.
        KeyCommand::List | KeyCommand::Show { .. } => Ok(()),
        KeyCommand::Update(args) => {
            let id = KeyId::from(args.id.as_str());
            let held = ledger.key(&id).ok_or_else(|| bantam_ledger::KeyError::NoSuchKey { id: args.id.clone() })?;
            let FieldArgs { scope, model, limits, expires, label } = &args.fields;
            let given = |no: bool| if no { Some(None) } else { None };
            let mut metadata = held.metadata.clone();
            metadata.extend(label.iter().cloned());
            let change = KeyChange {
                name: args.name.clone(),
                scopes: (!scope.is_empty()).then(|| scope.iter().copied().collect()),
                models: (!model.is_empty() || args.all_models).then(|| model.iter().cloned().collect()),
                limits: limits.is_given().then(|| limits.apply(Some(&held.limits))),
                expires: expires.map(|expires| Some(Timestamp::now().plus(expires))).or(given(args.no_expiry)),
                metadata: (!label.is_empty()).then_some(metadata),
            };
            let record = ledger.update_key(&id, change).await?;
            show(&record, &ledger.budgets(Some(&record.id)).await?, globals)
        }
        KeyCommand::Rotate { id, grace } => {
            let (record, secret) = ledger.rotate_key(&KeyId::from(id.as_str()), *grace).await?;
            show_secret(&record, &secret, globals)
        }
        KeyCommand::Revoke { id } => {
            let record = ledger.revoke_key(&KeyId::from(id.as_str())).await?;
            show(&record, &ledger.budgets(Some(&record.id)).await?, globals)
        }
    }
}

fn show_secret(record: &KeyRecord, secret: &Secret, globals: &Globals) -> anyhow::Result<()> {
    if globals.json {
        return output::print_json(&json!({ "key": secret.reveal(), "info": record.info(Timestamp::now()) }));
    }
    output::print(secret.reveal())?;
    if !globals.quiet {
        eprintln!("This is the only time the key is shown; the ledger keeps a digest of it.");
    }
    Ok(())
}

async fn list(reading: &Reading, globals: &Globals) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let keys: Vec<_> = reading.keys().await?.iter().map(|record| record.info(now)).collect();
    if globals.json {
        return output::print_json(&keys);
    }
    let or_all = |names: &std::collections::BTreeSet<String>| match names.len() {
        0 => "all".to_owned(),
        _ => names.iter().cloned().collect::<Vec<_>>().join(", "),
    };
    let rows = keys.iter().map(|key| {
        let budgets: Vec<String> = key.limits.budgets.iter().map(budget_text).collect();
        vec![key.id.to_string(), key.name.clone(), key.state.to_owned(), or_all(&key.models), budgets.join(", ")]
    });
    output::print(&output::table(&["ID", "NAME", "STATE", "MODELS", "BUDGETS"], &[], rows.collect()))
}

fn show(record: &KeyRecord, used: &[BudgetUse], globals: &Globals) -> anyhow::Result<()> {
    let info = record.info(Timestamp::now());
    if globals.json {
        let used: Vec<Value> = used
            .iter()
            .map(|used| json!({ "budget": used.budget, "spent": used.spent, "reserved": used.reserved }))
            .collect();
        return output::print_json(&json!({ "info": info, "budgets": used }));
    }
    let labels = |labels: &BTreeMap<String, String>| {
        labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let scopes: Vec<String> = info.scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
    let mut lines = vec![
        ("id", info.id.to_string()),
        ("name", info.name),
        ("state", info.state.to_owned()),
        ("scopes", scopes.join(", ")),
        (
            "models",
            if info.models.is_empty() {
                "all".to_owned()
            } else {
                info.models.into_iter().collect::<Vec<_>>().join(", ")
            },
        ),
        ("created", info.created),
    ];
    lines.extend(info.expires.map(|time| ("expires", time)));
    lines.extend(info.revoked.map(|time| ("revoked", time)));
    lines.extend(info.limits.requests_per_minute.map(|n| ("requests", format!("{n} a minute"))));
    lines.extend(info.limits.tokens_per_minute.map(|n| ("tokens", format!("{n} a minute"))));
    for used in used {
        let period = match used.budget.period {
            Period::Day => "today",
            Period::Month => "this month",
        };
        let spent = limits::amount_text(used.budget.amount, used.spent);
        let reserved = limits::amount_text(used.budget.amount, used.reserved);
        lines.push(("budget", format!("{}: {spent} spent {period}, {reserved} reserved", budget_text(&used.budget))));
    }
    if !info.metadata.is_empty() {
        lines.push(("labels", labels(&info.metadata).join(", ")));
    }
    for (name, value) in lines {
        output::print(&format!("{name:<9} {value}"))?;
    }
    Ok(())
}
