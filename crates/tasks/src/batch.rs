//! Tasks over whole tables: in order, resumable, nothing done twice and nothing lost.
//!
//! Beside the output stand `<output>.rejects.jsonl`, the rows without an answer and why, and while a run is not done `<output>.state.json`:
//! how many rows are done and how long the two files were then. A run that was stopped, however it was, cuts both files to those lengths
//! and goes on with the next row; it refuses to go on with another input, task or model.

use std::collections::BTreeMap;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fs_err::{File, OpenOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::RowError;
use crate::result::TaskResult;
use crate::runner::Runner;
use crate::spec::file_hash;
use crate::table::{Row, Table, TableError, text_of};

/// Rows that are answered between two notes of how far the run is.
const BATCH: usize = 128;

/// What a CSV has after the input's columns; with `task_` before them where the input has one of them.
const ANSWER_COLUMNS: [&str; 5] = ["line", "value", "confidence", "verdict", "flags"];

/// A batch cannot be run or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The table cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What was begun was begun otherwise.
    #[error("{} was begun with another {what}; go on with that, or begin again with --restart", path.display())]
    Changed {
        /// The output.
        path: PathBuf,
        /// `input`, `task` or `model`.
        what: &'static str,
    },
    /// The output is there, and no run that could go on.
    #[error("{} is there already; give another name, or write over it with --restart", path.display())]
    Exists {
        /// The output.
        path: PathBuf,
    },
    /// A file is not as the run left it.
    #[error("{}: {why}; begin again with --restart", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The model fails at every row: more rows would be lost for nothing.
    #[error("the model fails: {why}; {done} rows are done, and the same command goes on from there")]
    Model {
        /// The last fault.
        why: String,
        /// Rows done.
        done: u64,
    },
}

/// What to run.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The task and what answers it.
    pub runner: &'a Runner,
    /// The rows.
    pub table: &'a Table,
    /// Where the answers go: `.csv` has the input's columns and the answer's, anything else is JSON lines.
    pub output: PathBuf,
    /// Whether to go on with what is there.
    pub start: Start,
}

/// Whether to go on with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Go on with a run that was stopped.
    Resume,
    /// Write over what is there.
    Restart,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Rows done, those of earlier runs included.
    pub done: u64,
    /// All rows.
    pub total: u64,
    /// Rows a second in this run.
    pub rate: f64,
}

/// What became of the rows of all runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Rows done.
    pub rows: u64,
    /// Answers by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Rows without an answer by reason.
    pub rejects: BTreeMap<String, u64>,
    /// Prompt tokens.
    pub prompt_tokens: u64,
    /// Tokens written or searched.
    pub completion_tokens: u64,
    /// Time spent, in seconds.
    pub seconds: f64,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Counts over all runs.
    pub summary: Summary,
    /// Whether all rows are done.
    pub is_complete: bool,
    /// Rows that earlier runs had done.
    pub resumed_at: u64,
    /// Where the rows without an answer are, if there are any.
    pub rejects: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    input_sha256: String,
    task_hash: String,
    fingerprint: String,
    output_bytes: u64,
    reject_bytes: u64,
    summary: Summary,
}

/// Runs a task over a table until it is done or `progress` stops it.
///
/// # Errors
/// [`BatchError`]; what was done stays, and the next run goes on from there.
pub fn run(batch: &Batch<'_>, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<Outcome, BatchError> {
    if !matches!(extension(&batch.output).as_deref(), Some("csv" | "jsonl" | "ndjson")) {
        return Err(TableError::Format { path: batch.output.clone() }.into());
    }
    for column in &batch.runner.task().input {
        batch.table.expect(column)?;
    }
    let mut writer = Writer::open(batch)?;
    let resumed_at = writer.state.summary.rows;
    let (started, before) = (Instant::now(), writer.state.summary.seconds);
    // Rows that are taken from the table; those at the end of a chunk that found the model away are tried once more with the next.
    let mut chunk: Vec<Row> = Vec::new();
    let mut rows = batch.table.rows()?.skip(usize::try_from(resumed_at).unwrap_or(usize::MAX));
    let mut tell = |done: u64| {
        let rate = (done - resumed_at) as f64 / started.elapsed().as_secs_f64().max(1e-9);
        progress(Progress { done, total: batch.table.n_rows(), rate })
    };
    let mut is_complete = false;
    while tell(writer.state.summary.rows).is_continue() {
        for row in rows.by_ref().take(BATCH - chunk.len()) {
            chunk.push(row?);
        }
        if chunk.is_empty() {
            is_complete = true;
            break;
        }
        let outcomes = answer(batch.runner, &chunk);
        let n_known = known(&outcomes);
        // A server that is away is no reason to reject a row.
        if n_known == 0
            && let Some(Err(error)) = outcomes.iter().find(|outcome| is_away(outcome))
        {
            return Err(BatchError::Model { why: error.to_string(), done: writer.state.summary.rows });
        }
        for (row, outcome) in chunk.drain(..n_known).zip(outcomes) {
            writer.write(&row, outcome)?;
        }
        writer.state.summary.seconds = before + started.elapsed().as_secs_f64();
        writer.commit()?;
    }
    let has_rejects = !writer.state.summary.rejects.is_empty();
    let rejects = writer.rejects_path.clone();
    if !has_rejects {
        fs_err::remove_file(&rejects)?;
    }
    if is_complete {
        fs_err::remove_file(&writer.state_path)?;
    }
    Ok(Outcome { summary: writer.state.summary, is_complete, resumed_at, rejects: has_rejects.then_some(rejects) })
}

