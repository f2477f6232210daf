//! The first day with a labelled table: what answers today is set beside everything that could, on rows that none of them
//! saw, and the choice is written as a task file.
//!
//! Models are the caller's: it offers them by name and opens each when its turn comes, one at a time.

mod accept;
mod choice;
mod columns;
mod draft;
mod measure;
mod memory;
mod rows;
mod run;
mod split;
mod warnings;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bantam_tasks::model::{EncoderModel, LanguageModel};
use bantam_tasks::table::{Table, TableError};
use bantam_tasks::{Task, TaskError};

pub use accept::Acceptance;
pub use choice::{RULE, winner};
pub use columns::{Columns, Target, Wanted};
pub use memory::available_bytes;
pub use rows::Counts;
pub use run::{Outcome, Report, Summary};

use crate::quality::QualityError;
use crate::report::{Candidate, ReportError};
use draft::{Draft, Variant};
use rows::Rows;
use split::Split;

/// Fewest labelled rows.
pub const MIN_ROWS: usize = 20;
/// The file by which a directory is known as a pilot's own.
const SUMMARY_FILE: &str = "pilot.json";

/// How a pilot is run.
#[derive(Debug, Clone)]
pub struct PilotConfig {
    /// The name of the task that is written.
    pub name: String,
    /// Where the task and the reports go.
    pub out: PathBuf,
    /// The share of rows that judge, from 0.05 to 0.9.
    pub test_share: f64,
    /// Most rows that judge: of large tables a smaller share does.
    pub max_test: usize,
    /// Most rows that are used at all.
    pub limit: usize,
    /// Most time that a candidate is asked.
    pub per_candidate: Duration,
    /// What an hour of this machine costs, in US dollars.
    pub machine_cost_per_hour: f64,
}

/// A model that could answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Its name as the task file is to have it.
    pub model: String,
    /// Where it is, if not on this machine.
    pub server: Option<Server>,
}

/// An OpenAI-compatible server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its base URL.
    pub url: String,
    /// The environment variable with its key.
    pub api_key_env: Option<String>,
}

/// A model that runs.
pub enum Contender {
    /// One that writes text: it is tried without examples and with some.
    Generating(Box<dyn LanguageModel>),
    /// One that makes vectors: a head is fitted on them.
    Encoder(EncoderModel),
}

/// Starts the model of an offer; why it cannot be is told in the report.
pub type Open<'a> = dyn FnMut(&Offer) -> Result<Contender, String> + 'a;

/// What happens. The answer says whether to go on.
#[derive(Debug)]
pub enum Event<'a> {
    /// A candidate's turn has come.
    Begins {
        /// Its name.
        name: &'a str,
    },
    /// How far it is.
    At {
        /// What is being done.
        what: &'a str,
        /// Parts done.
        done: usize,
        /// All parts.
        total: usize,
    },
    /// A candidate is done.
    Measured(&'a Candidate),
    /// A candidate could not be measured.
    Skipped {
        /// Its name.
        name: &'a str,
        /// Why.
        reason: &'a str,
    },
}

/// Hears of everything and may end the work.
pub type OnEvent<'a> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'a;

/// A pilot cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PilotError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// No column looks like what is needed.
    #[error("no column looks like {what}; there are {}: name one with {option}", quoted(found))]
    NoColumn {
        /// `texts` or `labels`.
        what: &'static str,
        /// The option that names it.
        option: &'static str,
        /// The columns that there are.
        found: Vec<String>,
    },
    /// Too few rows to learn from and to judge by.
    #[error("{}: there are {rows} labelled rows with a text, and {MIN_ROWS} are the least; label more{left_out}", path.display())]
    TooFew {
        /// Rows that can be used.
        rows: usize,
        /// The table.
        path: PathBuf,
        /// What became of the others, as a text that follows the rest, or nothing.
        left_out: String,
    },
    /// There is nothing to tell apart.
    #[error(
        "column '{column}': all {rows} rows have the label '{label}'; give rows of other labels, or another --label"
    )]
    OneLabel {
        /// The column.
        column: String,
        /// The label.
        label: String,
        /// How many rows.
        rows: usize,
    },
    /// More labels than a task has.
    #[error(
        "column '{column}': has {labels} different labels, and a task has at most {}; merge the rare ones, split the task, \
         or name another column with --label",
        bantam_tasks::MAX_LABELS
    )]
    ManyLabels {
        /// The column.
        column: String,
        /// How many labels.
        labels: usize,
    },
    /// A setting outside its domain.
    #[error("{name}: {value} is not allowed, it must be {expected}")]
    Setting {
        /// The option.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The domain, in words.
        expected: &'static str,
    },
    /// The directory has other files.
    #[error("{}: is there already and no pilot's; give another with --out", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
    },
    /// The task cannot be written.
    #[error("the task file cannot be written: {why}")]
    Draft {
        /// What the writer says.
        why: String,
    },
    /// The task that the table makes cannot be used.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The figures cannot be computed.
    #[error(transparent)]
    Quality(#[from] QualityError),
    /// The report cannot be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The statistics refuse the numbers.
    #[error(transparent)]
    Stats(#[from] bantam_stats::StatsError),
    /// Somebody stopped it before a candidate was done.
    #[error("it was stopped before a candidate was done")]
    Stopped,
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// Why a candidate ends early.
#[derive(Debug)]
enum Stop {
    /// Somebody wants it.
    Asked,
    /// It cannot be measured.
    Failed(String),
    /// Nothing can.
    Fatal(PilotError),
}

impl<E: Into<PilotError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Stop::Fatal(error.into())
    }
}

