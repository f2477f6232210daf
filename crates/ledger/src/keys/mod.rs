//! Virtual keys: what an application shows instead of a provider's key.

mod record;
pub(crate) mod registry;
mod secret;

pub use record::{KeyChange, KeyInfo, KeyRecord, NewKey, Scope};
pub use secret::{KeyId, Secret};
