//! `bantam embed` with the real encoder.

use super::{ENCODER, bantam, fails, ok, text};

fn vectors(args: &[&str]) -> Vec<Vec<f32>> {
    let out = ok(bantam().args(["embed", "--quiet"]).args(args));
    let line = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    out.lines().map(line).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

const TEXTS: [&str; 3] = ["Where is my card?", "My card has not arrived yet.", "How do I bake bread?"];

#[test]
fn near_in_meaning_is_near_in_space() {
    let vectors = vectors(&TEXTS);
    assert!(vectors.iter().all(|v| v.len() == 384 && (dot(v, v) - 1.0).abs() < 1e-4));
    assert!(dot(&vectors[0], &vectors[1]) > dot(&vectors[0], &vectors[2]) + 0.3);
}

#[test]
fn eight_bits_are_near_the_floats_and_threads_and_instruction_sets_change_nothing() {
    let exact = vectors(&[&TEXTS[..], &["--precision", "float"]].concat());
    let int8 = vectors(&TEXTS);
    for (a, b) in exact.iter().zip(&int8) {
        assert!(dot(a, b) > 0.999, "{}", dot(a, b));
    }
    assert_eq!(vectors(&[&TEXTS[..], &["--threads", "1"]].concat()), int8);
    let scalar = ok(bantam().env("BANTAM_ISA", "scalar").args(["embed", "--quiet"]).args(TEXTS));
    assert_eq!(scalar, ok(bantam().args(["embed", "--quiet"]).args(TEXTS)));
}

#[test]
fn files_formats_and_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.txt"), dir.path().join("out.npy"));
    std::fs::write(&input, TEXTS.join("\n")).unwrap();
    ok(bantam()
        .args(["embed", "--format", "npy", "--dimensions", "64", "--input"])
        .arg(&input)
        .arg("--output")
        .arg(&output));
    let bytes = std::fs::read(&output).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00") && bytes.len() == 128 + 3 * 64 * 4, "{}", bytes.len());
    let shape = text(&bytes[10..128]);
    assert!(shape.contains("'shape': (3, 64)"), "{shape}");

    let table = ok(bantam().args(["embed", "--quiet", "--format", "similarity"]).args(TEXTS));
    assert!(table.contains("Where is my card?") && table.contains("1.000"), "{table}");

    let long = "word ".repeat(400);
    assert_eq!(vectors(&[&long]).len(), 1);
    let (code, error) = fails(bantam().args(["embed", "--no-cut", &long]));
    assert!(code == 1 && error.contains("256"), "{code} {error}");
    let (code, error) = fails(bantam().args(["embed", "--dimensions", "500", "x"]));
    assert!(code == 1 && error.contains("384"), "{code} {error}");
    let (code, error) = fails(bantam().args(["run", ENCODER, "hello"]));
    assert!(code == 2 && error.contains("bantam embed"), "{code} {error}");
    std::fs::write(&input, [0xff, 0xfe, b'\n']).unwrap();
    let (_, error) = fails(bantam().args(["embed", "--input"]).arg(&input));
    assert!(error.contains("line 1"), "{error}");
}
