//! The memory that packed weights live in.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{MmapMut, MmapRaw};

/// Vectors are 64 bytes, and so are cache lines.
pub(super) const ALIGN: usize = 64;
/// From this size on, a mapping asks for huge pages: weights are read from end to end for every token, and a huge page
/// spares most of the address translation.
const HUGE_PAGE: usize = 2 << 20;

/// Hands out parts of a few large mappings, one after the other, so that matrices packed in turn are neighbours.
#[derive(Debug)]
pub(super) struct Arena {
    /// Bytes of a mapping, unless more is asked for at once.
    mapping_bytes: usize,
    free: Mutex<Option<Buffer>>,
}

impl Arena {
    pub(super) fn new(mapping_bytes: usize) -> Self {
        Arena { mapping_bytes, free: Mutex::new(None) }
    }

    /// `len` zero bytes (a multiple of [`ALIGN`]) that nobody else has, if there is so much memory.
    pub(super) fn take(&self, len: usize) -> Option<Buffer> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.as_ref().is_none_or(|free| free.range.len() < len) {
            let size = len.max(self.mapping_bytes);
            let mapping = MmapMut::map_anon(size).ok()?;
            #[cfg(target_os = "linux")]
            if size >= HUGE_PAGE {
                // A kernel without huge pages refuses, which costs nothing but speed.
                let _ = mapping.advise(memmap2::Advice::HugePage);
            }
            *free = Some(Buffer { mapping: Arc::new(mapping.into()), range: 0..size });
        }
        let rest = free.as_mut()?;
        let taken = rest.range.start..rest.range.start + len;
        rest.range.start = taken.end;
        Some(Buffer { mapping: Arc::clone(&rest.mapping), range: taken })
    }
}

/// A part of a mapping that has one owner. Its bytes are written while it is packed, and only read afterwards.
#[derive(Debug)]
pub(super) struct Buffer {
    mapping: Arc<MmapRaw>,
    range: Range<usize>,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is within the mapping, whose bytes are zero from the start, and belongs to this buffer, which
        // is borrowed.
        unsafe { std::slice::from_raw_parts(self.mapping.as_ptr().add(self.range.start), self.range.len()) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; this buffer is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.as_mut_ptr().add(self.range.start), self.range.len()) }
    }
}
