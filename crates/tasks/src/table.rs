//! Tables of rows: CSV with a header, or a JSON object per line. Faults name the line.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use fs_err::File;
use serde_json::{Map, Value};

/// Longest line of a JSON-lines file, in bytes.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// Most columns of a CSV.
const MAX_COLUMNS: usize = 1024;

/// A table cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Its extension says nothing.
    #[error("{}: the name must end in .csv, .tsv, .jsonl or .ndjson", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// It has no rows, or no header.
    #[error("{}: is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line breaks the table.
    #[error("{}, line {line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A column is not there.
    #[error("{}: there is no column '{column}'; there are {}", path.display(), found.join(", "))]
    Column {
        /// The file.
        path: PathBuf,
        /// The column that was asked for.
        column: String,
        /// Those that there are.
        found: Vec<String>,
    },
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// With a header; the separator.
    Csv(u8),
    /// A JSON object per line.
    JsonLines,
}

/// A table whose shape was checked.
#[derive(Debug, Clone)]
pub struct Table {
    path: PathBuf,
    format: Format,
    columns: Vec<String>,
    n_rows: u64,
    /// 1 where lines end with two characters: the reader takes a record as beginning before the second of them.
    line_shift: u64,
}

/// A row by its line.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// Its fields by column; or what is wrong with it.
    pub fields: Result<Map<String, Value>, String>,
}

impl Table {
    /// Opens a table and reads through it once: quotes must be closed, and rows are counted.
    ///
    /// # Errors
    /// [`TableError`] names the line.
    pub fn open(path: &Path) -> Result<Table, TableError> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
        match &*extension {
            "csv" | "tsv" => Table::open_csv(path),
            "jsonl" | "ndjson" => Table::open_json_lines(path),
            _ => Err(TableError::Format { path: path.to_owned() }),
        }
    }

    fn open_csv(path: &Path) -> Result<Table, TableError> {
        let line_error = |line, why: String| TableError::Line { path: path.to_owned(), line, why };
        let mut first = String::new();
        let mut reader = BufReader::new(File::open(path)?.take(MAX_LINE_BYTES));
        if let Err(error) = reader.read_line(&mut first) {
            return Err(line_error(1, format!("is no UTF-8 text: {error}")));
        }
        if first.trim().is_empty() {
            return Err(TableError::Empty { path: path.to_owned() });
        }
        let count = |separator: u8| first.bytes().filter(|byte| *byte == separator).count();
        // The first of the most frequent.
        let separator = [b',', b';', b'\t'].into_iter().rev().max_by_key(|separator| count(*separator)).unwrap_or(b',');
        check_quotes(path, separator)?;
        let format = Format::Csv(separator);
        let mut reader = csv_reader(path, separator)?;
        let header = reader.headers().map_err(|error| line_error(1, error.to_string()))?;
        let columns: Vec<String> =
            header.iter().map(|name| name.trim().trim_start_matches('\u{feff}').to_owned()).collect();
        if columns.len() > MAX_COLUMNS {
            return Err(line_error(1, format!("has {} columns, and {MAX_COLUMNS} are the most", columns.len())));
        }
        if let Some(i) = (1..columns.len()).find(|&i| columns[..i].contains(&columns[i])) {
            return Err(line_error(1, format!("the column '{}' is there twice", columns[i])));
        }
        let mut n_rows = 0;
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|error| line_error(0, error.to_string()))? {
            n_rows += 1;
        }
        let line_shift = u64::from(first.ends_with("\r\n"));
        Ok(Table { path: path.to_owned(), format, columns, n_rows, line_shift })
    }

    fn open_json_lines(path: &Path) -> Result<Table, TableError> {
        let mut table =
            Table { path: path.to_owned(), format: Format::JsonLines, columns: Vec::new(), n_rows: 0, line_shift: 0 };
        for row in table.rows()? {
            let row = row?;
            if table.n_rows == 0 {
                let fields = row.fields.as_ref().map_err(|why| TableError::Line {
                    path: path.to_owned(),
                    line: row.line,
                    why: why.clone(),
                });
                table.columns = fields?.keys().cloned().collect();
            }
            table.n_rows += 1;
        }
        if table.n_rows == 0 { Err(TableError::Empty { path: path.to_owned() }) } else { Ok(table) }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The columns: the header's, or those of the first object.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many rows there are, those that cannot be used included.
    #[must_use]
    pub fn n_rows(&self) -> u64 {
        self.n_rows
    }

    /// Checks that a column is there.
    ///
    /// # Errors
    /// [`TableError::Column`] names those that are.
    pub fn expect(&self, column: &str) -> Result<(), TableError> {
        if self.columns.iter().any(|found| found == column) {
            return Ok(());
        }
        let found = self.columns.iter().map(|name| format!("'{name}'")).collect();
        Err(TableError::Column { path: self.path.clone(), column: column.to_owned(), found })
    }

    /// The rows in order.
    ///
    /// # Errors
    /// If the file cannot be opened; items: if it cannot be read on.
    pub fn rows(&self) -> Result<Box<dyn Iterator<Item = Result<Row, TableError>>>, TableError> {
        match self.format {
            Format::Csv(separator) => {
                let columns = self.columns.clone();
                let path = self.path.clone();
                let line_shift = self.line_shift;
                let records = csv_reader(&self.path, separator)?.into_byte_records();
                Ok(Box::new(records.map(move |record| {
                    let row = csv_row(&path, &columns, record)?;
                    Ok(Row { line: row.line + line_shift, ..row })
                })))
            }
            Format::JsonLines => Ok(Box::new(JsonLines { reader: BufReader::new(File::open(&self.path)?), line: 0 })),
        }
    }
}

