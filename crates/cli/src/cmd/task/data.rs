//! Labelled tables.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use bantam_tasks::Task;
use bantam_tasks::fit::Labelled;
use bantam_tasks::table::{Table, text_of};
use clap::Args;
use serde_json::{Map, Value};

/// A table with right answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    /// Labelled table: .csv with a header, .tsv, or .jsonl
    #[arg(long, short, value_name = "FILE")]
    pub(crate) data: PathBuf,
    /// Column with the right answer; for fields, the columns have the fields' names, or this one has a JSON object
    #[arg(long, short, value_name = "COLUMN")]
    pub(crate) answer: Option<String>,
    /// What separates the labels of one row, where rows have several
    #[arg(long, value_name = "TEXT", default_value = ",")]
    pub(crate) separator: String,
}

impl DataArgs {
    /// The rows; one that cannot be used is an error that names its line.
    pub(crate) fn read(&self, task: &Task) -> anyhow::Result<Vec<Labelled>> {
        Ok(self.read_lines(task)?.into_iter().map(|(_, row)| row).collect())
    }

    /// The rows with the lines on which they begin, as [`DataArgs::read`].
    pub(crate) fn read_lines(&self, task: &Task) -> anyhow::Result<Vec<(u64, Labelled)>> {
        let table = Table::open(&self.data)?;
        for column in &task.input {
            table.expect(column)?;
        }
        if let Some(column) = &self.answer {
            table.expect(column)?;
        }
        let mut rows = Vec::new();
        for row in table.rows()? {
            let row = row?;
            let at = || format!("{}, line {}", self.data.display(), row.line);
            let fields = row.fields.as_ref().map_err(|why| anyhow::anyhow!("{}: {why}", at()))?;
            let input = task.input.iter().map(|column| fields.get(column).map(text_of).unwrap_or_default()).collect();
            let answer = self.answer(task, fields).with_context(at)?;
            rows.push((row.line, Labelled { input, answer }));
        }
        Ok(rows)
    }

    fn answer(&self, task: &Task, fields: &Map<String, Value>) -> anyhow::Result<Value> {
        let value = match &self.answer {
            Some(column) => fields.get(column).with_context(|| format!("has no '{column}'"))?,
            None => {
                ensure!(task.label_names().is_empty(), "which column has the right label? Give --answer COLUMN");
                return Ok(task.answer_from_fields(fields));
            }
        };
        Ok(task.answer_from(value, &self.separator)?)
    }
}
