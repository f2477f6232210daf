//! Model families as data over shared blocks.
//!
//! [`ArchSpec`] describes a decoder; the readers make one from a GGUF file or a Hugging Face directory, together with
//! the packed weights; the forward pass follows it over a batch of pieces of many sequences, whose keys and values
//! live in pages of one pool.

mod batch;
mod error;
#[expect(dead_code, reason = "read by the loaders")]
mod family;
#[expect(dead_code, reason = "named by the loaders")]
mod spec;

pub use batch::{LogitsWanted, SeqChunk};
pub use error::{ForwardError, ModelError, NonFinite};
pub use family::Family;
pub use spec::{Activation, ArchSpec, LayerSpec, RopeScaling, RopeSet, RopeSpec};
