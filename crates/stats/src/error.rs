/// Input that cannot be used. Every message names the argument and says what it must be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// Two arguments that go together row by row differ in length.
    #[error("{name}: {found} values, but {expected} are needed, one per row")]
    Length {
        /// The argument.
        name: &'static str,
        /// Its length.
        found: usize,
        /// What the other arguments ask for.
        expected: usize,
    },
    /// The values do not make whole rows.
    #[error("{name}: {len} values do not make whole rows of {width}; the width must be at least 1 and divide them")]
    Shape {
        /// The argument.
        name: &'static str,
        /// Values in all.
        len: usize,
        /// Values per row.
        width: usize,
    },
    /// Fewer than the computation needs.
    #[error("{name}: {found} given, but at least {min} are needed")]
    TooFew {
        /// What there is too little of.
        name: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        min: usize,
    },
    /// A number outside its domain.
    #[error("{name}: {value} is not allowed, it must be {expected}")]
    Range {
        /// The argument.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The domain, in words.
        expected: &'static str,
    },
    /// NaN or infinity.
    #[error("{name}: row {row} has a number that is not finite")]
    NotFinite {
        /// The argument.
        name: &'static str,
        /// The row, from 0.
        row: usize,
    },
    /// A class index that does not exist.
    #[error("{name}: row {row} has class {class}, but there are {classes} classes, from 0")]
    Class {
        /// The argument.
        name: &'static str,
        /// The row, from 0.
        row: usize,
        /// The class it names.
        class: usize,
        /// How many there are.
        classes: usize,
    },
}

pub(crate) fn check_len(name: &'static str, found: usize, expected: usize) -> Result<(), StatsError> {
    if found == expected { Ok(()) } else { Err(StatsError::Length { name, found, expected }) }
}

pub(crate) fn check_min(name: &'static str, found: usize, min: usize) -> Result<(), StatsError> {
    if found >= min { Ok(()) } else { Err(StatsError::TooFew { name, found, min }) }
}

/// That `value` lies strictly between 0 and 1.
pub(crate) fn check_share(name: &'static str, value: f64) -> Result<(), StatsError> {
    if value > 0.0 && value < 1.0 {
        Ok(())
    } else {
        Err(StatsError::Range { name, value, expected: "above 0 and below 1" })
    }
}

pub(crate) fn check_finite(name: &'static str, values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(row) => Err(StatsError::NotFinite { name, row }),
        None => Ok(()),
    }
}

pub(crate) fn check_classes(name: &'static str, labels: &[usize], classes: usize) -> Result<(), StatsError> {
    match labels.iter().position(|&class| class >= classes) {
        Some(row) => Err(StatsError::Class { name, row, class: labels[row], classes }),
        None => Ok(()),
    }
}
