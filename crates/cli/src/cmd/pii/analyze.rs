//! `bantam pii analyze`.

use bantam_pii::presidio;
use clap::Args;

use super::{DetectArgs, TextArgs};
use crate::cli::Globals;
use crate::output;

/// Arguments of `bantam pii analyze`.
#[derive(Debug, Args)]
#[command(
    after_help = "Names, places and other things that need a model of the language are not found: see docs/pii.md for the types."
)]
pub(crate) struct AnalyzeArgs {
    #[command(flatten)]
    text: TextArgs,
    #[command(flatten)]
    detect: DetectArgs,
}

pub(crate) fn run(args: &AnalyzeArgs, globals: &Globals) -> anyhow::Result<()> {
    let text = args.text.read()?;
    let findings = args.detect.detect(&text)?;
    let results = presidio::results(&text, &findings);
    if globals.json {
        return output::print_json(&results);
    }
    if findings.is_empty() {
        return output::print("nothing was found");
    }
    let rows = findings.iter().zip(&results).map(|(finding, result)| {
        let found = text.get(finding.range.clone()).unwrap_or_default();
        let place = format!("{}..{}", result.start, result.end);
        let score = format!("{:.2}", finding.score);
        vec![finding.entity.to_string(), place, score, finding.recogniser.to_string(), format!("{found:?}")]
    });
    output::print(&output::table(&["TYPE", "CHARACTERS", "SCORE", "RECOGNISER", "TEXT"], &["SCORE"], rows.collect()))
}
