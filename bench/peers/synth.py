#!/usr/bin/env python3
"""Writes a GGUF file of the shape of Llama-3.2-1B with random weights (0.8 GB): for speed, where the real one cannot be had.

    python3 bench/peers/synth.py /tmp/synthetic-1b.gguf
    python3 bench/peers/speed.py /tmp/synthetic-1b.gguf

Its types are those that llama-quantize gives to Q4_K_M: Q4_K, and Q6_K for the embedding (which is the output head, too) and for
the v and down projections of half of the layers. Weights are random bytes under fixed scales, so that they scatter about zero as a
trained model's do. The tokenizer is a byte-level BPE of all words of a to z, in order of length. What it says means nothing.
"""

import argparse
import itertools
import json
import math
import os
import pathlib
import random
import string
import struct
import sys

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, CONTEXT = 16, 2048, 32, 8, 64, 8192, 131072
VOCAB, SPECIAL, BEGIN, END = 128256, 256, 128000, 128001
ROPE_BASE, ROPE_FACTOR, ROPE_LOW, ROPE_HIGH, ROPE_ORIGINAL = 500000.0, 32.0, 1.0, 4.0, 8192

F32, Q4_K, Q6_K = 0, 12, 14
BLOCK = {F32: (1, 4), Q4_K: (256, 144), Q6_K: (256, 210)}  # elements and bytes
MOSTLY_Q4_K_M = 15
ALIGNMENT = 32
# Token types.
NORMAL, CONTROL = 1, 3


