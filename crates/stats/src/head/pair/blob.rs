use super::{COLUMNS, Outcome, PairHead};
use crate::container::{self, Kind, Opened};
use crate::head::blob::{BlobError, Reader, push_floats, push_linear};
use crate::head::text::TextFeatures;

const KIND: Kind = Kind { magic: b"BANTPAIR", version: 1 };

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    width: usize,
    base: [f64; 2],
    pool: [f64; 3],
    text: TextFeatures,
    outcomes: Vec<Outcome>,
    kept: Vec<u32>,
}

impl PairHead {
    /// The head as bytes, for [`PairHead::from_bytes`]: a container whose header is JSON and whose body are arrays in
    /// little-endian f32 and i8.
    ///
    /// # Errors
    /// None that are known; the JSON writer's type has one.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BlobError> {
        let header = serde_json::to_vec(&Header {
            width: self.width,
            base: self.base,
            pool: self.pool,
            text: self.text.0.clone(),
            outcomes: self.outcomes.clone(),
            kept: self.kept.clone(),
        })?;
        let mut body = Vec::new();
        push_linear(&mut body, &self.embedding, COLUMNS);
        push_linear(&mut body, &self.text.1, 2);
        push_floats(&mut body, &self.text.0.idf);
        push_floats(&mut body, &self.index.scales);
        body.extend(self.index.values.iter().map(|x| *x as u8));
        Ok(container::seal(KIND, &header, &body))
    }

    /// Reads what [`PairHead::to_bytes`] wrote. Memory is in proportion to `bytes`.
    ///
    /// # Errors
    /// [`BlobError`]: nothing is taken on trust, not even with a checksum that matches.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BlobError> {
        let invalid = |field, problem| BlobError::Invalid { field, problem };
        let Opened { header, body } = container::open(KIND, bytes)?;
        let Header { width, base, pool, mut text, outcomes, kept } = serde_json::from_slice(header)?;
        if width == 0 || outcomes.is_empty() {
            return Err(invalid("header", "has no width or no rows"));
        }
        if !base.iter().all(|base| (-20.0..=20.0).contains(base)) {
            return Err(invalid("base", "must be two numbers from -20 to 20"));
        }
        if !pool.iter().all(|weight| (0.0..=1e3).contains(weight)) {
            return Err(invalid("pool", "must be three weights from 0 to 1000"));
        }
        let share = |score: &Option<f32>| score.is_none_or(|score| (0.0..=1.0).contains(&score));
        if !outcomes.iter().all(|outcome| share(&outcome.small) && share(&outcome.large)) {
            return Err(invalid("outcomes", "must be from 0 to 1"));
        }
        if kept.len() != outcomes.len() || !kept.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(invalid("kept", "must be ascending rows, one per outcome"));
        }
        let mut reader = Reader::new(body);
        let embedding = reader.linear(width, COLUMNS)?;
        let linear = reader.linear(text.width(), 2)?;
        text.idf = reader.floats(text.width())?;
        if !text.is_valid() {
            return Err(invalid("text", "must have ascending buckets within the range"));
        }
        let index = reader.index(outcomes.len(), width)?;
        reader.finish()?;
        Ok(Self { width, base, embedding, text: (text, linear), index, outcomes, kept, pool })
    }
}
