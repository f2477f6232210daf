//! Finds personal data and secrets in text, and replaces them so that the holder of the map can put them back.
//!
//! [`Recognisers`] is a table of patterns with validators and context words; [`Detectors`] runs it together with detectors of other kinds
//! (a model that knows names, say) and makes one list of disjoint [`Finding`]s. An [`Anonymiser`] applies an [`Operator`] to each of them.
//! [`Pseudonyms`] is what one request remembers of its replacements, and a [`Restorer`] undoes them, in streams that are split anywhere.
//!
//! Whatever fails is an error: no text passes as clean because a detector did not work.

mod anonymise;
mod check;
mod context;
mod detector;
mod error;
pub mod evaluate;
mod finding;
mod operator;
pub mod presidio;
mod pseudonym;
mod recogniser;
mod resolve;
mod restore;
mod scan;
pub mod table;

pub use anonymise::{Anonymised, Anonymiser, Item};
pub use detector::{Detector, Detectors, Options};
pub use error::{DetectError, OperatorError, TableError};
pub use finding::{DEFAULT_THRESHOLD, Finding, MAX_FINDINGS, MAX_TEXT_BYTES};
pub use operator::{End, HashKey, Operator, OperatorSpec};
pub use pseudonym::Pseudonyms;
pub use recogniser::{Check, Recogniser};
pub use restore::{Place, Restorer};
pub use scan::Recognisers;
