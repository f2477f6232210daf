//! Random bytes of the operating system.

use crate::error::LedgerError;

/// So many of them.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], LedgerError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|e| LedgerError::Store { doing: "needs random numbers", why: e.to_string() })?;
    Ok(bytes)
}
