//! GGUF files: what is written is read back, and each kind of lie has its own error.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_formats::gguf::{Array, GgmlType, Gguf, GgufError, GgufWriteError, GgufWriter, StringArray, Value};
use proptest::prelude::*;

/// A header by hand, for what the writer does not write.
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, n_tensors: u64, n_key_values: u64) -> Raw {
        let mut raw = Raw(b"GGUF".to_vec());
        raw.0.extend(version.to_le_bytes());
        raw.u64(n_tensors).u64(n_key_values);
        raw
    }

    fn u32(&mut self, n: u32) -> &mut Raw {
        self.0.extend(n.to_le_bytes());
        self
    }

    fn u64(&mut self, n: u64) -> &mut Raw {
        self.0.extend(n.to_le_bytes());
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Raw {
        self.u64(text.len() as u64);
        self.0.extend(text);
        self
    }

    /// A tensor's entry; the type 0 is F32.
    fn tensor(&mut self, name: &str, shape: &[u64], ty: u32, offset: u64) -> &mut Raw {
        self.text(name.as_bytes()).u32(shape.len() as u32);
        for len in shape {
            self.u64(*len);
        }
        self.u32(ty).u64(offset)
    }

    fn data(&mut self, n_bytes: usize) -> &mut Raw {
        self.0.resize(self.0.len().next_multiple_of(32) + n_bytes, 0);
        self
    }

    fn error(&self) -> GgufError {
        Gguf::from_bytes(self.0.clone()).unwrap_err()
    }
}

fn key(name: &str, type_id: u32) -> Raw {
    let mut raw = Raw::new(3, 0, 1);
    raw.text(name.as_bytes()).u32(type_id);
    raw
}

#[track_caller]
fn assert_error(error: &GgufError, message: &str) {
    assert_eq!(error.to_string(), message);
}

#[test]
fn what_is_not_gguf_is_refused() {
    assert!(matches!(Gguf::from_bytes(Vec::new()).unwrap_err(), GgufError::BadMagic { .. }));
    assert!(matches!(Gguf::from_bytes(b"<html>".to_vec()).unwrap_err(), GgufError::BadMagic { .. }));
    let error = Gguf::from_bytes(b"GG".to_vec()).unwrap_err();
    assert!(error.hint().unwrap().contains(".gguf"));
}

#[test]
fn other_versions_and_byte_orders_are_named() {
    let error = Raw::new(1, 0, 0).error();
    assert!(matches!(error, GgufError::UnsupportedVersion { version: 1 }));
    assert!(error.hint().unwrap().contains("convert"));
    assert!(matches!(Raw::new(4, 0, 0).error(), GgufError::UnsupportedVersion { version: 4 }));
    assert!(matches!(Raw::new(3u32.swap_bytes(), 0, 0).error(), GgufError::BigEndian));
    assert_eq!(Gguf::from_bytes(Raw::new(2, 0, 0).0).unwrap().version(), 2);
}

#[test]
fn lying_counts_are_refused_before_anything_is_allocated() {
    for count in [1, 1 << 20, u64::MAX] {
        let error = Raw::new(3, 0, count).error();
        assert!(matches!(error, GgufError::CountTooLarge { max: 0, .. }), "{error}");
        let error = Raw::new(3, count, 0).error();
        assert!(matches!(error, GgufError::CountTooLarge { max: 0, .. }), "{error}");
    }
    let mut raw = key("k", 9);
    raw.u32(4).u64(u64::MAX / 2);
    assert_error(
        &raw.error(),
        "the array length of metadata key `k` is stated as 9223372036854775807, but the 0 bytes left hold at most 0",
    );
    let mut raw = key("k", 9);
    raw.u32(8).u64(3).text(b"a");
    assert!(matches!(raw.error(), GgufError::CountTooLarge { count: 3, max: 1, .. }));
}

