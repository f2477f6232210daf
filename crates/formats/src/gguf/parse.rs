//! From bytes to metadata and tensor table. Nothing the file states is used before it was compared with the bytes
//! that are left, so memory stays in proportion to the file whatever its header claims.

use std::collections::HashMap;
use std::fmt;

use super::error::GgufError;
use super::types::GgmlType;
use super::value::{Array, StringArray, Value, ValueType};
use super::{Metadata, TensorInfo};

/// Limit of the specification on the length of a key.
const MAX_KEY_BYTES: u64 = 65_535;
/// The specification says 64, which some writers exceed.
const MAX_TENSOR_NAME_BYTES: u64 = 128;
const MAX_DIMS: u32 = 4;
const MAX_NESTING: usize = 4;
const DEFAULT_ALIGNMENT: u64 = 32;
/// Page sizes are the largest alignment anyone has a use for; this is the x86 huge page.
const MAX_ALIGNMENT: u64 = 2 << 20;
/// Key length, value type, and the smallest value.
const MIN_KEY_VALUE_BYTES: u64 = 8 + 4 + 1;
/// Name length, number of dimensions, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// What a file's header says, checked.
pub(super) struct Parsed {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) tensor_index: HashMap<String, usize>,
}

/// Parses the header of `file` and checks that every tensor lies inside it.
pub(super) fn parse(file: &[u8]) -> Result<Parsed, GgufError> {
    let mut cursor = Cursor { file, pos: 0 };
    let magic = file.get(..4).unwrap_or(file);
    if magic != b"GGUF" {
        return Err(GgufError::BadMagic { found: magic.to_vec() });
    }
    cursor.pos = 4;
    let version = cursor.u32(&"the version")?;
    match version {
        2 | 3 => {}
        swapped if (1..=3).contains(&swapped.swap_bytes()) => return Err(GgufError::BigEndian),
        _ => return Err(GgufError::UnsupportedVersion { version }),
    }
    let n_tensors = cursor.u64(&"the tensor count")?;
    let n_key_values = cursor.u64(&"the metadata count")?;
    cursor.check_count(&"the metadata count", n_key_values, MIN_KEY_VALUE_BYTES)?;
    cursor.check_count(&"the tensor count", n_tensors, MIN_TENSOR_BYTES)?;

    let metadata = read_metadata(&mut cursor, n_key_values)?;
    refuse_split(&metadata)?;
    let alignment = read_alignment(&metadata)?;
    cursor.check_count(&"the tensor count", n_tensors, MIN_TENSOR_BYTES)?;
    let mut tensors = Vec::new();
    let mut tensor_index = HashMap::new();
    for index in 0..n_tensors {
        let tensor = read_tensor_info(&mut cursor, index, alignment)?;
        if tensor_index.insert(tensor.name.clone(), tensors.len()).is_some() {
            return Err(GgufError::DuplicateTensor { tensor: shown(&tensor.name) });
        }
        tensors.push(tensor);
    }
    place_tensors(&mut tensors, file.len() as u64, cursor.pos as u64, alignment)?;
    Ok(Parsed { version, alignment, metadata, tensors, tensor_index })
}

/// A name from the file, fit for a message: one line, no control characters, not too long.
fn shown(name: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut text: String = name.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        text.push('…');
    }
    text
}

/// A place in the file, named only when something is wrong there.
struct Place<'a> {
    what: &'a str,
    of: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.what, shown(self.of))
    }
}

struct Indexed<'a> {
    what: &'a str,
    index: u64,
}

impl fmt::Display for Indexed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} number {}", self.what, self.index)
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, n: u64) -> Result<Metadata, GgufError> {
    let mut metadata = Metadata::default();
    for index in 0..n {
        let place = Indexed { what: "metadata key", index };
        let key = cursor.text(&place, MAX_KEY_BYTES)?;
        let type_id = cursor.u32(&Place { what: "the type of metadata key", of: key })?;
        let ty =
            ValueType::from_id(type_id).ok_or_else(|| GgufError::UnknownValueType { key: shown(key), id: type_id })?;
        let value = read_value(cursor, key, ty)?;
        if !metadata.insert(key, value) {
            return Err(GgufError::DuplicateKey { key: shown(key) });
        }
    }
    Ok(metadata)
}

