//! Model families as data over shared blocks: ArchSpec, decoder, KV cache.
