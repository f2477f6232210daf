use std::sync::{Mutex, PoisonError};

/// Gives every chunk to `work` once, on up to `threads` threads. What is in a chunk must not depend on `threads`; then the
/// results do not either.
pub(crate) fn for_each<T: Send>(threads: usize, chunks: Vec<T>, work: impl Fn(T) + Sync) {
    let threads = threads.clamp(1, chunks.len().max(1));
    if threads == 1 {
        chunks.into_iter().for_each(work);
        return;
    }
    let queue = Mutex::new(chunks.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        while let Some(chunk) = next() {
            work(chunk);
        }
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(run)));
        run();
    });
}
