//! Writes seed files for the fuzz targets `gguf` and `chat_template`:
//!
//! ```text
//! cargo run -p bantam-formats --example fuzz_seeds -- fuzz/corpus
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use bantam_formats::gguf::{Array, GgmlType, GgufWriter};
use serde_json::Value as Json;

fn main() {
    let dir = std::env::args().nth(1).expect("the corpus folder");
    let dir = Path::new(&dir);
    write_all(&dir.join("gguf"), gguf_files());
    write_all(&dir.join("chat_template"), template_inputs());
}

fn write_all(dir: &Path, files: Vec<Vec<u8>>) {
    fs::create_dir_all(dir).unwrap();
    for (index, content) in files.iter().enumerate() {
        fs::write(dir.join(format!("seed{index:03}")), content).unwrap();
    }
    println!("{} seeds in {}", files.len(), dir.display());
}

fn gguf_files() -> Vec<Vec<u8>> {
    let mut files = vec![GgufWriter::new().to_bytes().unwrap()];
    let mut values = GgufWriter::new();
    values.set("u8", 1u8).set("i8", -1i8).set("u16", 2u16).set("i16", -2i16).set("u32", 3u32).set("i32", -3i32);
    values.set("f32", 0.5f32).set("bool", true).set("string", "é").set("u64", 4u64).set("i64", -4i64).set("f64", 1.5);
    files.push(values.to_bytes().unwrap());
    let mut arrays = GgufWriter::new();
    arrays.set("strings", ["a", "", "🦀"].as_slice()).set("floats", vec![0f32, 1.0]).set("ints", vec![1i32, -2]);
    arrays.set("bools", vec![true, false]).set("nested", Array::Array(vec![Array::U8(vec![1]), Array::U64(vec![2])]));
    files.push(arrays.to_bytes().unwrap());
    for ty in GgmlType::ALL {
        let data = vec![0; ty.block_bytes() as usize * 2];
        let mut tensors = GgufWriter::new();
        tensors.set_alignment(8).tensor("a", *ty, &[ty.block_len(), 2], data);
        tensors.tensor("b", GgmlType::F32, &[1, 1, 1], vec![0; 4]);
        files.push(tensors.to_bytes().unwrap());
    }
    files
}

fn template_inputs() -> Vec<Vec<u8>> {
    let fixture: Json = serde_json::from_str(include_str!("../tests/fixtures/templates.json")).unwrap();
    let mut inputs = Vec::new();
    for source in fixture["templates"].as_object().unwrap().values() {
        inputs.push(format!("0{}", source.as_str().unwrap()).into_bytes());
    }
    for snippet in fixture["snippets"].as_array().unwrap() {
        inputs.push(format!("0{}", snippet["source"].as_str().unwrap()).into_bytes());
    }
    for (index, conversation) in fixture["conversations"].as_object().unwrap().values().enumerate() {
        let selector = b'1' + (index % 7) as u8;
        let mut input = vec![selector];
        serde_json::to_writer(&mut input, conversation).unwrap();
        inputs.push(input);
    }
    inputs
}
