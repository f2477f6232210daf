//! Difficulty: which of two models answers a request, the small one or the large one.
//!
//! A [`Router`] learns from rows on which one or both models were tried. It sees a prompt twice: as an encoder's vector of a
//! bounded part of it ([`prompt::Asked::what_to_embed`]) and as cheap structure ([`prompt::Structure`]). It says how likely each
//! model is to be right and what the large one is expected to gain, and sends to the small model what gains at most a threshold.
//! The threshold keeps a stated bound on losses with a stated confidence, or there is none ([`fit()`]). A [`Cascade`] decides after
//! the small model has answered, with what its answer shows of itself.
//!
//! The encoder is the caller's ([`Embed`]): nothing here runs a model. Everything is a function of its input.

pub mod cascade;
pub mod curve;
mod embed;
mod error;
mod file;
pub mod fit;
mod model;
pub mod prompt;
pub mod rows;

pub use cascade::{Cascade, Check, Review, SmallAnswer};
pub use embed::{Embed, EncoderId};
pub use error::RouteError;
pub use file::MAX_FILE_BYTES;
pub use fit::{Fitted, fit};
pub use model::{Choice, Decision, Reason, Router, Similar, Threshold};