#[test]
fn text_is_checked_for_length_and_encoding() {
    let mut raw = key("k", 8);
    raw.u64(u64::MAX);
    assert!(matches!(raw.error(), GgufError::Truncated { needed: u64::MAX, available: 0, .. }));
    let mut raw = key("k", 8);
    raw.text(b"ab\xff");
    assert_error(&raw.error(), "the value of metadata key `k` is not valid UTF-8 (at its byte 2)");
    let mut raw = Raw::new(3, 0, 1);
    raw.text(b"\xc3(").u32(7).data(64);
    assert!(matches!(raw.error(), GgufError::InvalidUtf8 { .. }));
    let mut raw = Raw::new(3, 0, 1);
    raw.text(&[b'k'; 65_536]).u32(7).data(64);
    assert_error(&raw.error(), "metadata key number 0 has 65536 bytes, more than the limit of 65535");
}

#[test]
fn metadata_types_are_checked() {
    let mut raw = key("k", 13);
    raw.u32(0);
    assert!(matches!(raw.error(), GgufError::UnknownValueType { id: 13, .. }));
    let mut raw = key("k", 9);
    raw.u32(99).u64(0);
    assert!(matches!(raw.error(), GgufError::UnknownValueType { id: 99, .. }));
    let mut raw = key("flag", 7);
    raw.0.push(2);
    assert_error(&raw.error(), "metadata key `flag` has the boolean byte 2, which is neither 0 nor 1");
    let mut raw = key("deep", 9);
    for _ in 0..10 {
        raw.u32(9).u64(1);
    }
    raw.u32(0).u64(0);
    assert_error(&raw.error(), "metadata key `deep` nests arrays more than 4 deep");
}

#[test]
fn names_appear_once() {
    let mut writer = GgufWriter::new();
    writer.set("k", 1u32).set("k", 2u32);
    let error = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap_err();
    assert_error(&error, "metadata key `k` appears twice");
    let mut writer = GgufWriter::new();
    writer.tensor("t", GgmlType::F32, &[1], vec![0; 4]).tensor("t", GgmlType::F32, &[1], vec![0; 4]);
    let error = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap_err();
    assert_error(&error, "tensor name `t` appears twice");
}

#[test]
fn names_in_messages_are_escaped_and_short() {
    let mut raw = key(&format!("\x1b[2J\n{}", "x".repeat(500)), 99);
    let message = raw.u32(0).error().to_string();
    assert!(message.starts_with("metadata key `\\u{1b}[2J\\nxxx"), "{message}");
    assert!(message.len() < 200);
}

#[test]
fn alignment_is_a_small_power_of_two() {
    for bad in [0u32, 3, 48, 1 << 30] {
        let mut writer = GgufWriter::new();
        writer.set("general.alignment", bad);
        let error = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap_err();
        assert!(matches!(error, GgufError::BadAlignment { .. }), "{error}");
    }
    let mut writer = GgufWriter::new();
    writer.set("general.alignment", "32");
    let error = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap_err();
    assert_error(&error, "metadata key `general.alignment` should be u64, but is string");
}

#[test]
fn split_models_are_named() {
    let mut writer = GgufWriter::new();
    writer.set("split.count", 3u16).set("split.no", 0u16);
    let error = Gguf::from_bytes(writer.to_bytes().unwrap()).unwrap_err();
    assert!(matches!(error, GgufError::Split { count: 3 }));
    assert!(error.hint().unwrap().contains("--merge"));
    let mut writer = GgufWriter::new();
    writer.set("split.count", 1u16);
    assert!(Gguf::from_bytes(writer.to_bytes().unwrap()).is_ok());
}