/// How many rows of a chunk have an outcome that stands: all up to the last one that the model was there for.
fn known(outcomes: &[Result<TaskResult, RowError>]) -> usize {
    let was_there =
        |outcome: &Result<_, RowError>| !is_away(outcome) && !matches!(outcome, Err(RowError::Input { .. }));
    match outcomes.iter().any(is_away) {
        true => outcomes.iter().rposition(was_there).map_or(0, |last| last + 1),
        false => outcomes.len(),
    }
}

fn is_away(outcome: &Result<TaskResult, RowError>) -> bool {
    matches!(outcome, Err(RowError::Model { retry: true, .. }))
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// One outcome per row of a chunk.
fn answer(runner: &Runner, chunk: &[Row]) -> Vec<Result<TaskResult, RowError>> {
    let columns = &runner.task().input;
    let input = |row: &Row| -> Result<Vec<String>, RowError> {
        let fields = row.fields.as_ref();
        let fields = fields.map_err(|why| RowError::Input { field: "row".to_owned(), why: why.clone() })?;
        let field = |name: &String| match fields.get(name) {
            Some(value) => Ok(text_of(value)),
            None => Err(RowError::Input { field: name.clone(), why: "is missing".to_owned() }),
        };
        columns.iter().map(field).collect()
    };
    let inputs: Vec<Result<Vec<String>, RowError>> = chunk.iter().map(input).collect();
    let good: Vec<Vec<String>> = inputs.iter().filter_map(|input| input.as_ref().ok().cloned()).collect();
    let mut answers = runner.run(&good).into_iter();
    inputs.into_iter().map(|input| input.and_then(|_| answers.next().unwrap_or(Err(RowError::Stopped)))).collect()
}

struct Writer<'a> {
    table: &'a Table,
    state: State,
    state_path: PathBuf,
    rejects_path: PathBuf,
    output: BufWriter<File>,
    rejects: BufWriter<File>,
    is_csv: bool,
}

impl<'a> Writer<'a> {
    fn open(batch: &Batch<'a>) -> Result<Self, BatchError> {
        let beside = |end: &str| {
            let mut name = batch.output.as_os_str().to_owned();
            name.push(end);
            PathBuf::from(name)
        };
        let (state_path, rejects_path) = (beside(".state.json"), beside(".rejects.jsonl"));
        let now = State {
            input_sha256: file_hash(batch.table.path())?,
            task_hash: batch.runner.task().hash.clone(),
            fingerprint: batch.runner.fingerprint().to_owned(),
            output_bytes: 0,
            reject_bytes: 0,
            summary: Summary::default(),
        };
        let earlier = match batch.start {
            Start::Restart => None,
            Start::Resume => read_state(&state_path)?,
        };
        if earlier.is_none() && batch.start == Start::Resume && batch.output.exists() {
            return Err(BatchError::Exists { path: batch.output.clone() });
        }
        let is_new = earlier.is_none();
        let state = match earlier {
            None => now,
            Some(earlier) => {
                let differs = [
                    ("input", earlier.input_sha256 != now.input_sha256),
                    ("task", earlier.task_hash != now.task_hash),
                    ("model", earlier.fingerprint != now.fingerprint),
                ];
                if let Some((what, _)) = differs.into_iter().find(|(_, differs)| *differs) {
                    return Err(BatchError::Changed { path: batch.output.clone(), what });
                }
                earlier
            }
        };
        let is_csv = extension(&batch.output).as_deref() == Some("csv");
        let mut writer = Writer {
            table: batch.table,
            output: cut(&batch.output, state.output_bytes)?,
            rejects: cut(&rejects_path, state.reject_bytes)?,
            state,
            state_path,
            rejects_path,
            is_csv,
        };
        if is_new {
            if is_csv {
                let columns: Vec<&str> = writer.table.columns().iter().map(String::as_str).collect();
                // No two columns of one name.
                let is_taken = ANSWER_COLUMNS.iter().any(|name| columns.contains(name));
                let answers =
                    ANSWER_COLUMNS.map(|name| if is_taken { format!("task_{name}") } else { name.to_owned() });
                let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
                writer.csv(&[columns, answers].concat())?;
            }
            writer.commit()?;
        }
        Ok(writer)
    }

