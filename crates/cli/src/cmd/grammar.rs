//! What `bantam run` holds an answer to.

use std::path::PathBuf;

use anyhow::Context;
use bantam_engine::{Grammar, GrammarSource};
use clap::Args;

use crate::load::Loaded;

/// At most one of these.
#[derive(Debug, Args)]
#[command(next_help_heading = "Form of the answer")]
#[group(multiple = false)]
pub(crate) struct GrammarArgs {
    /// Answer with JSON that is valid under this JSON Schema
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Answer with a JSON object
    #[arg(long)]
    json_object: bool,
    /// Answer with text that this regular expression matches as a whole
    #[arg(long, value_name = "REGEX")]
    regex: Option<String>,
    /// Answer with one of these texts, separated by commas
    #[arg(long, value_name = "TEXTS", value_delimiter = ',')]
    choice: Vec<String>,
    /// Answer with text that follows this grammar, in llguidance's variant of Lark
    #[arg(long, value_name = "FILE")]
    lark: Option<PathBuf>,
}

impl GrammarArgs {
    fn source(&self) -> anyhow::Result<Option<GrammarSource>> {
        let read = |path| fs_err::read_to_string(path);
        Ok(match self {
            GrammarArgs { schema: Some(path), .. } => {
                let schema = serde_json::from_str(&read(path)?);
                let schema = schema.with_context(|| format!("{} is not JSON", path.display()))?;
                Some(GrammarSource::JsonSchema(schema))
            }
            GrammarArgs { json_object: true, .. } => Some(GrammarSource::JsonObject),
            GrammarArgs { regex: Some(regex), .. } => Some(GrammarSource::Regex(regex.clone())),
            GrammarArgs { lark: Some(path), .. } => Some(GrammarSource::Lark(read(path)?)),
            GrammarArgs { choice, .. } if !choice.is_empty() => Some(GrammarSource::Choice(choice.clone())),
            _ => None,
        })
    }

    /// Whether one was given.
    pub(crate) fn is_some(&self) -> bool {
        let GrammarArgs { schema, json_object, regex, choice, lark } = self;
        schema.is_some() || *json_object || regex.is_some() || !choice.is_empty() || lark.is_some()
    }

    pub(crate) fn compile(&self, loaded: &Loaded) -> anyhow::Result<Option<Grammar>> {
        let Some(source) = self.source()? else { return Ok(None) };
        Ok(Some(loaded.engine.compile_grammar(&source)?))
    }
}

/// An answer that had to follow a grammar and was cut before it did.
#[derive(Debug)]
pub(crate) struct AnswerCut;

impl std::fmt::Display for AnswerCut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was cut by the token limit and is not complete; give it more with --max-tokens")
    }
}

impl std::error::Error for AnswerCut {}
