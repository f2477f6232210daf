//! Reports: one HTML file that needs nothing else and may load nothing else, and the same figures as tables of texts for
//! the terminal. As JSON, an [`Evaluation`] or a [`Comparison`] is serialised as it is.

mod comparison;
mod evaluation;
mod page;
mod sections;
mod table;

use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::quality::QualityError;
use crate::text::{count, shortened};
pub use comparison::{Candidate, Comparison, Contest, Skipped, Standing};
pub use evaluation::Evaluation;
pub use table::{Align, Column, Table};

/// Columns of an outside text that is more than a name.
const LONGEST: usize = 600;

/// What was run on what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// The name of the task.
    pub task: String,
    /// The digest of the task file.
    pub task_digest: Option<String>,
    /// The model, with its version.
    pub model: Option<String>,
    /// The table that the judged rows come from.
    pub data: DataFile,
    /// When, as the reader is to see it.
    pub date: String,
    /// The command line.
    pub command: String,
    /// The machine, in words.
    pub machine: Option<String>,
    /// The program and its version.
    pub program: String,
}

/// A table on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DataFile {
    /// Its path.
    pub path: String,
    /// Its digest, with the name of the function.
    pub digest: String,
    /// Its rows, judged or not.
    pub rows: usize,
}

impl DataFile {
    /// A table on disk as it is now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path, rows: usize) -> io::Result<Self> {
        let mut file = fs_err::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let digest: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.display().to_string(), digest: format!("SHA-256 {digest}"), rows })
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The figures cannot be computed.
    #[error(transparent)]
    Quality(#[from] QualityError),
    /// The page cannot be written.
    #[error("the report cannot be rendered: {0}")]
    Render(#[from] askama::Error),
}

impl About {
    fn table(&self) -> Table {
        let mut table = Table::new([("what", Align::Left), ("which", Align::Left)]);
        let data = format!("{}, {} rows, {}", self.data.path, count(self.data.rows), self.data.digest);
        let lines = [
            ("task", Some(&self.task)),
            ("task digest", self.task_digest.as_ref()),
            ("model", self.model.as_ref()),
            ("data", Some(&data)),
            ("date", Some(&self.date)),
            ("command", Some(&self.command)),
            ("machine", self.machine.as_ref()),
            ("program", Some(&self.program)),
        ];
        let given =
            lines.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)));
        table.rows.extend(given.map(|(name, value)| vec![name.to_owned(), shortened(value, LONGEST)]));
        table
    }
}
