//! A head as bytes: a container whose header is JSON and whose body are arrays in little-endian f32 and i8 without padding.

use super::design::padded;
use super::linear::Linear;
use super::neighbours::{Index, Neighbours};
use super::pool::PoolWeights;
use super::targets::Targets;
use super::text::TextFeatures;
use super::{Head, Link};
use crate::container::{self, ContainerError, Kind, Opened};

const KIND: Kind = Kind { magic: b"BANTHEAD", version: 1 };

/// Why bytes are not a head.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// Other bytes.
    #[error("this is not a classification head; give a file that `Head::to_bytes` wrote")]
    NotAHead,
    /// From another version.
    #[error("the head has format version {found}, but this program reads {expected}; train it again")]
    Version {
        /// What the bytes say.
        found: u32,
        /// What is read.
        expected: u32,
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

impl From<ContainerError> for BlobError {
    fn from(error: ContainerError) -> Self {
        match error {
            ContainerError::Kind => Self::NotAHead,
            ContainerError::Version { found, expected } => Self::Version { found, expected },
            ContainerError::Checksum => Self::Checksum,
            ContainerError::Header => Self::Invalid { field: "header", problem: "is longer than the file" },
        }
    }
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
        let mut body = Vec::new();
        push_linear(&mut body, &self.embedding, self.classes);
        if let Some((features, linear)) = &self.text {
            push_linear(&mut body, linear, self.classes);
            push_floats(&mut body, &features.idf);
        }
        push_floats(&mut body, &self.neighbours.index.scales);
        body.extend(self.neighbours.index.values.iter().map(|x| *x as u8));
        Ok(container::seal(KIND, &header, &body))
    }

    /// Reads what [`Head::to_bytes`] wrote. Memory is in proportion to `bytes`.
    ///
    /// # Errors
    /// [`BlobError`]: nothing is taken on trust, not even with a checksum that matches.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlobError> {
        let invalid = |field, problem| BlobError::Invalid { field, problem };
        let Opened { header, body } = container::open(KIND, bytes)?;
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
        let mut reader = Reader::new(body);
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
        let index = reader.index(n_rows, width)?;
        reader.finish()?;
        let neighbours = Neighbours { index, targets };
        Ok(Self { classes, link, width, embedding, text, neighbours, pool })
    }
}

/// Appends numbers for [`Reader::floats`].
pub(super) fn push_floats(body: &mut Vec<u8>, values: &[f32]) {
    body.extend(values.iter().flat_map(|x| x.to_le_bytes()));
}

/// Appends a linear map without its padding, for [`Reader::linear`].
pub(super) fn push_linear(body: &mut Vec<u8>, linear: &Linear, columns: usize) {
    for row in linear.weights.chunks_exact(linear.bias.len()).chain([&linear.bias[..]]) {
        push_floats(body, &row[..columns]);
    }
}

/// Reads arrays whose lengths come from a header that nobody vouches for.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// That nothing is left.
    pub(super) fn finish(self) -> Result<(), BlobError> {
        let longer = BlobError::Invalid { field: "arrays", problem: "are longer than the header says" };
        if self.rest.is_empty() { Ok(()) } else { Err(longer) }
    }

    /// Scales and values of rows to compare with.
    pub(super) fn index(&mut self, rows: usize, width: usize) -> Result<Index, BlobError> {
        let scales = self.floats(rows)?;
        let values = self.take(rows, width)?.iter().map(|x| i16::from(*x as i8)).collect();
        Ok(Index { width, values, scales })
    }

    pub(super) fn take(&mut self, count: usize, size: usize) -> Result<&'a [u8], BlobError> {
        let (taken, rest) = count
            .checked_mul(size)
            .and_then(|len| self.rest.split_at_checked(len))
            .ok_or(BlobError::Invalid { field: "arrays", problem: "are shorter than the header says" })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn floats(&mut self, count: usize) -> Result<Vec<f32>, BlobError> {
        let (bytes, _) = self.take(count, 4)?.as_chunks::<4>();
        let values: Vec<f32> = bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if values.iter().all(|x| x.is_finite()) {
            Ok(values)
        } else {
            Err(BlobError::Invalid { field: "arrays", problem: "have a number that is not finite" })
        }
    }

    pub(super) fn linear(&mut self, width: usize, classes: usize) -> Result<Linear, BlobError> {
        let overflow = BlobError::Invalid { field: "width", problem: "times classes is too large" };
        let weights = self.floats(width.checked_mul(classes).ok_or(overflow)?)?;
        let bias = self.floats(classes)?;
        let pad = |row: &[f32]| -> Vec<f32> {
            row.iter().copied().chain(std::iter::repeat(0.0)).take(padded(classes)).collect()
        };
        Ok(Linear { weights: weights.chunks_exact(classes).flat_map(pad).collect(), bias: pad(&bias) })
    }
}
