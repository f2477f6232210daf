//! `bantam audit verify`.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context, bail};
use bantam_ledger::PublicKey;
use bantam_ledger::audit::{Claim, Expected, Report, verify, verify_export};
use clap::Args;

use crate::cli::Globals;
use crate::load::ledger::{LedgerPlace, wait};
use crate::output;

/// Arguments of `bantam audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    place: LedgerPlace,
    /// Verify this export instead of the ledger
    #[arg(long, value_name = "FILE", conflicts_with = "ledger")]
    export: Option<PathBuf>,
    /// The public key of a signer [default: the one beside the ledger's signing key]; may be given several times
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    /// A place of a chain written down before, as verifying shows it; may be given several times
    #[arg(long, value_name = "CHAIN:SEQ:HASH")]
    expect: Vec<Claim>,
}

/// Something in the ledger is not what was written.
#[derive(Debug)]
pub(crate) struct NotSound(String);

impl fmt::Display for NotSound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger is not what was written: {}", self.0)
    }
}

impl std::error::Error for NotSound {}

pub(crate) fn run(args: &VerifyArgs, globals: &Globals) -> anyhow::Result<()> {
    let files = match args.public_key.as_slice() {
        [] => vec![beside(args, globals)?],
        given => given.to_vec(),
    };
    let keys = files.iter().map(|file| PublicKey::read(file)).collect::<Result<_, _>>()?;
    let expected = Expected { keys, claims: args.expect.clone() };
    let report = match &args.export {
        Some(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            verify_export(&mut BufReader::new(file), &expected)?
        }
        None => wait(async { Ok(verify(&args.place.read(globals).await?, &expected).await?) })?,
    };
    if globals.json {
        output::print_json(&report)?;
    } else if !globals.quiet {
        show(&report, args.export.is_some())?;
    }
    match &report.broken {
        Some(broken) => Err(NotSound(broken.to_string()).into()),
        None => Ok(()),
    }
}

/// The public key beside the signing key of the ledger.
fn beside(args: &VerifyArgs, globals: &Globals) -> anyhow::Result<PathBuf> {
    if args.export.is_none() {
        args.place.is_there(globals)?;
    }
    let file = args.place.public_key(globals)?;
    if !file.is_file() {
        bail!(
            "there is no public key {}; give the one beside the signing key of who wrote the ledger: --public-key FILE",
            file.display()
        );
    }
    Ok(file)
}

fn show(report: &Report, exported: bool) -> anyhow::Result<()> {
    output::print(&format!("ledger {}", report.ledger))?;
    for chain in &report.chains {
        let entries = chain.last + 1 - chain.first;
        let purged = if chain.first > 1 { format!(", {} older ones purged", chain.first - 1) } else { String::new() };
        let covered = match chain.last - chain.covered.min(chain.last) {
            0 => "all covered by a signature".to_owned(),
            after => format!("{after} after the last signature"),
        };
        output::print(&format!("chain {}: {entries} entries{purged}; {covered}", chain.chain))?;
        output::print(&format!("  ends at {}:{}:{}", chain.chain, chain.last, chain.hash))?;
    }
    if report.is_sound() {
        let texts = if exported { String::new() } else { format!(" Texts compared: {}.", report.texts) };
        output::print(&format!(
            "Nothing is wrong.{texts} Keep the end of each chain elsewhere to notice a tail that is cut off: --expect."
        ))?;
    }
    Ok(())
}
