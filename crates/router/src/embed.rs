/// Which encoder's vectors a router was trained on, and on how much of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderId {
    /// What it is called.
    pub model: String,
    /// The digest of its weights, if that is known.
    pub digest: Option<String>,
    /// Elements of a vector.
    pub dimensions: usize,
    /// The first so many tokens of what is to be embedded are read, the special ones included.
    pub tokens: usize,
}

impl EncoderId {
    /// Cuts token ids to the length that the router was trained on; the last one, which ends a text, stays.
    #[must_use]
    pub fn cut(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(&last) = ids.last().filter(|_| ids.len() > self.tokens && self.tokens > 0) {
            ids.truncate(self.tokens);
            ids[self.tokens - 1] = last;
        }
        ids
    }
}

/// Something that turns texts into vectors.
pub trait Embed {
    /// What can go wrong there.
    type Error: std::error::Error;

    /// One vector of `encoder.dimensions` elements per text, one after another, of the first `encoder.tokens` tokens of each.
    ///
    /// # Errors
    /// Whatever the encoder says.
    fn embed(&self, encoder: &EncoderId, texts: &[String]) -> Result<Vec<f32>, Self::Error>;
}
