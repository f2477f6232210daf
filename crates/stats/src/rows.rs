use crate::error::{StatsError, check_min};

/// A matrix of finite numbers by rows, checked once: `f32` embeddings, `f64` probabilities.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, T> {
    values: &'a [T],
    width: usize,
}

impl<'a, T: Copy + Into<f64>> Rows<'a, T> {
    /// Rows of `width` numbers, one after another; `name` says in errors which argument they are.
    ///
    /// # Errors
    /// [`StatsError::Shape`], [`StatsError::NotFinite`], and [`StatsError::TooFew`] if there is no row.
    pub fn new(name: &'static str, values: &'a [T], width: usize) -> Result<Self, StatsError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(StatsError::Shape { name, len: values.len(), width });
        }
        check_min(name, values.len(), 1)?;
        match values.iter().position(|&value| !value.into().is_finite()) {
            Some(at) => Err(StatsError::NotFinite { name, row: at / width }),
            None => Ok(Self { values, width }),
        }
    }
}

impl<'a, T> Rows<'a, T> {
    /// Numbers per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Never: there is at least one row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All numbers, row after row.
    #[must_use]
    pub fn values(&self) -> &'a [T] {
        self.values
    }

    /// One row. Panics where a slice would.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [T] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// The rows in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'a, T> {
        self.values.chunks_exact(self.width)
    }
}
