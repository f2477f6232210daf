#!/usr/bin/env python3
"""A local model's own answers to the GSM8K prompts of RouteLLM's outcomes, as rows for `bantam route`.

    bantam serve --model smollm2-135m-instruct --port 8080 &
    python3 bench/route_answers.py --data $BANTAM_DATA --url http://127.0.0.1:8080 --model smollm2-135m-instruct --out small.jsonl

Greedy, through the chat template, with log-probabilities; an answer is right if its last number is the gold one. The large model's outcome
is the recorded one of gpt-4-1106-preview. Prompts that RouteLLM lists as contaminated are left out. Rows that the output already has are not
asked again.
"""

import argparse
import concurrent.futures
import json
import pathlib
import re
import urllib.request

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def last_number(text):
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def ask(args, row):
    body = {
        "model": args.model,
        "messages": [{"role": "user", "content": row["prompt"]}],
        "temperature": 0,
        "max_tokens": args.max_tokens,
        "logprobs": True,
    }
    request = urllib.request.Request(
        args.url + "/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        choice = json.load(answer)["choices"][0]
    text = choice["message"]["content"] or ""
    logprobs = [token["logprob"] for token in choice["logprobs"]["content"]] or [0.0]
    cut = choice["finish_reason"] == "length"
    return {
        "prompt": row["prompt"],
        "small_correct": not cut and last_number(text) == float(row["gold"].replace(",", "")),
        "large_correct": row["strong_correct"],
        "small_mean_logprob": sum(logprobs) / len(logprobs),
        "small_min_logprob": min(logprobs),
        "small_tokens": len(logprobs),
        "small_check": "failed" if cut or last_number(text) is None else "passed",
        "answer": text,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--max-tokens", type=int, default=320)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    def lines(path):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]

    contaminated = {row["eval_prompt"] for row in lines(args.data / "routellm/gsm8k_contaminated_prompts.jsonl")}
    done = {row["prompt"] for row in lines(args.out)} if args.out.exists() else set()
    rows = lines(args.data / "routellm/gsm8k.jsonl")
    rows = [row for row in rows if row["prompt"] not in contaminated and row["prompt"] not in done]
    with open(args.out, "a", encoding="utf-8") as out, concurrent.futures.ThreadPoolExecutor(args.streams) as pool:
        for n, answer in enumerate(pool.map(lambda row: ask(args, row), rows), 1):
            out.write(json.dumps(answer, ensure_ascii=False) + "\n")
            out.flush()
            print(f"\r{n} of {len(rows)}", end="", flush=True)
    rows = lines(args.out)
    print(f"\n{sum(row['small_correct'] for row in rows)} of {len(rows)} right")


if __name__ == "__main__":
    main()