#[test]
fn shapes_are_checked() {
    let shape = |shape: &[u64], ty: u32| Raw::new(3, 1, 0).tensor("t", shape, ty, 0).data(4096).error();
    assert_error(&shape(&[2, 0, 3], 0), "tensor `t` has shape [2, 0, 3], in which dimension 1 is zero");
    assert!(matches!(shape(&[1, 1, 1, 1, 1], 0), GgufError::TooManyDims { n_dims: 5, .. }));
    assert!(matches!(shape(&[1 << 32, 1 << 32], 0), GgufError::ShapeOverflow { .. }));
    assert!(matches!(shape(&[u64::MAX], 0), GgufError::ShapeOverflow { .. }));
    // 2^63 blocks of 32: the elements overflow, the bytes do not.
    assert!(matches!(shape(&[1 << 62, 4], 41), GgufError::ShapeOverflow { .. }));
    let error = shape(&[40, 2], 2);
    assert_error(&error, "tensor `t` has rows of 40 elements, not a multiple of the 32 in a block of Q4_0");
    let error = Raw::new(3, 1, 0).text(&[b'n'; 129]).data(4096).error();
    assert!(matches!(error, GgufError::TooLong { max: 128, .. }));
}

#[test]
fn tensor_types_are_known_or_named() {
    for id in 0..64 {
        let mut raw = Raw::new(3, 1, 0);
        let found = Gguf::from_bytes(raw.tensor("t", &[256], id, 0).data(4096).0.clone());
        match GgmlType::from_id(id) {
            Some(ty) => assert_eq!(found.unwrap().tensors()[0].n_bytes, ty.row_bytes(256).unwrap()),
            None => {
                let error = found.unwrap_err();
                assert!(matches!(error, GgufError::UnknownTensorType { id: found, .. } if found == id), "{error}");
                assert!(error.hint().unwrap().contains("Q4_K"));
            }
        }
    }
    let error = Raw::new(3, 1, 0).tensor("t", &[32], 31, 0).data(64).error();
    assert_error(&error, "tensor `t` has the withdrawn type id 31 (Q4_0_4_4)");
}

#[test]
fn a_scalar_has_one_dimension() {
    let mut raw = Raw::new(3, 1, 0);
    let gguf = Gguf::from_bytes(raw.tensor("t", &[], 0, 0).data(4).0.clone()).unwrap();
    assert_eq!(gguf.tensors()[0].shape, [1]);
}

#[test]
fn tensor_data_lies_inside_the_file_and_apart() {
    let error = Raw::new(3, 1, 0).tensor("t", &[16], 0, 0).data(63).error();
    assert!(matches!(error, GgufError::TensorOutOfFile { n_bytes: 64, available: 63, .. }), "{error}");
    let error = Raw::new(3, 1, 0).tensor("t", &[16], 0, u64::MAX - 31).data(64).error();
    assert!(matches!(error, GgufError::TensorOutOfFile { .. }), "{error}");
    let error = Raw::new(3, 1, 0).tensor("t", &[1], 0, 4).data(64).error();
    assert_error(&error, "tensor `t` starts at offset 4, which is not a multiple of the alignment 32");
    let error = Raw::new(3, 2, 0).tensor("b", &[1], 0, 32).tensor("a", &[16], 0, 0).data(64).error();
    assert_error(&error, "tensors `a` and `b` overlap at offset 32 of the data section");
    let error = Raw::new(3, 2, 0).tensor("a", &[1], 0, 0).tensor("b", &[1], 0, 0).data(64).error();
    assert!(matches!(error, GgufError::OverlappingTensors { .. }));
}

#[test]
fn every_prefix_of_a_file_is_refused() {
    let bytes = example().to_bytes().unwrap();
    for len in 0..bytes.len() {
        Gguf::from_bytes(bytes[..len].to_vec()).unwrap_err();
    }
    Gguf::from_bytes(bytes).unwrap();
}

