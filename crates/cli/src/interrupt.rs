//! Ctrl-C: ends the program unless something is under way that would rather be stopped.

use std::sync::{Mutex, PoisonError};

type Action = Box<dyn Fn() + Send>;

static ACTION: Mutex<Option<Action>> = Mutex::new(None);

/// Exit code of a program ended by Ctrl-C, as shells report it.
pub(crate) const EXIT_CODE: i32 = 130;

/// While it lives, Ctrl-C calls the given action instead of ending the program.
pub(crate) struct Guard {
    before: Option<Action>,
}

/// Takes over Ctrl-C. A second takes over from the first, and gives it back when its guard is dropped.
///
/// # Errors
/// When the signal handler cannot be installed.
pub(crate) fn catch(action: impl Fn() + Send + 'static) -> anyhow::Result<Guard> {
    let before = ACTION.lock().unwrap_or_else(PoisonError::into_inner).replace(Box::new(action));
    let guard = Guard { before };
    match ctrlc::set_handler(on_signal) {
        Ok(()) | Err(ctrlc::Error::MultipleHandlers) => Ok(guard),
        Err(error) => Err(error.into()),
    }
}

fn on_signal() {
    match &*ACTION.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(action) => action(),
        None => std::process::exit(EXIT_CODE),
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        *ACTION.lock().unwrap_or_else(PoisonError::into_inner) = self.before.take();
    }
}
