//! GGUF, safetensors, tokenizers and chat templates.
