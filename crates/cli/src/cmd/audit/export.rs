//! `bantam audit export`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use bantam_ledger::audit::export;
use clap::Args;

use crate::cli::Globals;
use crate::load::file;
use crate::load::ledger::{LedgerPlace, wait};
use crate::output;

/// Arguments of `bantam audit export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: LedgerPlace,
    /// Write to this file, which must not be there yet, instead of standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &ExportArgs, globals: &Globals) -> anyhow::Result<()> {
    wait(async {
        let reading = args.place.read(globals).await?;
        let Some(path) = &args.out else {
            let mut out = BufWriter::new(io::stdout());
            export(&reading, &mut out).await?;
            return output::written(out.flush());
        };
        let file = file::create_new(path)?;
        let mut out = BufWriter::new(file);
        let entries = export(&reading, &mut out).await?;
        out.flush()?;
        if globals.json {
            output::print_json(&serde_json::json!({ "entries": entries, "file": path }))?;
        } else if !globals.quiet {
            output::print(&format!("wrote {entries} entries to {}", path.display()))?;
        }
        Ok(())
    })
}