fn csv_reader(path: &Path, separator: u8) -> Result<csv::Reader<File>, TableError> {
    Ok(csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(File::open(path)?))
}

fn csv_row(path: &Path, columns: &[String], record: csv::Result<csv::ByteRecord>) -> Result<Row, TableError> {
    let record = record.map_err(|error| {
        let line = error.position().map_or(0, csv::Position::line);
        TableError::Line { path: path.to_owned(), line, why: error.to_string() }
    })?;
    let line = record.position().map_or(0, csv::Position::line);
    if record.len() != columns.len() {
        let why = format!("has {} fields, and the header {}", record.len(), columns.len());
        return Ok(Row { line, fields: Err(why) });
    }
    let field = |(name, bytes): (&String, &[u8])| match std::str::from_utf8(bytes) {
        Ok(text) => Ok((name.clone(), Value::from(text))),
        Err(error) => Err(format!("'{name}' is no UTF-8 text: {error}")),
    };
    Ok(Row { line, fields: columns.iter().zip(record.iter()).map(field).collect() })
}

/// Quotes as RFC 4180 has them. What follows a quote that is not closed would all be one field.
fn check_quotes(path: &Path, separator: u8) -> Result<(), TableError> {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        FieldStart,
        Plain,
        Quoted,
        AfterQuote,
    }
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let (mut at, mut line, mut opened) = (At::FieldStart, 1u64, 0u64);
    let fault = |line, why: &str| TableError::Line { path: path.to_owned(), line, why: why.to_owned() };
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        let n = bytes.len();
        for &byte in bytes {
            at = match (at, byte) {
                (At::Quoted, b'"') => At::AfterQuote,
                (At::Quoted, _) => At::Quoted,
                (At::AfterQuote, b'"') => At::Quoted,
                (At::FieldStart, b'"') => {
                    opened = line;
                    At::Quoted
                }
                (_, b'\n' | b'\r') => At::FieldStart,
                (_, byte) if byte == separator => At::FieldStart,
                (At::AfterQuote, _) => {
                    return Err(fault(line, "text follows a closing quote; write a quote inside a field twice"));
                }
                (At::FieldStart | At::Plain, _) => At::Plain,
            };
            line += u64::from(byte == b'\n');
        }
        reader.consume(n);
    }
    match at {
        At::Quoted => Err(fault(opened, "a quote is opened here and never closed")),
        _ => Ok(()),
    }
}

struct JsonLines {
    reader: BufReader<File>,
    line: u64,
}

