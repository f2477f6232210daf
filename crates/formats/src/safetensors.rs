//! A model as Hugging Face publishes it: a directory with `config.json` and weights in safetensors files, one
//! (`model.safetensors`) or several (listed in `model.safetensors.index.json`).
//!
//! The `safetensors` crate checks each header against its file (lengths, overlaps, gaps, overflow); this module finds
//! the files, maps them, and says which of them holds a tensor.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata};
use serde_json::Value as Json;

use crate::mmap::FileBytes;

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer.json";
/// Far above any real configuration or index.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Why a model directory was refused. [`SafetensorsError::hint`] says what to do about it where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum SafetensorsError {
    #[error("cannot read `{}`: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    #[error("`{}` is larger than the limit of {max} bytes", path.display())]
    JsonTooLarge { path: PathBuf, max: u64 },

    #[error("`{}` is not valid JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },

    #[error("`{}` should hold {expected}", path.display())]
    JsonShape { path: PathBuf, expected: &'static str },

    #[error("`{}` holds neither model.safetensors nor model.safetensors.index.json", dir.display())]
    NoWeights { dir: PathBuf },

    #[error("`{}` is not a valid safetensors file: {source}", path.display())]
    Header { path: PathBuf, source: safetensors::SafeTensorError },

    #[error("the index names the weight file {file:?}, which is not a plain file name")]
    ShardName { file: String },

    #[error("the index says that `{}` holds tensor `{tensor}`, but it does not", path.display())]
    NotInShard { path: PathBuf, tensor: String },

    #[error("tensor `{tensor}` is missing")]
    MissingTensor { tensor: String },

    #[error("tensor `{tensor}` has the type {found}; F32, F16 and BF16 are supported")]
    UnsupportedType { tensor: String, found: String },
}

impl SafetensorsError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SafetensorsError::NoWeights { .. } => {
                Some("PyTorch .bin files are not read: get the safetensors files of this model, or a GGUF file")
            }
            SafetensorsError::Header { .. } | SafetensorsError::NotInShard { .. } => {
                Some("the download may be incomplete: fetch the file again and compare its size and SHA-256")
            }
            SafetensorsError::UnsupportedType { .. } => Some("get the unquantised model, or a GGUF file"),
            _ => None,
        }
    }
}

/// Element type of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FloatType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
}

impl FloatType {
    /// Bytes of one element.
    pub fn n_bytes(self) -> usize {
        match self {
            FloatType::F32 => 4,
            FloatType::F16 | FloatType::Bf16 => 2,
        }
    }
}

/// One tensor: its elements in row-major order, little-endian.
#[derive(Debug, Clone, Copy)]
pub struct SafeTensor<'a> {
    /// Element type.
    pub ty: FloatType,
    /// Elements per dimension, slowest first: `[n_rows, k]`, the reverse of GGUF's order.
    pub shape: &'a [usize],
    /// The elements.
    pub data: &'a [u8],
}

/// An opened model directory.
#[derive(Debug)]
pub struct SafetensorsDir {
    dir: PathBuf,
    config: Json,
    shards: Vec<Shard>,
    /// Which shard holds a tensor.
    index: HashMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    bytes: FileBytes,
    metadata: Metadata,
    /// Where the tensors' data starts in the file.
    data_start: usize,
}

impl SafetensorsDir {
    /// Opens a model directory and maps its weights. The files must not be truncated or rewritten in place while this
    /// value lives (replace them by renaming): a truncated mapping ends the process when it is read.
    ///
    /// # Errors
    /// When a file is missing, is not what it should be, or the index and the files disagree.
    pub fn open(dir: impl AsRef<Path>) -> Result<SafetensorsDir, SafetensorsError> {
        let dir = dir.as_ref().to_owned();
        let config_path = dir.join(CONFIG);
        let config = read_json(&config_path)?;
        if !config.is_object() {
            return Err(SafetensorsError::JsonShape { path: config_path, expected: "an object" });
        }
        let (shards, index) = if dir.join(INDEX).is_file() {
            open_shards(&dir)?
        } else if dir.join(SINGLE).is_file() {
            let shard = Shard::open(&dir.join(SINGLE))?;
            let index = shard.metadata.tensors().into_keys().map(|name| (name, 0)).collect();
            (vec![shard], index)
        } else {
            return Err(SafetensorsError::NoWeights { dir });
        };
        Ok(SafetensorsDir { dir, config, shards, index })
    }

