//! `bantam pii`: personal data in texts: found, replaced, put back, measured.

mod analyze;
mod anonymize;
mod eval;
mod restore;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use bantam_pii::{DEFAULT_THRESHOLD, Detectors, Finding, MAX_TEXT_BYTES, Options};
use clap::{Args, Subcommand};

use crate::cli::Globals;
use crate::output;

/// Arguments of `bantam pii`.
#[derive(Debug, Args)]
pub(crate) struct PiiArgs {
    #[command(subcommand)]
    command: PiiCommand,
}

#[derive(Debug, Subcommand)]
enum PiiCommand {
    /// List what is found in a text
    Analyze(analyze::AnalyzeArgs),
    /// Replace what is found
    Anonymize(anonymize::AnonymizeArgs),
    /// Put originals back in place of pseudonyms
    Restore(restore::RestoreArgs),
    /// Measure findings against a labelled data set
    Eval(eval::EvalArgs),
}

pub(crate) fn run(args: &PiiArgs, globals: &Globals) -> anyhow::Result<()> {
    match &args.command {
        PiiCommand::Analyze(args) => analyze::run(args, globals),
        PiiCommand::Anonymize(args) => anonymize::run(args, globals),
        PiiCommand::Restore(args) => restore::run(args, globals),
        PiiCommand::Eval(args) => eval::run(args, globals),
    }
}

/// Where a text comes from.
#[derive(Debug, Args)]
struct TextArgs {
    /// The text [default: standard input]
    text: Option<String>,
    /// Read it from a file
    #[arg(long, short, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
}

impl TextArgs {
    fn read(&self) -> anyhow::Result<String> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        let source: Box<dyn Read> = match &self.file {
            Some(path) => Box::new(fs_err::File::open(path)?),
            None => Box::new(std::io::stdin().lock()),
        };
        let mut text = String::new();
        source.take(MAX_TEXT_BYTES as u64 + 1).read_to_string(&mut text).context("cannot read the text")?;
        Ok(text)
    }

    /// Writes what became of it: byte for byte where it was read, with a line end where it was an argument, which has none.
    fn write(&self, text: &str) -> anyhow::Result<()> {
        if self.text.is_some() { output::print(text) } else { output::print_as_is(text) }
    }
}

/// Which type somebody may have meant.
fn meant(unknown: &str, known: &[&str]) -> String {
    let unknown = unknown.to_ascii_uppercase();
    // `EMAIL` is nearer to `EMAIL_ADDRESS` than to anything that is as long as it.
    let is_part = |name: &str| name.split('_').any(|word| word == unknown);
    let near = known.iter().map(|name| {
        let closeness = strsim::normalized_damerau_levenshtein(&unknown, name);
        (if is_part(name) { 1.0 + closeness } else { closeness }, name)
    });
    match near.filter(|(closeness, _)| *closeness > 0.5).max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("there are {}", known.join(", ")),
    }
}

/// What is wanted of a text.
#[derive(Debug, Args)]
struct DetectArgs {
    /// Only these types, such as EMAIL_ADDRESS,IBAN_CODE
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    entities: Vec<String>,
    /// Leave out findings of a lower score
    #[arg(long, value_name = "SCORE", default_value_t = DEFAULT_THRESHOLD)]
    threshold: f32,
}

impl DetectArgs {
    fn options(&self, detectors: &Detectors) -> anyhow::Result<Options> {
        let known = detectors.entities();
        if let Some(unknown) = self.entities.iter().find(|entity| !known.contains(entity.as_str())) {
            let known: Vec<&str> = known.into_iter().collect();
            anyhow::bail!("--entities: there is no type '{unknown}'; {}", meant(unknown, &known));
        }
        ensure!((0.0..=1.0).contains(&self.threshold), "--threshold: must be from 0 to 1, is {}", self.threshold);
        let entities = Some(self.entities.iter().cloned().collect::<BTreeSet<_>>()).filter(|names| !names.is_empty());
        Ok(Options { entities, threshold: self.threshold, ..Options::default() })
    }

    fn detect(&self, text: &str) -> anyhow::Result<Vec<Finding>> {
        let detectors = Detectors::default();
        Ok(detectors.detect(text, &self.options(&detectors)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_is_not_there_is_guessed_or_all_are_named() {
        let known = ["CREDIT_CARD", "EMAIL_ADDRESS", "IBAN_CODE", "IP_ADDRESS", "URL"];
        for (unknown, told) in [("EMAIL", "EMAIL_ADDRESS"), ("iban", "IBAN_CODE"), ("CREDITCARD", "CREDIT_CARD")] {
            assert_eq!(meant(unknown, &known), format!("did you mean {told}?"));
        }
        assert_eq!(meant("SHOE_SIZE", &known), "there are CREDIT_CARD, EMAIL_ADDRESS, IBAN_CODE, IP_ADDRESS, URL");
    }
}
