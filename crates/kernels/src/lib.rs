//! Packed weights, matrix products, attention and norms, with one arithmetic on every instruction set.
#![allow(unsafe_code)]

mod cpu;
pub mod isa;
pub mod math;
pub mod ops;
pub mod rope;
mod team;

pub use cpu::{Cpu, CpuConfig, CpuError, MAX_THREADS};
pub use isa::{IsaError, IsaLevel};
