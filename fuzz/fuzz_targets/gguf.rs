//! Arbitrary files: a typed error, or a file whose every value can be read and whose tensors lie apart inside it.
#![no_main]

use bantam_formats::gguf::{Array, Gguf, StringArray, Value};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match Gguf::from_bytes(data.to_vec()) {
        Ok(gguf) => read_all(&gguf),
        Err(error) => {
            let _ = (error.to_string(), error.hint());
        }
    }
});

fn read_all(gguf: &Gguf) {
    for (key, value) in gguf.metadata() {
        assert_eq!(gguf.get(key).map(Value::value_type), Some(value.value_type()));
        let _ = value.describe();
        let _ = (gguf.required::<&str>(key), gguf.required::<u32>(key), gguf.required::<i64>(key));
        let _ = (gguf.required::<bool>(key), gguf.required::<f32>(key), gguf.required::<Vec<i32>>(key));
        let _ = (gguf.required::<&[f32]>(key), gguf.required::<&[bool]>(key), gguf.required::<Vec<u64>>(key));
        if let Ok(texts) = gguf.required::<&StringArray>(key) {
            assert_eq!(texts.iter().count(), texts.len());
        }
        if let Value::Array(array) = value {
            walk(array);
        }
    }
    let mut ranges = Vec::new();
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        assert!(tensor.shape.iter().try_fold(1u64, |product, len| product.checked_mul(*len)).is_some());
        assert_eq!(gguf.tensor_data(tensor).len() as u64, tensor.n_bytes);
        ranges.push((tensor.offset, tensor.offset + tensor.n_bytes));
    }
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    assert!(ranges.last().is_none_or(|range| range.1 <= gguf.n_bytes()));
}

fn walk(array: &Array) {
    let _ = (array.len(), array.element_type());
    if let Array::Array(inner) = array {
        inner.iter().for_each(walk);
    }
}