    /// The content of `config.json`, an object.
    pub fn config(&self) -> &Json {
        &self.config
    }

    /// Where `tokenizer.json` is, if the directory has one.
    pub fn tokenizer_path(&self) -> Option<PathBuf> {
        Some(self.dir.join(TOKENIZER)).filter(|path| path.is_file())
    }

    /// Names of all tensors, in no particular order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// True when there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.index.contains_key(name)
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// [`SafetensorsError::MissingTensor`], or [`SafetensorsError::UnsupportedType`] when its elements are not floats of
    /// 16 or 32 bits.
    pub fn tensor(&self, name: &str) -> Result<SafeTensor<'_>, SafetensorsError> {
        let missing = || SafetensorsError::MissingTensor { tensor: name.to_owned() };
        let shard = self.index.get(name).and_then(|shard| self.shards.get(*shard)).ok_or_else(missing)?;
        let info = shard.metadata.info(name).ok_or_else(missing)?;
        let ty = match info.dtype {
            Dtype::F32 => FloatType::F32,
            Dtype::F16 => FloatType::F16,
            Dtype::BF16 => FloatType::Bf16,
            other => {
                let found = format!("{other:?}");
                return Err(SafetensorsError::UnsupportedType { tensor: name.to_owned(), found });
            }
        };
        let (start, end) = info.data_offsets;
        let range = shard.data_start.checked_add(start).zip(shard.data_start.checked_add(end));
        let data = range.and_then(|(start, end)| shard.bytes.get(start..end)).ok_or_else(missing)?;
        Ok(SafeTensor { ty, shape: &info.shape, data })
    }
}

impl Shard {
    fn open(path: &Path) -> Result<Shard, SafetensorsError> {
        let bytes = FileBytes::map(path).map_err(|source| SafetensorsError::Io { path: path.to_owned(), source })?;
        let header = |source| SafetensorsError::Header { path: path.to_owned(), source };
        // The whole check, which compares the header with the length of the file.
        SafeTensors::deserialize(&bytes).map_err(header)?;
        let (header_len, metadata) = SafeTensors::read_metadata(&bytes).map_err(header)?;
        // The header comes after its length in eight bytes.
        Ok(Shard { data_start: header_len.saturating_add(8), bytes, metadata })
    }
}

type Shards = (Vec<Shard>, HashMap<String, usize>);

fn open_shards(dir: &Path) -> Result<Shards, SafetensorsError> {
    let path = dir.join(INDEX);
    let json = read_json(&path)?;
    let Some(map) = json.get("weight_map").and_then(Json::as_object) else {
        return Err(SafetensorsError::JsonShape { path, expected: "an object `weight_map`" });
    };
    let mut shards = Vec::new();
    let mut opened: BTreeMap<&str, usize> = BTreeMap::new();
    let mut index = HashMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str() else {
            return Err(SafetensorsError::JsonShape { path, expected: "file names in `weight_map`" });
        };
        if file.is_empty() || file.starts_with('.') || file.contains(['/', '\\', ':', '\0']) {
            return Err(SafetensorsError::ShardName { file: file.to_owned() });
        }
        let shard = match opened.get(file) {
            Some(shard) => *shard,
            None => {
                shards.push(Shard::open(&dir.join(file))?);
                opened.insert(file, shards.len() - 1);
                shards.len() - 1
            }
        };
        if shards.get(shard).is_none_or(|shard| shard.metadata.info(tensor).is_none()) {
            return Err(SafetensorsError::NotInShard { path: dir.join(file), tensor: tensor.clone() });
        }
        index.insert(tensor.clone(), shard);
    }
    Ok((shards, index))
}

/// A JSON file beside the weights; `null` where there is none.
///
/// # Errors
/// When it cannot be read, is larger than any real one, or is not JSON.
pub fn read_json_if_there(path: &Path) -> Result<Json, SafetensorsError> {
    if path.exists() { read_json(path) } else { Ok(Json::Null) }
}

fn read_json(path: &Path) -> Result<Json, SafetensorsError> {
    let io = |source| SafetensorsError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = fs_err::File::open(path).map_err(io)?;
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        return Err(SafetensorsError::JsonTooLarge { path: path.to_owned(), max: MAX_JSON_BYTES });
    }
    serde_json::from_slice(&bytes).map_err(|source| SafetensorsError::Json { path: path.to_owned(), source })
}