fn example() -> GgufWriter {
    let mut writer = GgufWriter::new();
    let nested = Array::Array(vec![Array::U8(vec![1]), Array::String(["x", ""].iter().collect())]);
    writer
        .set_alignment(64)
        .set("general.architecture", "llama")
        .set("llama.block_count", 2u32)
        .set("llama.rope.freq_base", 1e4f32)
        .set("small", -3i8)
        .set("large", u64::MAX)
        .set("double", 0.5f64)
        .set("flag", true)
        .set("tokens", ["<s>", "", "é🦀"].as_slice())
        .set("scores", vec![0f32, -1.5])
        .set("types", vec![3i32, 1, -1])
        .set("flags", vec![true, false])
        .set("nested", nested)
        .tensor("a.weight", GgmlType::Q4_0, &[64, 2], vec![7; 72])
        .tensor("b", GgmlType::F32, &[3], vec![1; 12])
        .tensor("c", GgmlType::F16, &[2, 1, 2], vec![2; 8]);
    writer
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = example().to_bytes().unwrap();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    assert_eq!((gguf.version(), gguf.alignment(), gguf.n_bytes()), (3, 64, bytes.len() as u64));
    assert_eq!(gguf.required::<&str>("general.architecture").unwrap(), "llama");
    assert_eq!(gguf.required::<u32>("llama.block_count").unwrap(), 2);
    assert_eq!(gguf.required::<usize>("llama.block_count").unwrap(), 2);
    assert_eq!(gguf.required::<f32>("double").unwrap(), 0.5);
    assert_eq!(gguf.required::<i32>("small").unwrap(), -3);
    assert_eq!(gguf.required::<u64>("large").unwrap(), u64::MAX);
    assert!(gguf.required::<bool>("flag").unwrap());
    let tokens = gguf.required::<&StringArray>("tokens").unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), ["<s>", "", "é🦀"]);
    assert_eq!((tokens.get(2), tokens.get(3)), (Some("é🦀"), None));
    assert_eq!(gguf.required::<&[f32]>("scores").unwrap(), [0.0, -1.5]);
    assert_eq!(gguf.required::<Vec<i32>>("types").unwrap(), [3, 1, -1]);
    assert_eq!(gguf.required::<&[bool]>("flags").unwrap(), [true, false]);
    assert!(matches!(gguf.get("nested"), Some(Value::Array(Array::Array(arrays))) if arrays.len() == 2));
    assert_eq!(gguf.metadata().next().unwrap().0, "general.alignment");
    assert_eq!(gguf.metadata().len(), 13);

    let tensor = gguf.tensor("a.weight").unwrap();
    assert_eq!((tensor.ty, tensor.shape.as_slice(), tensor.n_bytes), (GgmlType::Q4_0, [64, 2].as_slice(), 72));
    assert_eq!(gguf.tensor_data(tensor), [7; 72]);
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor_data(tensor).len() as u64, tensor.n_bytes);
    }
    assert_eq!(gguf.tensor_data(gguf.tensor("b").unwrap()), [1; 12]);
    assert!(gguf.tensor("d").is_none());
}

#[test]
fn typed_getters_name_key_and_types() {
    let gguf = Gguf::from_bytes(example().to_bytes().unwrap()).unwrap();
    assert_error(&gguf.required::<u32>("nope").unwrap_err(), "metadata key `nope` is missing");
    assert_eq!(gguf.optional::<u32>("nope").unwrap(), None);
    assert_error(
        &gguf.required::<&str>("scores").unwrap_err(),
        "metadata key `scores` should be string, but is array of 2 f32",
    );
    assert_error(&gguf.required::<u32>("small").unwrap_err(), "metadata key `small` should be u32, but is -3 (i8)");
    assert_error(
        &gguf.required::<Vec<u32>>("types").unwrap_err(),
        "metadata key `types` should be array of u32, but is array of 3 i32",
    );
}

#[test]
fn a_file_is_mapped_and_a_missing_one_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, example().to_bytes().unwrap()).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.tensor_data(gguf.tensor("b").unwrap()), [1; 12]);
    let error = Gguf::open(dir.path().join("none.gguf")).unwrap_err();
    assert!(error.to_string().contains("none.gguf"), "{error}");
    assert!(matches!(Gguf::open(dir.path()).unwrap_err(), GgufError::Io { .. }));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(Gguf::open(&path).unwrap_err(), GgufError::BadMagic { .. }));
}