    fn csv(&mut self, fields: &[&str]) -> Result<(), BatchError> {
        let mut line = csv::WriterBuilder::new().from_writer(Vec::new());
        line.write_record(fields).map_err(std::io::Error::other)?;
        let line = line.into_inner().map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(self.output.write_all(&line)?)
    }

    fn write(&mut self, row: &Row, outcome: Result<TaskResult, RowError>) -> Result<(), BatchError> {
        let summary = &mut self.state.summary;
        summary.rows += 1;
        match outcome {
            Ok(result) => {
                summary.prompt_tokens += result.usage.prompt_tokens as u64;
                summary.completion_tokens += result.usage.completion_tokens as u64;
                *summary.verdicts.entry(result.verdict.name().to_owned()).or_default() += 1;
                let fields = row.fields.as_ref().ok();
                if self.is_csv {
                    let of =
                        |column: &String| fields.and_then(|fields| fields.get(column)).map(text_of).unwrap_or_default();
                    let mut record: Vec<String> = self.table.columns().iter().map(of).collect();
                    record.push(row.line.to_string());
                    record.push(text_of(&result.value));
                    record.push(result.confidence.map(|c| format!("{c:.4}")).unwrap_or_default());
                    record.push(result.verdict.name().to_owned());
                    record.push(result.flags.join(" "));
                    let record: Vec<&str> = record.iter().map(String::as_str).collect();
                    self.csv(&record)
                } else {
                    let mut line = Map::new();
                    line.insert("line".into(), row.line.into());
                    line.insert("input".into(), fields.cloned().map_or(Value::Null, Value::Object));
                    line.insert("result".into(), serde_json::to_value(&result).map_err(std::io::Error::from)?);
                    serde_json::to_writer(&mut self.output, &line).map_err(std::io::Error::from)?;
                    Ok(self.output.write_all(b"\n")?)
                }
            }
            Err(error) => {
                *summary.rejects.entry(error.code().to_owned()).or_default() += 1;
                let input = row.fields.as_ref().ok();
                let line = json!({"line": row.line, "code": error.code(), "reason": error.to_string(), "input": input});
                serde_json::to_writer(&mut self.rejects, &line).map_err(std::io::Error::from)?;
                Ok(self.rejects.write_all(b"\n")?)
            }
        }
    }

    /// Makes what was written last: from here on a later run goes on after it.
    fn commit(&mut self) -> Result<(), BatchError> {
        for (file, bytes) in
            [(&mut self.output, &mut self.state.output_bytes), (&mut self.rejects, &mut self.state.reject_bytes)]
        {
            file.flush()?;
            file.get_ref().sync_data()?;
            *bytes = file.stream_position()?;
        }
        let temporary = self.state_path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&self.state).map_err(std::io::Error::from)?)?;
        file.sync_all()?;
        Ok(fs_err::rename(&temporary, &self.state_path)?)
    }
}

fn read_state(path: &Path) -> Result<Option<State>, BatchError> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let state = serde_json::from_slice(&bytes);
    state.map(Some).map_err(|error| BatchError::Damaged { path: path.to_owned(), why: error.to_string() })
}

/// A file to be written on from this length on; what lies past it was never noted.
fn cut(path: &Path, length: u64) -> Result<BufWriter<File>, BatchError> {
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    let found = file.metadata()?.len();
    if found < length {
        let why = format!("has {found} bytes and had {length}");
        return Err(BatchError::Damaged { path: path.to_owned(), why });
    }
    file.set_len(length)?;
    file.seek(SeekFrom::End(0))?;
    Ok(BufWriter::new(file))
}
