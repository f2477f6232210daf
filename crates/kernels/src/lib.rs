//! Packed weights, matrix products, attention and norms, with one arithmetic on every instruction set.
#![allow(unsafe_code)]

pub mod attention;
/// Version of the accumulation contract: two builds with the same number compute the same bits.
pub const NUMERICS: u32 = 1;

mod ceiling;
mod cpu;
pub mod isa;
pub mod math;
mod matmul;
pub mod ops;
mod pack;
mod quantize;
pub mod rope;
mod team;

pub use ceiling::Ceilings;
pub use cpu::{Cpu, CpuConfig, CpuError, MAX_THREADS};
pub use isa::{IsaError, IsaLevel};
pub use matmul::{MatInput, Product, Store, matmul};
pub use pack::{BlockType, PackError, PackedMatrix, Packer, quantize_q8_0};
pub use quantize::QuantizedRows;
