//! Model families as data over shared blocks.
//!
//! [`ArchSpec`] describes a decoder. The readers make one from a GGUF file or a Hugging Face directory, and pack the
//! weights into a [`Model`]; [`Model::forward`] follows the description over a batch of pieces of many sequences,
//! whose keys and values live in the pages of one [`KvPool`].

mod batch;
mod encoder;
mod error;
mod family;
mod forward;
mod gguf;
mod hf;
mod kv;
mod model;
mod rope;
mod scratch;
mod spec;
mod summary;
mod tensors;

pub use batch::{LogitsWanted, SeqChunk};
pub use encoder::{Encoder, EncoderScratch, EncoderSpec, Pooling, Precision};
pub use error::{EmbedError, ForwardError, ModelError, NonFinite};
pub use family::Family;
pub use forward::ForwardOutput;
pub use kv::KvPool;
pub use model::Model;
pub use scratch::Scratch;
pub use spec::{Activation, ArchSpec, LayerSpec, RopeScaling, RopeSet, RopeSpec};
pub use summary::{FormatShare, MatrixShare, ModelSummary};
pub use tensors::LoadProgress;
