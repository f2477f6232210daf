//! Writing results to standard output.

use std::fmt;
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// The reader of standard output has gone (`| head`): the end of the work, but no failure.
#[derive(Debug)]
pub(crate) struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// The outcome of a write to standard output.
///
/// # Errors
/// [`ReaderGone`], or what the system said.
pub(crate) fn written(outcome: io::Result<()>) -> anyhow::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        other => Ok(other?),
    }
}

/// Writes a text and a line end.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    written(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes a text and nothing more.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print_as_is(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes a value as JSON on one line.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string(value)?)
}

/// A table without frame. The columns named in `right` are aligned to the right.
pub(crate) fn table(headers: &[&str], right: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headers);
    for (column, header) in table.column_iter_mut().zip(headers) {
        column.set_padding((0, 2));
        if right.contains(header) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.add_rows(rows);
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// `134_515_008` parameters as `135M`, `7_248_023_552` as `7.2B`.
pub(crate) fn parameters(n: u64) -> String {
    match n {
        0..1_000_000 => n.to_string(),
        1_000_000..1_000_000_000 => format!("{:.0}M", n as f64 / 1e6),
        _ => format!("{:.1}B", n as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_read_well() {
        assert_eq!(parameters(134_515_008), "135M");
        assert_eq!(parameters(7_248_023_552), "7.2B");
        assert_eq!(parameters(12), "12");
    }

    #[test]
    fn tables_have_no_trailing_space() {
        let text = table(
            &["NAME", "SIZE"],
            &["SIZE"],
            vec![vec!["a".into(), "1 B".into()], vec!["long".into(), "10 B".into()]],
        );
        assert_eq!(text, "NAME  SIZE\na      1 B\nlong  10 B");
    }
}
