//! Memory that the operating system zeroes lazily, so that a large page pool costs nothing until it is used.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Every buffer starts on a cache line.
const ALIGN: usize = 64;

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

/// `len` elements, zero at first.
pub(super) struct Zeroed<T: Plain> {
    /// What the allocator gave; `None` when `len` is 0.
    block: Option<(NonNull<u8>, Layout)>,
    start: NonNull<T>,
    len: usize,
}

impl<T: Plain> Zeroed<T> {
    /// `None` when there is not so much memory.
    pub(super) fn new(len: usize) -> Option<Self> {
        if len == 0 {
            return Some(Self { block: None, start: NonNull::dangling(), len });
        }
        // The allocator zeroes lazily only at its natural alignment, so room for the cache line is asked for as well.
        let size = len.checked_mul(size_of::<T>())?.checked_add(ALIGN)?;
        let layout = Layout::from_size_align(size, align_of::<T>()).ok()?;
        // SAFETY: `size` is not zero.
        let block = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        let skip = block.as_ptr().align_offset(ALIGN);
        if skip >= ALIGN {
            // SAFETY: allocated above with this layout.
            unsafe { dealloc(block.as_ptr(), layout) };
            return None;
        }
        // SAFETY: `skip` is below ALIGN, which the block has beyond its elements.
        let start = unsafe { block.add(skip) }.cast();
        Some(Self { block: Some((block, layout)), start, len })
    }
}

impl<T: Plain> Drop for Zeroed<T> {
    fn drop(&mut self) {
        if let Some((block, layout)) = self.block {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(block.as_ptr(), layout) };
        }
    }
}

impl<T: Plain> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` has `len` initialised elements (zero is a value of `T`) and is aligned beyond `T`'s need.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> DerefMut for Zeroed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Plain> fmt::Debug for Zeroed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zeroed({} elements)", self.len)
    }
}

// SAFETY: the buffer owns its elements, which are `Send`.
unsafe impl<T: Plain> Send for Zeroed<T> {}
// SAFETY: shared access is to `&[T]` only, and `T` is `Sync`.
unsafe impl<T: Plain> Sync for Zeroed<T> {}