/// A table that was read, split and looked through.
#[derive(Debug)]
pub struct Pilot {
    config: PilotConfig,
    columns: Columns,
    rows: Rows,
    split: Split,
    examples: Vec<usize>,
    warnings: Vec<String>,
}

impl Pilot {
    /// Reads a table and splits it.
    ///
    /// # Errors
    /// [`PilotError`] says what is wrong with the table or a setting.
    pub fn new(table: &Table, wanted: &Wanted, config: PilotConfig) -> Result<Self, PilotError> {
        check(&config)?;
        let columns = Columns::find(table, wanted)?;
        let rows = Rows::read(table, &columns, config.limit)?;
        let share = config.test_share.min(config.max_test as f64 / rows.rows.len() as f64);
        let mut split = Split::new(&rows.rows, share);
        split.test.truncate(config.max_test);
        if split.test.is_empty() || split.train.len() < bantam_tasks::fit::MIN_ROWS {
            return Err(PilotError::TooFew {
                rows: rows.rows.len(),
                path: table.path().to_owned(),
                left_out: rows.counts.left_out(),
            });
        }
        let examples = draft::examples(&rows, &split.train);
        let warnings = warnings::of_table(&rows, &split);
        let pilot = Self { config, columns, rows, split, examples, warnings };
        // Labels that no task may have are told before anything is loaded.
        pilot.task(&Variant::default())?;
        Ok(pilot)
    }

    /// What was found in the table, in a line or two.
    #[must_use]
    pub fn overview(&self) -> String {
        use crate::text::counted;
        let what = match &self.columns.target {
            Target::Label(column) => {
                format!("{} in '{column}'", counted(self.rows.labels.len(), "label", "labels"))
            }
            Target::Fields(names) => format!("the fields {}", names.join(", ")),
        };
        let llm = self.columns.llm_answer.as_ref();
        let llm = llm.map_or_else(String::new, |column| format!(", the LLM's answers in '{column}'"));
        format!(
            "{} with texts in '{}', {what}{llm}: {} teach, {} judge",
            counted(self.rows.rows.len(), "row", "rows"),
            self.columns.text,
            self.split.train.len(),
            self.split.test.len()
        )
    }

    /// What makes figures of this table doubtful.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The columns that are used.
    #[must_use]
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    fn draft(&self) -> Draft<'_> {
        Draft { name: &self.config.name, columns: &self.columns, rows: &self.rows }
    }

    fn task(&self, variant: &Variant<'_>) -> Result<Task, PilotError> {
        self.draft().task(variant, &self.config.out)
    }
}

fn check(config: &PilotConfig) -> Result<(), PilotError> {
    let setting = |name, value, expected| Err(PilotError::Setting { name, value, expected });
    if !(0.05..=0.9).contains(&config.test_share) {
        return setting("--test-share", config.test_share, "between 0.05 and 0.9");
    }
    if !(config.machine_cost_per_hour >= 0.0 && config.machine_cost_per_hour.is_finite()) {
        return setting("--machine-cost-per-hour", config.machine_cost_per_hour, "at least 0");
    }
    if config.per_candidate.is_zero() {
        return setting("--minutes-per-candidate", 0.0, "above 0");
    }
    if config.max_test == 0 {
        return setting("--max-test", 0.0, "at least 1");
    }
    if is_taken(&config.out)? {
        return Err(PilotError::Taken { path: config.out.clone() });
    }
    Ok(())
}

/// Whether there are files that an earlier pilot did not write.
fn is_taken(out: &Path) -> Result<bool, PilotError> {
    match fs_err::read_dir(out) {
        Ok(mut entries) => Ok(entries.next().is_some() && !out.join(SUMMARY_FILE).is_file()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl std::fmt::Debug for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Contender::Generating(model) => f.debug_tuple("Generating").field(&model.id()).finish(),
            Contender::Encoder(encoder) => f.debug_tuple("Encoder").field(&encoder.id).finish(),
        }
    }
}

/// How a model is made to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// A head fitted on an encoder's vectors.
    Head,
    /// A generating model without examples.
    ZeroShot,
    /// A generating model with examples in its prompt.
    FewShot,
}
