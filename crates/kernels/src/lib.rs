//! Packed weights, matrix products, attention and norms, with one arithmetic on every instruction set.
