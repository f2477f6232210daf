//! `bantam embed`: the vectors of texts.

use std::io::{BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use bantam_engine::{Embedder, Embeddings, TooLong};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::Globals;
use crate::load::encoder::{self, DEFAULT_ENCODER, EncoderArgs};
use crate::{output, progress};

/// Texts that are computed while the vectors of those before are written.
const BATCH: usize = 1024;

/// Most texts whose similarities make a table that can be read.
const MOST_COMPARED: usize = 24;

/// Arguments of `bantam embed`.
#[derive(Debug, Args)]
pub(crate) struct EmbedArgs {
    /// The texts [default: the lines of --input, or of standard input]
    texts: Vec<String>,
    /// Encoder: catalogue name, or path of a directory as sentence-transformers saves it
    #[arg(long, short, value_name = "NAME|PATH", default_value = DEFAULT_ENCODER)]
    model: String,
    /// File with a text on each line
    #[arg(long, short, value_name = "FILE", conflicts_with = "texts")]
    input: Option<PathBuf>,
    /// Where to write [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How the vectors are written
    #[arg(long, value_enum, default_value = "jsonl", value_name = "FORMAT")]
    format: Format,
    /// Keep only the first N elements of each vector, at length 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    dimensions: Option<u32>,
    /// Fail at a text that is longer than the encoder takes, instead of reading its beginning
    #[arg(long)]
    no_cut: bool,
    #[command(flatten)]
    encoder: EncoderArgs,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object per line, with the text and its vector
    Jsonl,
    /// An array of NumPy, float32, one row per text
    Npy,
    /// The cosine similarity of each text with each, as a table for people
    Similarity,
}

pub(crate) fn run(args: &EmbedArgs, globals: &Globals) -> anyhow::Result<()> {
    let texts = if args.texts.is_empty() { read_lines(args.input.as_deref())? } else { args.texts.clone() };
    ensure!(!texts.is_empty(), "there is no text: give some, or lines on standard input or in --input");
    if args.format == Format::Similarity && texts.len() > MOST_COMPARED {
        bail!("--format similarity: {} texts make no readable table; at most {MOST_COMPARED}", texts.len());
    }
    let encoder = encoder::encoder(&args.model, &args.encoder, globals)?;
    let dimensions = args.dimensions.map_or(encoder.embedder.dimensions(), |n| n as usize);
    ensure!(
        dimensions <= encoder.embedder.dimensions(),
        "--dimensions: {} has {} and not {dimensions}",
        encoder.id,
        encoder.embedder.dimensions()
    );
    let sink: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(fs_err::File::create(path)?),
        None => Box::new(std::io::stdout().lock()),
    };
    let mut writer =
        Writer { out: BufWriter::new(sink), format: args.format, texts: &texts, written: 0, kept: Vec::new() };
    output::written(writer.begin(dimensions))?;

    let too_long = if args.no_cut { TooLong::Refuse } else { TooLong::Cut };
    let bar = progress::texts(globals, texts.len() as u64);
    let started = Instant::now();
    let mut tokens = 0;
    for batch in texts.chunks(BATCH) {
        let (vectors, n_tokens) = embed(&encoder.embedder, batch, too_long)?;
        tokens += n_tokens;
        output::written(writer.rows(&vectors.truncated(dimensions)))?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    output::written(writer.finish())?;
    let (n, seconds) = (texts.len(), started.elapsed().as_secs_f64());
    if globals.json {
        // Standard output has the vectors.
        eprintln!("{}", json!({"model": encoder.id, "texts": n, "tokens": tokens, "seconds": seconds}));
    } else if !globals.quiet {
        eprintln!("[{n} texts, {tokens} tokens, {dimensions} dimensions, {:.0} texts/s]", n as f64 / seconds);
    }
    Ok(())
}

fn read_lines(input: Option<&Path>) -> anyhow::Result<Vec<String>> {
    let (from, reader): (String, Box<dyn BufRead>) = match input {
        Some(path) => (path.display().to_string(), Box::new(std::io::BufReader::new(fs_err::File::open(path)?))),
        None => ("standard input".to_owned(), Box::new(std::io::stdin().lock())),
    };
    let numbered = reader.lines().zip(1..);
    numbered.map(|(line, n)| line.with_context(|| format!("{from}, line {n}, cannot be read as UTF-8 text"))).collect()
}

fn embed(embedder: &Embedder, texts: &[String], too_long: TooLong) -> anyhow::Result<(Embeddings, usize)> {
    let tokens = texts.iter().map(|text| embedder.tokens(text, too_long)).collect::<Result<Vec<_>, _>>()?;
    let n_tokens = tokens.iter().map(Vec::len).sum();
    Ok((embedder.embed(tokens)?.blocking_wait()?, n_tokens))
}

struct Writer<'a, W: Write> {
    out: BufWriter<W>,
    format: Format,
    texts: &'a [String],
    written: usize,
    /// What is compared at the end.
    kept: Vec<Vec<f32>>,
}

impl<W: Write> Writer<'_, W> {
    fn begin(&mut self, dimensions: usize) -> std::io::Result<()> {
        if self.format != Format::Npy {
            return Ok(());
        }
        // https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0
        let mut header =
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {dimensions}), }}", self.texts.len());
        let unpadded = 10 + header.len() + 1;
        header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
        header.push('\n');
        self.out.write_all(b"\x93NUMPY\x01\x00")?;
        self.out.write_all(&u16::try_from(header.len()).unwrap_or(u16::MAX).to_le_bytes())?;
        self.out.write_all(header.as_bytes())
    }

    fn rows(&mut self, vectors: &Embeddings) -> std::io::Result<()> {
        for row in vectors.rows() {
            match self.format {
                Format::Jsonl => {
                    let line = json!({"index": self.written, "text": self.texts[self.written], "embedding": row});
                    serde_json::to_writer(&mut self.out, &line)?;
                    self.out.write_all(b"\n")?;
                }
                Format::Npy => row.iter().try_for_each(|x| self.out.write_all(&x.to_le_bytes()))?,
                Format::Similarity => self.kept.push(row.to_vec()),
            }
            self.written += 1;
        }
        Ok(())
    }

    fn finish(&mut self) -> std::io::Result<()> {
        if self.format == Format::Similarity {
            let numbers: Vec<String> = (1..=self.kept.len()).map(|n| n.to_string()).collect();
            let headers: Vec<&str> = ["", "TEXT"].into_iter().chain(numbers.iter().map(String::as_str)).collect();
            let shorten = |text: &str| match text.char_indices().nth(48) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text.to_owned(),
            };
            let rows = self.kept.iter().zip(self.texts).zip(&numbers).map(|((a, text), number)| {
                let similarities = self.kept.iter().map(|b| format!("{:.3}", cosine(a, b)));
                [number.clone(), shorten(text)].into_iter().chain(similarities).collect()
            });
            writeln!(self.out, "{}", output::table(&headers, &headers[2..], rows.collect()))?;
        }
        self.out.flush()
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}
