#!/usr/bin/env python3
"""Prints the figures of docs/routing.md with the commands of `bantam` alone.

    python3 bench/route.py --data $BANTAM_DATA [--only mmlu gsm8k small latency] [--small small.jsonl] [--svg DIR]

DATA has routellm/ as its makers publish it (github.com/lm-sys/RouteLLM, routellm/evals): outcomes of mixtral-8x7b-instruct and
gpt-4-1106-preview. Prompts that they list as contaminated are left out. Subjects are not used. A router is trained on 20% of the rows by a
hash of the prompt; the other 80% judge. `small` needs the rows of bench/route_answers.py and trains on half of them.
"""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

PARTS = ("mmlu", "gsm8k", "small", "latency")


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def outcomes(data, name):
    contaminated = {row["eval_prompt"] for row in lines(data / f"routellm/{name}_contaminated_prompts.jsonl")}
    rows = [row for row in lines(data / f"routellm/{name}.jsonl") if row["prompt"] not in contaminated]
    return [
        {"prompt": row["prompt"], "small_correct": row["weak_correct"], "large_correct": row["strong_correct"]} for row in rows
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--bantam", default="bantam")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--small", type=pathlib.Path, help="rows of bench/route_answers.py")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--svg", type=pathlib.Path, help="folder for pictures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def bantam(*command):
            command = [str(part) for part in (args.bantam, "route", *command)]
            print("\n$", shlex.join(command), flush=True)
            if subprocess.run(command, check=False).returncode:
                sys.exit("failed")

        def rows(name):
            path = folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in outcomes(args.data, name)), encoding="utf-8")
            return path

        def evaluate(name, path, *more, share=0.2):
            picture = ["--svg", args.svg / f"{name}.svg"] if args.svg else []
            bantam("eval", path, "--train-share", share, "--splits", args.splits, "--promises", 200, *more, *picture)

        if "mmlu" in args.only:
            evaluate("mmlu", rows("mmlu"), "--bound", 0.1, "--of", "all")
        if "gsm8k" in args.only:
            evaluate("gsm8k", rows("gsm8k"), "--bound", 0.15, "--of", "all")
        if "small" in args.only and args.small:
            evaluate("small", args.small, "--bound", 0.1, "--of", "all", "--large-share", 0.9, share=0.5)
        if "latency" in args.only:
            bantam("train", rows("gsm8k"), "--out", folder / "router", "--threshold", 0.2)
            bantam("bench", "--router", folder / "router")


if __name__ == "__main__":
    main()