fn read_value(cursor: &mut Cursor<'_>, key: &str, ty: ValueType) -> Result<Value, GgufError> {
    let place = Place { what: "the value of metadata key", of: key };
    Ok(match ty {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array(&place)?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array(&place)?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array(&place)?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array(&place)?)),
        ValueType::U32 => Value::U32(u32::from_le_bytes(cursor.array(&place)?)),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array(&place)?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array(&place)?)),
        ValueType::Bool => Value::Bool(read_bool(key, u8::from_le_bytes(cursor.array(&place)?))?),
        ValueType::String => Value::String(cursor.text(&place, u64::MAX)?.to_owned()),
        ValueType::Array => Value::Array(read_array(cursor, key, 1)?),
        ValueType::U64 => Value::U64(u64::from_le_bytes(cursor.array(&place)?)),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array(&place)?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array(&place)?)),
    })
}

fn read_bool(key: &str, byte: u8) -> Result<bool, GgufError> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(GgufError::BadBool { key: shown(key), found }),
    }
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Array, GgufError> {
    if depth > MAX_NESTING {
        return Err(GgufError::NestedTooDeep { key: shown(key), max: MAX_NESTING });
    }
    let place = Place { what: "the array of metadata key", of: key };
    let type_id = cursor.u32(&place)?;
    let ty = ValueType::from_id(type_id).ok_or_else(|| GgufError::UnknownValueType { key: shown(key), id: type_id })?;
    let length = Place { what: "the array length of metadata key", of: key };
    let n = cursor.u64(&length)?;
    cursor.check_count(&length, n, ty.min_bytes())?;
    Ok(match ty {
        ValueType::U8 => Array::U8(cursor.numbers(&place, n, u8::from_le_bytes)?),
        ValueType::I8 => Array::I8(cursor.numbers(&place, n, i8::from_le_bytes)?),
        ValueType::U16 => Array::U16(cursor.numbers(&place, n, u16::from_le_bytes)?),
        ValueType::I16 => Array::I16(cursor.numbers(&place, n, i16::from_le_bytes)?),
        ValueType::U32 => Array::U32(cursor.numbers(&place, n, u32::from_le_bytes)?),
        ValueType::I32 => Array::I32(cursor.numbers(&place, n, i32::from_le_bytes)?),
        ValueType::F32 => Array::F32(cursor.numbers(&place, n, f32::from_le_bytes)?),
        ValueType::U64 => Array::U64(cursor.numbers(&place, n, u64::from_le_bytes)?),
        ValueType::I64 => Array::I64(cursor.numbers(&place, n, i64::from_le_bytes)?),
        ValueType::F64 => Array::F64(cursor.numbers(&place, n, f64::from_le_bytes)?),
        ValueType::Bool => {
            let bytes = cursor.bytes(&place, n)?;
            Array::Bool(bytes.iter().map(|&byte| read_bool(key, byte)).collect::<Result<_, _>>()?)
        }
        ValueType::String => {
            let mut texts = StringArray::new();
            for _ in 0..n {
                texts.push(cursor.text(&place, u64::MAX)?);
            }
            Array::String(texts)
        }
        ValueType::Array => {
            let mut arrays = Vec::new();
            for _ in 0..n {
                arrays.push(read_array(cursor, key, depth + 1)?);
            }
            Array::Array(arrays)
        }
    })
}

fn refuse_split(metadata: &Metadata) -> Result<(), GgufError> {
    match metadata.optional::<u64>("split.count")? {
        Some(count) if count > 1 => Err(GgufError::Split { count }),
        _ => Ok(()),
    }
}

fn read_alignment(metadata: &Metadata) -> Result<u64, GgufError> {
    let alignment = metadata.optional::<u64>("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(GgufError::BadAlignment { found: alignment, max: MAX_ALIGNMENT });
    }
    Ok(alignment)
}

