//! The model catalogue, pulling and verifying model files, and the local store.
