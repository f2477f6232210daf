//! `bantam ledger`: looking after the record of requests.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::bail;
use bantam_hub::human_bytes;
use bantam_ledger::{Ledger, Retention, backup_of};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Globals;
use crate::load::ledger::{LedgerPlace, wait};
use crate::output;

/// Arguments of `bantam ledger`.
#[derive(Debug, Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    command: LedgerCommand,
}

#[derive(Debug, Subcommand)]
enum LedgerCommand {
    /// Say what the ledger holds
    Info(InfoArgs),
    /// Copy a ledger file while requests go on
    Backup(BackupArgs),
    /// Remove what is older than it need be kept
    Purge(PurgeArgs),
    /// Erase what is kept of an end user's requests: the name, bodies and corrections
    Erase(EraseArgs),
}

#[derive(Debug, Args)]
struct InfoArgs {
    #[command(flatten)]
    place: LedgerPlace,
}

#[derive(Debug, Args)]
struct BackupArgs {
    #[command(flatten)]
    place: LedgerPlace,
    /// The copy, a file that is not there yet
    #[arg(value_name = "FILE")]
    to: PathBuf,
}

#[derive(Debug, Args)]
struct PurgeArgs {
    #[command(flatten)]
    place: LedgerPlace,
    /// Remove texts (bodies, corrections, names of end users) older than so many days
    #[arg(long, value_name = "DAYS", required_unless_present = "entries")]
    texts: Option<u32>,
    /// Remove whole entries older than so many days, up to a checkpoint; they are gone from reports too
    #[arg(long, value_name = "DAYS")]
    entries: Option<u32>,
}

#[derive(Debug, Args)]
struct EraseArgs {
    #[command(flatten)]
    place: LedgerPlace,
    /// The end user, as requests named them
    subject: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn run(args: &LedgerArgs, globals: &Globals) -> anyhow::Result<()> {
    wait(async {
        match &args.command {
            LedgerCommand::Info(args) => info(args, globals).await,
            LedgerCommand::Backup(args) => backup(args, globals).await,
            LedgerCommand::Purge(args) => purge(args, globals).await,
            LedgerCommand::Erase(args) => erase(args, globals).await,
        }
    })
}

async fn info(args: &InfoArgs, globals: &Globals) -> anyhow::Result<()> {
    let info = args.place.read(globals).await?.info().await?;
    if globals.json {
        return output::print_json(&info);
    }
    output::print(&format!("ledger     {} (schema {})", info.ledger, info.schema))?;
    output::print(&format!("requests   {}, {} open", info.requests, info.open))?;
    output::print(&format!("feedback   {}", info.feedback))?;
    output::print(&format!("bodies     {} ({})", info.bodies.0, human_bytes(info.bodies.1)))?;
    output::print(&format!("keys       {}", info.keys))?;
    for end in info.chains {
        let checkpoint =
            if end.checkpoint > 0 { format!("last checkpoint {}", end.checkpoint) } else { "no checkpoint".to_owned() };
        output::print(&format!(
            "chain {:<4} entries {} to {}, {checkpoint}, last written {}",
            end.chain, end.first, end.last, end.at
        ))?;
    }
    Ok(())
}

async fn backup(args: &BackupArgs, globals: &Globals) -> anyhow::Result<()> {
    backup_of(&args.place.config(globals)?.store, &args.to).await?;
    let bytes = std::fs::metadata(&args.to)?.len();
    if globals.json {
        output::print_json(&json!({ "file": args.to, "bytes": bytes }))?;
    } else if !globals.quiet {
        let note = "the signing key and the key of bodies are not in it: keep copies of those apart";
        output::print(&format!("wrote {} ({}); {note}", args.to.display(), human_bytes(bytes)))?;
    }
    Ok(())
}

async fn purge(args: &PurgeArgs, globals: &Globals) -> anyhow::Result<()> {
    // Looked for first: a mistyped name must not make a new ledger.
    args.place.read(globals).await?;
    let retention = Retention { bodies_days: args.texts, entries_days: args.entries };
    let ledger = Ledger::open(bantam_ledger::LedgerConfig { retention, ..args.place.config(globals)? }).await?;
    let purged = ledger.purge().await;
    ledger.close().await?;
    let purged = purged?;
    if globals.json {
        output::print_json(&purged)?;
    } else if !globals.quiet {
        output::print(&format!("removed {} entries, and the texts of {}", purged.entries, purged.texts))?;
    }
    Ok(())
}

async fn erase(args: &EraseArgs, globals: &Globals) -> anyhow::Result<()> {
    if !args.yes {
        if !io::stdin().is_terminal() {
            bail!("say --yes to erase without being asked");
        }
        eprint!("Erase all texts of requests of {:?}? They cannot be brought back. [y/N] ", args.subject);
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            eprintln!("nothing was erased");
            return Ok(());
        }
    }
    let ledger = args.place.write(globals).await?;
    let erased = ledger.erase_subject(&args.subject).await;
    ledger.close().await?;
    let erased = erased?;
    if globals.json {
        output::print_json(&json!({ "requests": erased }))?;
    } else if !globals.quiet {
        output::print(&format!("erased the texts of {erased} requests; copies made before still have them"))?;
    }
    Ok(())
}
