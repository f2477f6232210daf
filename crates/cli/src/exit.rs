//! Exit codes, the same for all commands.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | another failure |
//! | 2 | wrong usage: a flag or its value, a malformed model reference, a model for another task, a broken catalogue |
//! | 3 | there is no such model or file, or it is not on this machine |
//! | 4 | no source could be reached or gave the file |
//! | 5 | the bytes are not those that were promised |
//! | 6 | an answer that had to have a form was cut before it was complete |
//! | 130 | stopped by Ctrl-C |

use bantam_engine::{GrammarError, SubmitError};
use bantam_hub::{ErrorKind, HubError, ReferenceError};
use bantam_ledger::{KeyError, LedgerError};

use crate::cmd::audit::{Different, NotSound};
use crate::cmd::grammar::AnswerCut;

/// The exit code for a command that ended in `error`.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    if matches!(error.downcast_ref(), Some(SubmitError::Invalid { .. })) {
        return 2;
    }
    if error.is::<GrammarError>() {
        return 2;
    }
    if error.is::<AnswerCut>() {
        return 6;
    }
    if error.is::<NotSound>() || error.is::<Different>() {
        return 5;
    }
    if let Some(code) = error.chain().find_map(of_ledger) {
        return code;
    }
    let kind = error.chain().find_map(|cause| match cause.downcast_ref::<HubError>() {
        Some(error) => Some(error.kind()),
        None => cause.downcast_ref::<ReferenceError>().map(|_| ErrorKind::Usage),
    });
    match kind {
        Some(ErrorKind::Usage) => 2,
        Some(ErrorKind::NotFound) => 3,
        Some(ErrorKind::Network) => 4,
        Some(ErrorKind::Integrity) => 5,
        Some(ErrorKind::Cancelled) => 130,
        Some(ErrorKind::Local) | None => 1,
    }
}

fn of_ledger(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(LedgerError::Invalid { .. }) = cause.downcast_ref() {
        return Some(2);
    }
    match cause.downcast_ref() {
        Some(KeyError::NoSuchKey { .. }) => Some(3),
        Some(KeyError::Invalid { .. } | KeyError::Revoked { .. }) => Some(2),
        _ => None,
    }
}

/// An error and its causes on one line. Some errors say their cause themselves; it is not said twice.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message += &format!(": {cause}");
        }
    }
    message
}
