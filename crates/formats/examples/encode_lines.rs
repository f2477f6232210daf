//! Encodes texts with a model's tokenizer, for comparing with another implementation: reads a JSON array of strings from
//! standard input and writes a JSON array of arrays of ids.
//!
//! `encode_lines MODEL.gguf|tokenizer.json [--special] [--bos] [--decode]`: `--special` parses special tokens, `--bos`
//! adds BOS and EOS, and `--decode` reads arrays of ids and writes texts instead. Times go to standard error.

use std::error::Error;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Instant;

use bantam_formats::{DecodeOptions, EncodeOptions, Gguf, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let path = args.iter().find(|arg| !arg.starts_with("--")).ok_or("usage: encode_lines MODEL [--special] [--bos]")?;

    let bytes = if path.ends_with(".json") { Some(fs_err::read(path)?) } else { None };
    let gguf = if bytes.is_none() { Some(Gguf::open(Path::new(path))?) } else { None };
    let start = Instant::now();
    let tokenizer = match (&bytes, &gguf) {
        (Some(json), _) => Tokenizer::from_hf_json(json)?,
        (None, Some(gguf)) => Tokenizer::from_gguf(gguf)?,
        (None, None) => return Err("nothing to read".into()),
    };
    eprintln!("{} tokens loaded in {:?}", tokenizer.vocab_size(), start.elapsed());

    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let output = if flag("--decode") {
        let lines: Vec<Vec<u32>> = serde_json::from_str(&input)?;
        let texts: Vec<String> = lines.iter().map(|ids| tokenizer.decode(ids, DecodeOptions::default())).collect();
        serde_json::to_string(&texts)?
    } else {
        let lines: Vec<String> = serde_json::from_str(&input)?;
        let options = EncodeOptions { add_special: flag("--bos"), parse_special: flag("--special") };
        let start = Instant::now();
        let ids = lines.iter().map(|line| tokenizer.encode(line, options)).collect::<Result<Vec<_>, _>>()?;
        let n_bytes: usize = lines.iter().map(String::len).sum();
        eprintln!("{n_bytes} bytes encoded in {:?}", start.elapsed());
        serde_json::to_string(&ids)?
    };
    writeln!(std::io::stdout().lock(), "{output}")?;
    Ok(())
}
