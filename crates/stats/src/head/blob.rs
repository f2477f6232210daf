//! A head as bytes: `BANTHEAD`, the version and the length of the header (u32, little-endian), the header in JSON, the
//! arrays in little-endian f32 and i8 without padding, and the SHA-256 of all that.

use sha2::{Digest, Sha256};

use super::design::padded;
use super::linear::Linear;
use super::neighbours::Neighbours;
use super::pool::PoolWeights;
use super::targets::Targets;
use super::text::TextFeatures;
use super::{Head, Link};

const MAGIC: &[u8; 8] = b"BANTHEAD";
const VERSION: u32 = 1;
const PREFIX: usize = 16;
const DIGEST: usize = 32;

/// Why bytes are not a head.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Other bytes.
    #[error("this is not a classification head; give a file that `Head::to_bytes` wrote")]
    NotAHead,
    /// From another version.
    #[error("the head has format version {found}, but this program reads {VERSION}; train it again")]
    Version {
        /// What the bytes say.
        found: u32,
    },
    /// Bytes were changed or are missing.
    #[error("the head's checksum does not match; copy or train it again")]
    Checksum,
    /// The header is not what it should be.
    #[error("the head's header: {0}")]
    Header(#[from] serde_json::Error),
    /// The parts do not fit together.
    #[error("the head's {field} {problem}")]
    Invalid {
        /// Which part.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    classes: usize,
    link: Link,
    width: usize,
    text: Option<TextFeatures>,
    /// The classes of each neighbour.
    labels: Vec<Vec<u32>>,
    pool: PoolWeights,
}

impl Head {
    /// The head as bytes, for [`Head::from_bytes`].
    ///
    /// # Errors
    /// None that are known; the JSON writer's type has one.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BlobError> {
        let targets = &self.neighbours.targets;
        let header = serde_json::to_vec(&Header {
            classes: self.classes,
            link: self.link,
            width: self.width,
            text: self.text.as_ref().map(|(features, _)| features.clone()),
            labels: (0..targets.len()).map(|row| targets.of(row).to_vec()).collect(),
            pool: self.pool.clone(),
        })?;
        let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &(header.len() as u32).to_le_bytes(), &header].concat();
        let mut floats = |values: &[f32]| bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        let mut linear = |linear: &Linear| {
            for row in linear.weights.chunks_exact(linear.bias.len()).chain([&linear.bias[..]]) {
                floats(&row[..self.classes]);
            }
        };
        linear(&self.embedding);
        if let Some((_, of_text)) = &self.text {
            linear(of_text);
        }
        if let Some((features, _)) = &self.text {
            floats(&features.idf);
        }
        floats(&self.neighbours.scales);
        bytes.extend(self.neighbours.values.iter().map(|x| *x as u8));
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        Ok(bytes)
    }

    /// Reads what [`Head::to_bytes`] wrote. Memory is in proportion to `bytes`.
    ///
    /// # Errors
    /// [`BlobError`]: nothing is taken on trust, not even with a checksum that matches.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlobError> {
        let invalid = |field, problem| BlobError::Invalid { field, problem };
        let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Err(BlobError::NotAHead) };
        let number = |at: usize| u32::from_le_bytes([prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]]);
        let (version, header_len) = (number(8), number(12) as usize);
        if !prefix.starts_with(MAGIC) {
            return Err(BlobError::NotAHead);
        }
        if version != VERSION {
            return Err(BlobError::Version { found: version });
        }
        let Some((rest, digest)) = rest.split_last_chunk::<DIGEST>() else { return Err(BlobError::Checksum) };
        if Sha256::digest(&bytes[..bytes.len() - DIGEST])[..] != digest[..] {
            return Err(BlobError::Checksum);
        }
        let Some((header, arrays)) = rest.split_at_checked(header_len) else {
            return Err(invalid("header", "is longer than the file"));
        };
        let Header { classes, link, width, text, labels, pool } = serde_json::from_slice(header)?;
        let n_rows = labels.len();
        if classes == 0 || width == 0 || n_rows == 0 {
            return Err(invalid("header", "has no classes, no width or no rows"));
        }
        let parts = if text.is_some() { 3 } else { 2 };
        if pool.0.len() != parts || pool.0.iter().any(|weight| !(0.0..=1e3).contains(weight)) {
            return Err(invalid("pool", "must be one weight from 0 to 1000 per part"));
        }
        let mut targets = Targets::empty(classes, link);
        for of_row in labels {
            let ascending = of_row.windows(2).all(|pair| pair[0] < pair[1]);
            let known = of_row.last().is_none_or(|last| (*last as usize) < classes);
            if !ascending || !known || (link == Link::Softmax && of_row.len() != 1) {
                return Err(invalid(
                    "labels",
                    "must be ascending classes, exactly one per row if they exclude each other",
                ));
            }
            targets.push(of_row);
        }
        let mut reader = Reader { rest: arrays };
        let embedding = reader.linear(width, classes)?;
        let text = match text {
            None => None,
            Some(mut features) => {
                let linear = reader.linear(features.width(), classes)?;
                features.idf = reader.floats(features.width())?;
                if !features.is_valid() {
                    return Err(invalid("text", "must have ascending buckets within the range"));
                }
                Some((features, linear))
            }
        };
        let scales = reader.floats(n_rows)?;
        let values = reader.take(n_rows, width)?.iter().map(|x| i16::from(*x as i8)).collect();
        if !reader.rest.is_empty() {
            return Err(invalid("arrays", "are longer than the header says"));
        }
        let neighbours = Neighbours { width, targets, values, scales };
        Ok(Self { classes, link, width, embedding, text, neighbours, pool })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, size: usize) -> Result<&'a [u8], BlobError> {
        let (taken, rest) = count
            .checked_mul(size)
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or(BlobError::Invalid { field: "arrays", problem: "are shorter than the header says" })?;
        self.rest = rest;
        Ok(taken)
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, BlobError> {
        let (bytes, _) = self.take(count, 4)?.as_chunks::<4>();
        let values: Vec<f32> = bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if values.iter().all(|x| x.is_finite()) {
            Ok(values)
        } else {
            Err(BlobError::Invalid { field: "arrays", problem: "have a number that is not finite" })
        }
    }

    fn linear(&mut self, width: usize, classes: usize) -> Result<Linear, BlobError> {
        let overflow = BlobError::Invalid { field: "width", problem: "times classes is too large" };
        let weights = self.floats(width.checked_mul(classes).ok_or(overflow)?)?;
        let bias = self.floats(classes)?;
        let pad = |row: &[f32]| -> Vec<f32> {
            row.iter().copied().chain(std::iter::repeat(0.0)).take(padded(classes)).collect()
        };
        Ok(Linear { weights: weights.chunks_exact(classes).flat_map(pad).collect(), bias: pad(&bias) })
    }
}
