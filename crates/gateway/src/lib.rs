//! The HTTP surfaces of Bantam.
