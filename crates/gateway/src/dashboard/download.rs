//! Requests for other programs: what the form of the requests' page finds, as CSV or as JSON lines.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bantam_ledger::Recorded;
use serde_json::json;
use uuid::Uuid;

use super::cache::patiently;
use super::failure::Failure;
use super::requests::Asked;
use super::viewer::Viewer;

/// Requests that are read at a time.
const AT_ONCE: u32 = 1_000;

/// Requests of a file, at most: who wants all has `bantam audit export`.
pub(super) const MOST: usize = 100_000;

/// The form of a file.
#[derive(Clone, Copy)]
enum Form {
    Csv,
    Lines,
}

const COLUMNS: [&str; 21] = [
    "id",
    "arrived",
    "key",
    "api",
    "asked",
    "route",
    "provider",
    "model",
    "settled",
    "status",
    "error",
    "streamed",
    "first_token_us",
    "latency_us",
    "input_tokens",
    "cached_tokens",
    "output_tokens",
    "cost_dollars",
    "counterfactual_dollars",
    "chain",
    "entry",
];

pub(super) async fn csv(viewer: Viewer, asked: Query<Asked>) -> Result<Response, Failure> {
    file(viewer, asked, Form::Csv)
}

pub(super) async fn lines(viewer: Viewer, asked: Query<Asked>) -> Result<Response, Failure> {
    file(viewer, asked, Form::Lines)
}

fn file(viewer: Viewer, Query(asked): Query<Asked>, form: Form) -> Result<Response, Failure> {
    let (filter, _) = asked.filter()?;
    let reading = viewer.ledger()?.reading();
    let pages = async_stream::stream! {
        if matches!(form, Form::Csv) {
            yield csv_record(COLUMNS.map(str::to_owned));
        }
        let (mut before, mut written): (Option<Uuid>, usize) = (None, 0);
        while written < MOST {
            let found = match patiently(reading.requests(&filter, before, AT_ONCE)).await {
                Ok(found) => found,
                Err(failure) => {
                    // What has been sent cannot be taken back: a file that is cut off is a failed download.
                    yield Err(io::Error::other(failure.to_string()));
                    return;
                }
            };
            written += found.len();
            before = found.last().map(|last| last.id);
            yield write(form, &found);
            if found.len() < AT_ONCE as usize {
                return;
            }
        }
    };
    let (kind, name) = match form {
        Form::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"requests.csv\""),
        Form::Lines => ("application/jsonl; charset=utf-8", "attachment; filename=\"requests.jsonl\""),
    };
    Ok(([(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)], Body::from_stream(pages)).into_response())
}

fn write(form: Form, requests: &[Recorded]) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    for request in requests {
        match form {
            Form::Csv => bytes.extend_from_slice(&csv_record(cells(request))?),
            Form::Lines => {
                let receipt = &request.receipt;
                let line = json!({
                    "id": request.id, "chain": receipt.chain, "seq": receipt.seq, "hash": receipt.hash, "entry": request.entry,
                });
                bytes.extend_from_slice(line.to_string().as_bytes());
                bytes.push(b'\n');
            }
        }
    }
    Ok(bytes.into())
}

fn csv_record(cells: [String; COLUMNS.len()]) -> io::Result<Bytes> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells)?;
    Ok(writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?.into())
}

fn cells(request: &Recorded) -> [String; COLUMNS.len()] {
    let entry = &request.entry;
    let text = |text: &Option<String>| text.as_deref().map(inert).unwrap_or_default();
    let dollars = |money: bantam_types::NanoDollars| money.to_string().replacen('$', "", 1);
    [
        request.id.to_string(),
        entry.arrived.to_string(),
        entry.key.as_ref().map(ToString::to_string).unwrap_or_default(),
        entry.surface.clone(),
        inert(&entry.asked),
        text(&entry.route),
        text(&entry.provider),
        text(&entry.model),
        json!(entry.settled).as_str().unwrap_or_default().to_owned(),
        entry.status.to_string(),
        text(&entry.error),
        entry.streamed.to_string(),
        entry.first_token_us.map(|us| us.to_string()).unwrap_or_default(),
        entry.latency_us.to_string(),
        entry.tokens.input.to_string(),
        entry.tokens.cached.to_string(),
        entry.tokens.output.to_string(),
        dollars(entry.cost),
        entry.counterfactual.map(dollars).unwrap_or_default(),
        request.receipt.chain.to_string(),
        request.receipt.seq.to_string(),
    ]
}

/// Text that a spreadsheet does not take for a formula.
fn inert(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_no_formulas_and_keep_within_their_cell() {
        assert_eq!(inert("=HYPERLINK(\"http://evil\")"), "'=HYPERLINK(\"http://evil\")");
        assert_eq!(inert("gpt-4o"), "gpt-4o");
        let mut cells = COLUMNS.map(str::to_owned);
        cells[4] = "a,\"b\"\nc".to_owned();
        let line = csv_record(cells.clone()).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&*line);
        let read: Vec<String> = reader.records().next().unwrap().unwrap().iter().map(str::to_owned).collect();
        assert_eq!(read, cells);
    }
}