impl Iterator for JsonLines {
    type Item = Result<Row, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut bytes = Vec::new();
            let read = (&mut self.reader).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes);
            self.line += 1;
            match read {
                Ok(0) => return None,
                Err(error) => return Some(Err(error.into())),
                Ok(_) if bytes.iter().all(u8::is_ascii_whitespace) => {}
                Ok(_) => {
                    let fields = if bytes.len() as u64 >= MAX_LINE_BYTES {
                        // The rest of the line is no row of its own.
                        let _ = self.reader.skip_until(b'\n');
                        Err(format!("is longer than {MAX_LINE_BYTES} bytes"))
                    } else {
                        object(&bytes)
                    };
                    return Some(Ok(Row { line: self.line, fields }));
                }
            }
        }
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("is JSON, and no object".to_owned()),
        Err(error) => Err(format!("is no JSON: {error}")),
    }
}

/// A field as text: a text itself, nothing for null, JSON for the rest.
#[must_use]
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Csv(b'\t') => "tab-separated",
            Format::Csv(b';') => "CSV with semicolons",
            Format::Csv(_) => "CSV",
            Format::JsonLines => "JSON lines",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, content: impl AsRef<[u8]>) -> Result<Vec<Row>, TableError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let table = Table::open(&path)?;
        let rows: Vec<Row> = table.rows()?.collect::<Result<_, _>>()?;
        assert_eq!(rows.len() as u64, table.n_rows());
        Ok(rows)
    }

    fn refused(name: &str, content: impl AsRef<[u8]>) -> String {
        table(name, content).unwrap_err().to_string()
    }

    fn field(row: &Row, name: &str) -> String {
        text_of(&row.fields.as_ref().unwrap()[name])
    }

    #[test]
    fn quotes_separators_and_marks_are_read() {
        let rows = table("a.csv", "\u{feff}text,label\n\"a, \"\"b\"\"\nc\",x\nplain \"quoted\" text,y\n").unwrap();
        assert_eq!((&*field(&rows[0], "text"), rows[0].line), ("a, \"b\"\nc", 2));
        assert_eq!((&*field(&rows[1], "text"), rows[1].line), ("plain \"quoted\" text", 4));
        let rows = table("a.csv", "text;label\r\na,b;x\r\n\"c\r\nd\";y\r\ne;z\r\n").unwrap();
        assert_eq!(field(&rows[0], "text"), "a,b");
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(field(&table("a.tsv", "text\tlabel\na b\tx").unwrap()[0], "label"), "x");
    }

    #[test]
    fn broken_quoting_names_its_line() {
        assert!(refused("a.csv", "text,label\na,x\n\"b,y\nc,z\n").contains("line 3: a quote is opened"));
        assert!(refused("a.csv", "text,label\n\"a\"b,x\n").contains("line 2: text follows"));
    }

    #[test]
    fn a_row_that_cannot_be_used_is_told_of_and_the_others_are_read() {
        let rows = table("a.csv", b"text,label\na\nb,y\nc,z,w\n\xff\xfe,x\n").unwrap();
        assert_eq!(rows.iter().filter(|row| row.fields.is_ok()).count(), 1);
        assert!(rows[0].fields.as_ref().unwrap_err().contains("1 fields"));
        assert!(rows[3].fields.as_ref().unwrap_err().contains("UTF-8"));
        let rows = table("a.jsonl", "{\"text\":\"a\",\"n\":1.5}\n\nnope\n[1]\n{\"text\":null}\n").unwrap();
        assert_eq!(rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert_eq!((&*field(&rows[0], "n"), &*field(&rows[3], "text")), ("1.5", ""));
        assert!(rows[1].fields.as_ref().unwrap_err().contains("no JSON"));
        assert!(rows[2].fields.as_ref().unwrap_err().contains("no object"));
    }

    #[test]
    fn what_is_no_table_is_refused() {
        assert!(refused("a.csv", "").contains("empty"));
        assert!(refused("a.jsonl", "\n\n").contains("empty"));
        assert!(refused("a.txt", "x").contains(".csv"));
        assert!(refused("a.csv", "a,a\n1,2\n").contains("twice"));
        assert!(refused("a.csv", [0xff, 0xfe, 0, b'\n']).contains("UTF-8"));
        assert!(matches!(table("a.csv", "text\nx\n"), Ok(rows) if rows.len() == 1));
    }
}