#[test]
fn the_writer_checks_sizes() {
    let mut writer = GgufWriter::new();
    writer.tensor("t", GgmlType::F32, &[2], vec![0; 7]);
    assert!(matches!(writer.to_bytes().unwrap_err(), GgufWriteError::DataSize { expected: Some(8), found: 7, .. }));
    let mut writer = GgufWriter::new();
    writer.tensor("t", GgmlType::Q8_0, &[31], vec![0; 34]);
    assert!(matches!(writer.to_bytes().unwrap_err(), GgufWriteError::DataSize { expected: None, .. }));
    let mut writer = GgufWriter::new();
    writer.set_alignment(24);
    assert!(matches!(writer.to_bytes().unwrap_err(), GgufWriteError::BadAlignment { alignment: 24 }));
}

fn array() -> impl Strategy<Value = Array> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Array::U8),
        prop::collection::vec(any::<i16>(), 0..9).prop_map(Array::I16),
        prop::collection::vec(any::<u64>(), 0..9).prop_map(Array::U64),
        prop::collection::vec(-1e9f32..1e9, 0..9).prop_map(Array::F32),
        prop::collection::vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        prop::collection::vec(".{0,9}", 0..9).prop_map(|texts| Array::String(texts.iter().collect())),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u16>().prop_map(Value::U16),
        any::<i64>().prop_map(Value::I64),
        any::<bool>().prop_map(Value::Bool),
        (-1e300f64..1e300).prop_map(Value::F64),
        ".{0,40}".prop_map(Value::String),
        array().prop_map(Value::Array),
    ]
}

/// Alignment, metadata, and for each tensor its blocks per row, rows, and whether it is quantised.
type Model = (u32, Vec<(String, Value)>, Vec<(u64, u64, bool)>);

fn model() -> impl Strategy<Value = Model> {
    let entries = prop::collection::btree_map("[a-z.]{1,20}x", value(), 0..12);
    let tensors = prop::collection::vec((1u64..4, 1u64..5, any::<bool>()), 0..6);
    (0u32..8, entries, tensors)
        .prop_map(|(shift, entries, tensors)| (1 << shift, entries.into_iter().collect(), tensors))
}

fn written((alignment, entries, tensors): &Model) -> Vec<u8> {
    let mut writer = GgufWriter::new();
    writer.set_alignment(*alignment);
    for (key, value) in entries {
        writer.set(key, value.clone());
    }
    for (index, (blocks, rows, quantised)) in tensors.iter().enumerate() {
        let ty = if *quantised { GgmlType::Q5_0 } else { GgmlType::F16 };
        let shape = [blocks * ty.block_len(), *rows];
        let n_bytes = ty.row_bytes(shape[0]).unwrap() * rows;
        writer.tensor(&format!("t{index}"), ty, &shape, vec![index as u8; n_bytes as usize]);
    }
    writer.to_bytes().unwrap()
}

proptest! {
    #[test]
    fn any_model_survives_a_round_trip(model in model()) {
        let gguf = Gguf::from_bytes(written(&model)).unwrap();
        let (alignment, entries, tensors) = &model;
        prop_assert_eq!(gguf.alignment(), u64::from(*alignment));
        let read: Vec<_> = gguf.metadata().skip(1).map(|(key, value)| (key.to_owned(), value.clone())).collect();
        prop_assert_eq!(&read, entries);
        prop_assert_eq!(gguf.tensors().len(), tensors.len());
        for (index, tensor) in gguf.tensors().iter().enumerate() {
            prop_assert!(gguf.tensor_data(tensor).iter().all(|byte| usize::from(*byte) == index));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(bytes);
        let _ = Gguf::from_bytes(file);
    }

    #[test]
    fn damaged_files_never_panic_and_what_opens_is_consistent(
        model in model(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = written(&model);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(gguf) = Gguf::from_bytes(bytes) {
            for tensor in gguf.tensors() {
                prop_assert_eq!(gguf.tensor_data(tensor).len() as u64, tensor.n_bytes);
            }
        }
    }
}
