//! The memory that packed weights live in.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// Vectors are 64 bytes, and so are cache lines.
pub(super) const ALIGN: usize = 64;
/// What large buffers are aligned to, so that the system can back them with huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// An aligned allocation of fixed length whose bytes are written once, in parallel, and only read afterwards.
pub(super) struct Buffer {
    ptr: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the buffer owns its bytes and shares them only as `&[u8]`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

/// A buffer whose bytes are not written yet.
pub(super) struct Unwritten(Buffer);

impl Unwritten {
    /// Memory for `len > 0` bytes, if there is so much.
    pub(super) fn new(len: usize) -> Option<Self> {
        let align = if len >= HUGE_PAGE { HUGE_PAGE } else { ALIGN };
        let layout = Layout::from_size_align(len, align).ok().filter(|l| l.size() > 0)?;
        // SAFETY: the layout's size is not zero.
        let ptr = NonNull::new(unsafe { alloc(layout) })?;
        Some(Unwritten(Buffer { ptr, layout }))
    }

    /// Where the bytes go.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.ptr.as_ptr()
    }

    /// The finished buffer.
    ///
    /// # Safety
    /// Every byte has been written.
    pub(super) unsafe fn written(self) -> Buffer {
        self.0
    }
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the allocation has this many bytes, all written (see `Unwritten::written`) and never changed again.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `Unwritten::new` with this layout.
        unsafe { dealloc(self.ptr.as_ptr(), self.layout) }
    }
}
