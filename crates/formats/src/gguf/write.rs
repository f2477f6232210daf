//! Writing GGUF version 3: for tests, synthetic models and whoever needs a small file with known content.

use super::types::GgmlType;
use super::value::{Array, StringArray, Value};

/// Collects metadata and tensors and lays them out as a file. Order is kept. A key or tensor name given twice is
/// written twice, which the reader then refuses.
#[derive(Debug, Clone)]
pub struct GgufWriter {
    alignment: u32,
    metadata: Vec<(String, Value)>,
    tensors: Vec<PendingTensor>,
}

#[derive(Debug, Clone)]
struct PendingTensor {
    name: String,
    ty: GgmlType,
    shape: Vec<u64>,
    data: Vec<u8>,
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum GgufWriteError {
    #[error("tensor `{tensor}` of type {ty} and shape {shape:?} needs {expected:?} bytes, {found} were given")]
    DataSize { tensor: String, ty: GgmlType, shape: Vec<u64>, expected: Option<u64>, found: u64 },

    #[error("alignment {alignment} is not a power of two")]
    BadAlignment { alignment: u32 },
}

impl Default for GgufWriter {
    fn default() -> GgufWriter {
        GgufWriter::new()
    }
}

impl GgufWriter {
    /// A file without metadata or tensors, with the default alignment of 32 bytes.
    pub fn new() -> GgufWriter {
        GgufWriter { alignment: 32, metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Sets the alignment of tensor data and states it as `general.alignment`.
    pub fn set_alignment(&mut self, alignment: u32) -> &mut GgufWriter {
        self.alignment = alignment;
        self.set("general.alignment", alignment)
    }

    /// Adds a metadata value.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut GgufWriter {
        self.metadata.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor; `shape` is fastest dimension first, `data` in the block format of `ty`.
    pub fn tensor(&mut self, name: &str, ty: GgmlType, shape: &[u64], data: impl Into<Vec<u8>>) -> &mut GgufWriter {
        self.tensors.push(PendingTensor { name: name.to_owned(), ty, shape: shape.to_vec(), data: data.into() });
        self
    }

    /// The file.
    ///
    /// # Errors
    /// When a tensor's data is not as long as its type and shape say, or the alignment is not a power of two.
    pub fn to_bytes(&self) -> Result<Vec<u8>, GgufWriteError> {
        let alignment = self.alignment as usize;
        if !alignment.is_power_of_two() {
            return Err(GgufWriteError::BadAlignment { alignment: self.alignment });
        }
        let mut out = Vec::new();
        out.extend_from_slice(b"GGUF");
        out.extend_from_slice(&3u32.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            write_text(&mut out, key);
            out.extend_from_slice(&value.value_type().id().to_le_bytes());
            write_value(&mut out, value);
        }
        let mut offset = 0usize;
        for tensor in &self.tensors {
            tensor.check_size()?;
            write_text(&mut out, &tensor.name);
            out.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            for len in &tensor.shape {
                out.extend_from_slice(&len.to_le_bytes());
            }
            out.extend_from_slice(&tensor.ty.id().to_le_bytes());
            out.extend_from_slice(&(offset as u64).to_le_bytes());
            offset = (offset + tensor.data.len()).next_multiple_of(alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment), 0);
            out.extend_from_slice(&tensor.data);
        }
        Ok(out)
    }
}

impl PendingTensor {
    fn check_size(&self) -> Result<(), GgufWriteError> {
        let (row_len, outer) = self.shape.split_first().map_or((1, &[][..]), |(first, rest)| (*first, rest));
        let expected = outer.iter().try_fold(self.ty.row_bytes(row_len), |bytes, &len| Some(bytes?.checked_mul(len)));
        let expected = expected.flatten();
        let found = self.data.len() as u64;
        if expected != Some(found) {
            let (tensor, ty, shape) = (self.name.clone(), self.ty, self.shape.clone());
            return Err(GgufWriteError::DataSize { tensor, ty, shape, expected, found });
        }
        Ok(())
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::String(v) => write_text(out, v),
        Value::Array(v) => write_array(out, v),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
    }
}

fn write_array(out: &mut Vec<u8>, array: &Array) {
    out.extend_from_slice(&array.element_type().id().to_le_bytes());
    out.extend_from_slice(&(array.len() as u64).to_le_bytes());
    match array {
        Array::U8(v) => out.extend_from_slice(v),
        Array::I8(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I16(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::U32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::Bool(v) => out.extend(v.iter().map(|&x| u8::from(x))),
        Array::String(v) => v.iter().for_each(|text| write_text(out, text)),
        Array::Array(v) => v.iter().for_each(|inner| write_array(out, inner)),
        Array::U64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::I64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
        Array::F64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident;)*) => {$(
        impl From<$from> for Value {
            fn from(value: $from) -> Value {
                Value::$variant(value.into())
            }
        }
    )*};
}

value_from! {
    u8 => U8;
    i8 => I8;
    u16 => U16;
    i16 => I16;
    u32 => U32;
    i32 => I32;
    f32 => F32;
    bool => Bool;
    &str => String;
    String => String;
    u64 => U64;
    i64 => I64;
    f64 => F64;
    Array => Array;
}

macro_rules! array_from {
    ($($element:ty => $variant:ident;)*) => {$(
        impl From<Vec<$element>> for Value {
            fn from(values: Vec<$element>) -> Value {
                Value::Array(Array::$variant(values))
            }
        }
    )*};
}

array_from! {
    u8 => U8;
    i8 => I8;
    u16 => U16;
    i16 => I16;
    u32 => U32;
    i32 => I32;
    f32 => F32;
    bool => Bool;
    u64 => U64;
    i64 => I64;
    f64 => F64;
}

impl From<StringArray> for Value {
    fn from(texts: StringArray) -> Value {
        Value::Array(Array::String(texts))
    }
}

impl From<&[&str]> for Value {
    fn from(texts: &[&str]) -> Value {
        Value::Array(Array::String(texts.iter().collect()))
    }
}
