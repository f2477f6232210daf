//! Reading and writing GGUF, the single-file format of quantised models: typed metadata and a table of tensors.
//!
//! Source: the GGUF specification (`docs/gguf.md` of the ggml project), versions 2 and 3, little-endian. A file is
//! checked as a whole when it is opened; afterwards a [`TensorInfo`] always points inside the file.
//!
//! ```
//! use bantam_formats::gguf::{Gguf, GgmlType, GgufWriter};
//!
//! let mut writer = GgufWriter::new();
//! writer.set("general.architecture", "llama");
//! writer.tensor("output_norm.weight", GgmlType::F32, &[2], 1f32.to_le_bytes().repeat(2));
//! let gguf = Gguf::from_bytes(writer.to_bytes()?)?;
//! assert_eq!(gguf.required::<&str>("general.architecture")?, "llama");
//! assert_eq!(gguf.tensors()[0].n_bytes, 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod parse;
mod types;
mod value;
mod write;

use std::collections::HashMap;
use std::path::Path;

pub use error::GgufError;
pub use types::GgmlType;
pub use value::{Array, FromValue, StringArray, Value, ValueType};
pub use write::{GgufWriteError, GgufWriter};

use crate::mmap::FileBytes;

/// An opened GGUF file.
#[derive(Debug)]
pub struct Gguf {
    bytes: FileBytes,
    version: u32,
    alignment: u64,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    tensor_index: HashMap<String, usize>,
}

/// One tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, unique in the file.
    pub name: String,
    /// Elements per dimension, fastest first: `[k, n_rows, ...]`; one to four dimensions, none of them zero.
    pub shape: Vec<u64>,
    /// Element type.
    pub ty: GgmlType,
    /// Where the data starts, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes of data.
    pub n_bytes: u64,
}

impl Gguf {
    /// Opens a file by mapping it. The file must not be truncated or rewritten in place while this value lives (replace
    /// it by renaming): a truncated mapping ends the process when it is read.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a GGUF file that can be trusted; see [`GgufError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Gguf, GgufError> {
        let path = path.as_ref();
        let bytes = FileBytes::map(path).map_err(|source| GgufError::Io { path: path.to_owned(), source })?;
        Gguf::parse(bytes)
    }

    /// Reads a file that is already in memory.
    ///
    /// # Errors
    /// When the bytes are not a GGUF file that can be trusted; see [`GgufError`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        Gguf::parse(FileBytes::Owned(bytes))
    }

    fn parse(bytes: FileBytes) -> Result<Gguf, GgufError> {
        let parse::Parsed { version, alignment, metadata, tensors, tensor_index } = parse::parse(&bytes)?;
        Ok(Gguf { bytes, version, alignment, metadata, tensors, tensor_index })
    }

    /// Version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What tensor offsets are a multiple of, in bytes, counted from the start of the data section.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Size of the whole file in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The metadata value of `key`, if there is one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// The metadata value of `key` as a Rust type, for example `gguf.required::<u32>("llama.block_count")`.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`], or [`GgufError::WrongType`] when it is of another type or does not fit.
    pub fn required<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, GgufError> {
        self.optional(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }

    /// The metadata value of `key` as a Rust type, or `None` when the file does not have it.
    ///
    /// # Errors
    /// [`GgufError::WrongType`] when it is of another type or does not fit.
    pub fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        self.metadata.optional(key)
    }

    /// All metadata, in the order of the file.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.metadata.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.tensor_index.get(name)?)
    }

    /// The bytes of a tensor of this file. (An info from another file gives the bytes at its place in this one, or none
    /// where this one is shorter.)
    pub fn tensor_data(&self, tensor: &TensorInfo) -> &[u8] {
        let start = usize::try_from(tensor.offset).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(usize::try_from(tensor.n_bytes).ok()?)?));
        range.and_then(|range| self.bytes.get(range)).unwrap_or_default()
    }
}

/// Metadata in file order, with an index by key.
#[derive(Debug, Default)]
struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// Adds a value; false when the key is there already.
    fn insert(&mut self, key: &str, value: Value) -> bool {
        let is_new = self.index.insert(key.to_owned(), self.entries.len()).is_none();
        if is_new {
            self.entries.push((key.to_owned(), value));
        }
        is_new
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(*self.index.get(key)?).map(|(_, value)| value)
    }

    fn optional<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(value) => Ok(Some(value)),
            None => Err(GgufError::WrongType { key: key.to_owned(), expected: T::EXPECTED, found: found(value) }),
        }
    }
}

/// A value for a message: an integer that did not fit is shown itself, everything else by its type.
fn found(value: &Value) -> String {
    match value.as_integer() {
        Some(integer) => format!("{integer} ({})", value.describe()),
        None => value.describe(),
    }
}