/// Reads one entry of the tensor table; its offset still counts from the start of the data section.
fn read_tensor_info(cursor: &mut Cursor<'_>, index: u64, alignment: u64) -> Result<TensorInfo, GgufError> {
    let name = cursor.text(&Indexed { what: "tensor name", index }, MAX_TENSOR_NAME_BYTES)?;
    let place = Place { what: "tensor", of: name };
    let n_dims = cursor.u32(&place)?;
    if n_dims > MAX_DIMS {
        return Err(GgufError::TooManyDims { tensor: shown(name), n_dims, max: MAX_DIMS });
    }
    let mut shape = (0..n_dims).map(|_| cursor.u64(&place)).collect::<Result<Vec<u64>, _>>()?;
    if shape.is_empty() {
        // A scalar: one element, and no caller has to think of a shape without dimensions.
        shape.push(1);
    }
    let type_id = cursor.u32(&place)?;
    let offset = cursor.u64(&place)?;

    if let Some(dim) = shape.iter().position(|&len| len == 0) {
        return Err(GgufError::ZeroDim { tensor: shown(name), shape, dim });
    }
    let ty =
        GgmlType::from_id(type_id).ok_or_else(|| GgufError::UnknownTensorType { tensor: shown(name), id: type_id })?;
    let row_len = shape.first().copied().unwrap_or(1);
    if !row_len.is_multiple_of(ty.block_len()) {
        let block_len = ty.block_len();
        return Err(GgufError::PartialBlock { tensor: shown(name), row_len, ty, block_len });
    }
    // The element count is checked as well as the byte count, so that callers may multiply dimensions.
    let n_elements = shape.iter().try_fold(1u64, |product, &len| product.checked_mul(len));
    let n_bytes = n_elements.and_then(|n| (n / ty.block_len()).checked_mul(ty.block_bytes()));
    let (Some(_), Some(n_bytes)) = (n_elements, n_bytes) else {
        return Err(GgufError::ShapeOverflow { tensor: shown(name), shape });
    };
    if !offset.is_multiple_of(alignment) {
        return Err(GgufError::MisalignedTensor { tensor: shown(name), offset, alignment });
    }
    Ok(TensorInfo { name: name.to_owned(), shape, ty, offset, n_bytes })
}

/// Checks that the tensors lie inside the file and apart from each other, and makes their offsets count from the
/// start of the file.
fn place_tensors(tensors: &mut [TensorInfo], file_len: u64, header_end: u64, alignment: u64) -> Result<(), GgufError> {
    let data_start = header_end.next_multiple_of(alignment);
    let available = file_len.saturating_sub(data_start);
    for tensor in tensors.iter() {
        let end = tensor.offset.checked_add(tensor.n_bytes);
        if end.is_none_or(|end| end > available) {
            return Err(GgufError::TensorOutOfFile {
                tensor: shown(&tensor.name),
                offset: tensor.offset,
                n_bytes: tensor.n_bytes,
                available,
            });
        }
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        if let [first, second] = pair
            && first.offset + first.n_bytes > second.offset
        {
            return Err(GgufError::OverlappingTensors {
                first: shown(&first.name),
                second: shown(&second.name),
                offset: second.offset,
            });
        }
    }
    for tensor in tensors {
        tensor.offset += data_start;
    }
    Ok(())
}

/// Reads forward through the file; never past its end.
struct Cursor<'a> {
    file: &'a [u8],
    pos: usize,
}

impl<'a> Cursor<'a> {
    fn remaining(&self) -> u64 {
        (self.file.len() - self.pos) as u64
    }

    /// Refuses a count of items that the rest of the file cannot hold.
    fn check_count(&self, what: &dyn fmt::Display, count: u64, min_bytes: u64) -> Result<(), GgufError> {
        let available = self.remaining();
        let max = available / min_bytes;
        if count > max {
            return Err(GgufError::CountTooLarge { what: what.to_string(), count, max, available });
        }
        Ok(())
    }

    fn bytes(&mut self, what: &dyn fmt::Display, n: u64) -> Result<&'a [u8], GgufError> {
        let available = self.remaining();
        if n > available {
            let offset = self.pos as u64;
            return Err(GgufError::Truncated { what: what.to_string(), offset, needed: n, available });
        }
        let (bytes, _) = self.file.split_at(self.pos + n as usize);
        let (_, bytes) = bytes.split_at(self.pos);
        self.pos += n as usize;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &dyn fmt::Display) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(what, N as u64)?);
        Ok(array)
    }

    fn u32(&mut self, what: &dyn fmt::Display) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &dyn fmt::Display) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// `n` numbers of `N` bytes; `n` was checked against the rest of the file.
    fn numbers<T, const N: usize>(
        &mut self,
        what: &dyn fmt::Display,
        n: u64,
        decode: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        let bytes = self.bytes(what, n.saturating_mul(N as u64))?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| decode(chunk)).collect())
    }

    fn text(&mut self, what: &dyn fmt::Display, max: u64) -> Result<&'a str, GgufError> {
        let len = self.u64(what)?;
        if len > max {
            return Err(GgufError::TooLong { what: what.to_string(), len, max });
        }
        let bytes = self.bytes(what, len)?;
        std::str::from_utf8(bytes)
            .map_err(|error| GgufError::InvalidUtf8 { what: what.to_string(), valid_up_to: error.valid_up_to() })
    }
}
