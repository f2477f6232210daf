//! Memory that the operating system zeroes lazily, so that a large page pool costs nothing until it is used.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Types for which all bits zero is a value and every value may be shared between threads.
///
/// # Safety
/// As said.
pub(super) unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: integers.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: zero bits are 0.0.
unsafe impl Plain for f32 {}

/// `len` elements, zero at first. They start on a page of the system, and so on a cache line.
pub(super) struct Zeroed<T: Plain> {
    /// `None` when `len` is 0.
    mapping: Option<MmapMut>,
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Plain> Zeroed<T> {
    /// `None` when there is not so much memory.
    pub(super) fn new(len: usize) -> Option<Self> {
        let size = len.checked_mul(size_of::<T>())?;
        let mapping = if size == 0 { None } else { Some(MmapMut::map_anon(size).ok()?) };
        Some(Self { mapping, len, elements: PhantomData })
    }
}

impl<T: Plain> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let Some(mapping) = &self.mapping else { return &[] };
        // SAFETY: the mapping has room for `len` elements, all zero bits at first, which is a value of `T`, and starts
        // on a page.
        unsafe { std::slice::from_raw_parts(mapping.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Zeroed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let Some(mapping) = &mut self.mapping else { return &mut [] };
        // SAFETY: as in `deref`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(mapping.as_mut_ptr().cast(), self.len) }
    }
}

impl<T: Plain> fmt::Debug for Zeroed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zeroed({} elements)", self.len)
    }
}