def string_bytes(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value_bytes(value):
    """A metadata value with its type in front. Integers are u32; lists of integers are i32."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + string_bytes(value)
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value[0], str):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string_bytes, value))
    return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def byte_symbols():
    """GPT-2's printable stand-in for each byte: itself if it is printable, else the next free character from 256 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    free = itertools.count(256)
    return [chr(byte) if byte in printable else chr(next(free)) for byte in range(256)]


def vocabulary():
    """Tokens and merges: every token of two letters or more is a shorter token and one letter more."""
    tokens, merges, words = byte_symbols(), [], list(string.ascii_lowercase)
    pairs = ((word, letter) for word in words for letter in string.ascii_lowercase)  # Grows with `words`.
    for word, letter in itertools.islice(pairs, VOCAB - SPECIAL - len(tokens)):
        words.append(word + letter)
        merges.append(f"{word} {letter}")
    tokens += words[26:] + ["<|begin_of_text|>", "<|end_of_text|>"]
    tokens += [f"<|reserved_special_token_{i}|>" for i in range(VOCAB - len(tokens))]
    return tokens, merges


def metadata():
    tokens, merges = vocabulary()
    return {
        "general.architecture": "llama",
        "general.name": "Synthetic of Llama-3.2-1B's shape",
        "general.file_type": MOSTLY_Q4_K_M,
        "general.quantization_version": 2,
        "general.alignment": ALIGNMENT,
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FFN,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.key_length": HEAD_DIM,
        "llama.attention.value_length": HEAD_DIM,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": HEAD_DIM,
        "llama.rope.freq_base": ROPE_BASE,
        "llama.vocab_size": VOCAB,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [NORMAL] * (VOCAB - SPECIAL) + [CONTROL] * SPECIAL,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": BEGIN,
        "tokenizer.ggml.eos_token_id": END,
        "tokenizer.ggml.add_bos_token": True,
    }


def rope_factors():
    """Llama 3's: what each frequency is divided by. Short waves stay, long ones are stretched, a smooth band between."""
    factors = []
    for i in range(0, HEAD_DIM, 2):
        turns = ROPE_ORIGINAL / (2 * math.pi * ROPE_BASE ** (i / HEAD_DIM))
        smooth = min(max((turns - ROPE_LOW) / (ROPE_HIGH - ROPE_LOW), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / ROPE_FACTOR + smooth))
    return factors


def tensors():
    """Name, type and shape of each, the inner dimension first."""
    yield "token_embd.weight", Q6_K, (HIDDEN, VOCAB)
    yield "rope_freqs.weight", F32, (HEAD_DIM // 2,)
    eighth = LAYERS // 8
    for i in range(LAYERS):
        more = i < eighth or i >= 7 * eighth or (i - eighth) % 3 == 2
        matrices = {
            "attn_q": (Q4_K, HIDDEN, HEADS * HEAD_DIM),
            "attn_k": (Q4_K, HIDDEN, KV_HEADS * HEAD_DIM),
            "attn_v": (Q6_K if more else Q4_K, HIDDEN, KV_HEADS * HEAD_DIM),
            "attn_output": (Q4_K, HEADS * HEAD_DIM, HIDDEN),
            "ffn_gate": (Q4_K, HIDDEN, FFN),
            "ffn_up": (Q4_K, HIDDEN, FFN),
            "ffn_down": (Q6_K if more else Q4_K, FFN, HIDDEN),
        }
        for name, (kind, *shape) in matrices.items():
            yield f"blk.{i}.{name}.weight", kind, tuple(shape)
        yield f"blk.{i}.attn_norm.weight", F32, (HIDDEN,)
        yield f"blk.{i}.ffn_norm.weight", F32, (HIDDEN,)
    yield "output_norm.weight", F32, (HIDDEN,)


def n_bytes(kind, shape):
    elements, size = BLOCK[kind]
    n = 1
    for dimension in shape:
        n *= dimension
    return n // elements * size


def data(name, kind, shape, rng):
    if kind == F32:
        values = rope_factors() if name == "rope_freqs.weight" else [1.0] * shape[0]
        return struct.pack(f"<{len(values)}f", *values)
    raw = bytearray(rng.randbytes(n_bytes(kind, shape)))
    size = BLOCK[kind][1]
    # The standard deviation that keeps a product's outputs as large as its inputs.
    deviation = shape[0] ** -0.5
    if kind == Q4_K:
        # w = d * scale * q - dmin * minimum; scales and minima of 6 bits, q of 4. With dmin = 7.5 d the mean is zero, and the
        # deviation is 258 d.
        halves = {0: deviation / 258, 2: 7.5 * deviation / 258}
    else:
        # w = d * scale * (q - 32); scales of 8 bits with sign, q of 6 bits: the deviation is 1366 d.
        halves = {size - 2: deviation / 1366}
    for offset, value in halves.items():
        for i, byte in enumerate(struct.pack("<e", value)):
            raw[offset + i :: size] = bytes([byte]) * (len(raw) // size)
    return raw


def padding(n):
    return bytes(-n % ALIGNMENT)


def write(path, seed):
    rng = random.Random(seed)
    entries = metadata()
    header = struct.pack("<4sIQQ", b"GGUF", 3, sum(1 for _ in tensors()), len(entries))
    header += b"".join(string_bytes(key) + value_bytes(value) for key, value in entries.items())
    offset = 0
    for name, kind, shape in tensors():
        header += string_bytes(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        offset += n_bytes(kind, shape)
        offset += len(padding(offset))
    print(f"writing {(len(header) + offset) / 1e6:.0f} MB to {path}", file=sys.stderr)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(header + padding(len(header)))
        for name, kind, shape in tensors():
            raw = data(name, kind, shape, rng)
            file.write(raw + padding(len(raw)))
    os.replace(part, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=pathlib.Path, help="the file to write")
    parser.add_argument("--seed", type=int, default=0, help="of the weights; the same seed gives the same file [%(default)s]")
    parser.add_argument("--json", action="store_true", help="say in JSON what was written")
    args = parser.parse_args()
    write(args.path, args.seed)
    figures = {"path": str(args.path), "bytes": args.path.stat().st_size, "seed": args.seed}
    print(json.dumps(figures) if args.json else f"{args.path}: {figures['bytes'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
