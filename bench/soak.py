#!/usr/bin/env python3
"""Does `bantam serve` stay right, fast and small under an hour of mixed load?

    cargo build --release
    python3 bench/soak.py smollm2-135m-instruct --json soak.json --svg soak.svg

Requests arrive at random moments, however many are still being answered (a Poisson process of --rate per second). Their prompts are
slices of prose of 1 to 4000 tokens (every length's logarithm equally likely), 30% with one of 8 prefixes of 800 tokens; answers have 1
to 128 tokens; 70% are streamed, half are greedy and half sampled, and 10% are given up by their client, at any moment.
Every fifth of the run gets the same requests at the same moments but for the tokens of their prompts: fifths can be compared.

Besides: every 10 seconds a probe, whose prompt is like no other, shows how long an answer takes; every minute one greedy request must
get the answer that it got before. Every 10 seconds the server's memory, threads, descriptors, CPU time and /metrics are read.

What must hold, or the exit code is 1:

errors        every request gets status 200 and, unless its client leaves, all tokens that it asked for, in a well-formed answer
determinism   the repeated request's answers are all the same
memory        the last fifth's median resident memory is at most 2% above the second's (in the first, the pool of keys and values is
              touched for the first time; runs of few minutes do not touch all of it so soon, and may fail here)
speed         the last fifth's median latency of probes and time per token are at most 1.15 times the first's
leaks         when all is answered: no request runs or waits, no page is in use, and threads and descriptors are as few as at the start

The rate's default keeps two cores some half busy with SmolLM2-135M. Ctrl-C ends the run early, with a verdict on what there was.
Runs on Linux, as it reads /proc. The clients are in this process, and take a few percent of a core.
"""

import argparse
import collections
import concurrent.futures
import json
import math
import os
import pathlib
import random
import re
import shlex
import signal
import statistics
import sys
import threading
import time
import typing

sys.path.insert(0, str(pathlib.Path(__file__).parent / "peers"))

from common import DISTURBED, Unavailable, cpu_seconds, gguf_path  # noqa: E402
from serve import Client, Server, tokenise  # noqa: E402

FIFTHS = 5
EVERY = 10  # Seconds between probes, and between samples.
REPEAT = 60  # Seconds between the requests whose answer is known.
PREFIXES, PREFIX = 8, 800
LONGEST, ANSWER = 4000, 128
IN_FLIGHT = 64  # Most requests of the load at one time; further ones wait, and count as late.
LATE = 0.1  # Seconds.
TEXT = 80_000  # Tokens that prompts are cut from.
DRAIN = 120  # Most seconds that requests may go on after the last one came.
SETTLE = 30  # Most seconds until what they held is given back.
GROWTH, SLOWER = 1.02, 1.15

# Figures of /metrics, by the names that are used here.
METRICS = {
    "running": "bantam_engine_running",
    "waiting": "bantam_engine_waiting",
    "pages_used": "bantam_kv_pages_used",
    "pages_cached": "bantam_kv_pages_cached",
    "prompt_tokens": "bantam_prompt_tokens_total",
    "cached_tokens": "bantam_cached_prompt_tokens_total",
    "generated_tokens": "bantam_generated_tokens_total",
    "computed_tokens": "bantam_engine_computed_tokens_total",
    "cancelled": "bantam_engine_cancelled_requests_total",
    "failed": "bantam_engine_failed_requests_total",
    "refused": "bantam_engine_refused_requests_total",
    "preemptions": "bantam_engine_preemptions_total",
}


class Wrong(Exception):
    """An answer is not as it must be."""


class Apart(Server):
    """A server that Ctrl-C in the terminal does not reach: it is asked for its figures afterwards."""

    def __init__(self, command, health):
        super().__init__(command, health)
        self.command = [sys.executable, "-c", "import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])", *self.command]


class Request(typing.NamedTuple):
    """What is sent, and when; not yet which tokens."""

    at: float  # Seconds after its fifth began.
    kind: str  # "load", "probe" or "repeat".
    prompt: int
    answer: int
    prefix: typing.Optional[int] = None
    streamed: bool = False
    temperature: float = 0
    leave_after: typing.Optional[float] = None  # Seconds after which the client leaves, without having read anything.
    leave_at: typing.Optional[int] = None  # Event of the stream after which it leaves.


class Result(typing.NamedTuple):
    """What became of a request; times are seconds after the start."""

    kind: str
    start: float
    end: float
    left: bool
    late: bool
    per_token: typing.Optional[float]
    error: typing.Optional[str]
    text: typing.Optional[str]


def requests_of_a_fifth(rng, seconds, rate, longest):
    """Load, probes and repeated requests, in order of time."""
    requests, at = [], rng.expovariate(rate)
    while at < seconds:
        requests.append(random_request(rng, at, longest))
        at += rng.expovariate(rate)
    requests += [Request(at, "probe", 256, 32) for at in range(0, math.ceil(seconds), EVERY)]
    requests += [Request(at, "repeat", 12, 24) for at in range(EVERY // 2, math.ceil(seconds), REPEAT)]
    return sorted(requests, key=lambda request: request.at)


def random_request(rng, at, longest):
    prefix = rng.randrange(PREFIXES) if rng.random() < 0.3 and longest > PREFIX else None
    own = longest if prefix is None else longest - PREFIX
    length = round(math.exp(rng.uniform(0, math.log(own)))) + longest - own
    request = Request(at, "load", length, rng.randint(1, ANSWER), prefix, rng.random() < 0.7, rng.choice([0, 0.8]))
    if rng.random() >= 0.1:
        return request
    if request.streamed and rng.random() < 0.5:
        return request._replace(leave_at=rng.randint(1, request.answer))
    return request._replace(leave_after=rng.uniform(0, 0.5))


def ask(server, body, request):
    """Sends a request. Returns its answer's text and seconds per token after the first, both nothing if the client left."""
    with Client(server) as client:
        client.connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        if request.leave_after is not None:
            time.sleep(request.leave_after)
            return None, None
        with client.connection.getresponse() as response:
            if response.status != 200:
                raise Wrong(f"status {response.status}: {response.read(300)}")
            if request.streamed:
                return read_stream(response, request)
            answer = json.loads(response.read())
            check(request, answer["usage"], answer["choices"][0]["finish_reason"])
            return answer["choices"][0]["text"], None


def read_stream(response, request):
    text, usage, finish, events, first, last = "", None, None, 0, None, None
    for line in response:
        if not line.strip() or line.startswith(b":"):
            continue
        if not line.startswith(b"data: ") or finish == "[DONE]":
            raise Wrong(f"not an event, or one too many: {line[:300]}")
        if line.rstrip() == b"data: [DONE]":
            check(request, usage, finish)
            finish = "[DONE]"
            continue
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            last = time.monotonic()
            first = first or last
            text, finish = text + choice["text"], choice["finish_reason"] or finish
        events += 1
        if events == request.leave_at:
            return None, None
    if finish != "[DONE]":
        raise Wrong(f"the stream broke off after {events} events")
    return text, (last - first) / (request.answer - 1) if request.answer > 1 else None


def check(request, usage, finish):
    counts = usage and (usage["prompt_tokens"], usage["completion_tokens"])
    if counts != (request.prompt, request.answer) or finish != "length":
        raise Wrong(f"asked for {request.answer} tokens after {request.prompt}, got {counts} and {finish!r}")


class Soak:
    """One run: what is sent, and what came of it."""

    def __init__(self, args, server, tokens):
        self.args, self.server, self.tokens = args, server, tokens
        self.seconds = args.minutes * 60
        self.rng = random.Random(f"tokens {args.seed}")
        self.pool = concurrent.futures.ThreadPoolExecutor(IN_FLIGHT)
        self.others = concurrent.futures.ThreadPoolExecutor(16)  # Probes and repeated requests do not wait for the load.
        self.futures, self.results, self.samples, self.problems = [], [], [], []
        self.probes, self.stop = 0, threading.Event()
        with Client(server) as client:
            model = json.loads(client.call("GET", "/v1/models")[1])["data"][0]
        self.model, self.longest = model["id"], min(LONGEST, model["context_length"] - ANSWER)
        self.do(Request(0, "warm", 64, 4), self.body(Request(0, "warm", 64, 4)), time.monotonic())
        time.sleep(1)
        self.start = time.monotonic()
        self.first = self.sample()

    def now(self):
        return time.monotonic() - self.start

    def body(self, request):
        """Its JSON, with tokens drawn for it."""
        prompt, rest = [], request.prompt
        if request.kind == "repeat":
            prompt, rest = self.tokens[:rest], 0
        elif request.kind == "probe":  # Its first token is another each time: nothing of it is in the prefix cache.
            prompt, rest = [1000 + self.probes] + self.tokens[1:rest], 0
            self.probes += 1
        elif request.prefix is not None:
            prompt, rest = self.tokens[1000 + request.prefix * PREFIX :][:PREFIX], rest - PREFIX
        offset = self.rng.randrange(len(self.tokens) - LONGEST)
        body = {"model": self.model, "prompt": prompt + self.tokens[offset : offset + rest], "max_tokens": request.answer, "ignore_eos": True}
        if request.streamed:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body | {"temperature": request.temperature, "seed": self.rng.randrange(2**32)}

    def do(self, request, body, due):
        """Sends a request, and notes what became of it."""
        begin, text, per_token, error = time.monotonic(), None, None, None
        try:
            text, per_token = ask(self.server, body, request)
        except Exception as e:  # Whatever it was: the request went wrong.
            error = f"{type(e).__name__}: {e}"
        end, zero = time.monotonic(), getattr(self, "start", begin)
        left, kept = text is None and not error, text if request.kind == "repeat" else None
        self.results.append(Result(request.kind, begin - zero, end - zero, left, begin - due > LATE, per_token, error, kept))

    def drive(self):
        """Sends everything when it is due."""
        threading.Thread(target=self.watch, daemon=True).start()
        length = self.seconds / FIFTHS
        requests = requests_of_a_fifth(random.Random(self.args.seed), length, self.args.rate, self.longest)
        for i in range(FIFTHS):
            for request in requests:
                body, due = self.body(request), self.start + i * length + request.at
                self.sleep_until(due)
                pool = self.pool if request.kind == "load" else self.others
                self.futures.append(pool.submit(self.do, request, body, due))
        self.sleep_until(self.start + self.seconds)

    def sleep_until(self, due):
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(left, 1))
            if self.server.process.poll() is not None:
                raise Unavailable("the server died")

    def watch(self):
        """Takes samples, and tells how it goes."""
        terminal, told = sys.stderr.isatty(), 0
        while not self.stop.wait(max(0, len(self.samples) * EVERY - self.now())):
            try:
                sample = self.sample()
            except Exception as e:  # Whatever it was: the run goes on, and the verdict tells.
                self.problems.append(f"no sample: {type(e).__name__}: {e}")
                sample = None
            self.samples.append(sample)
            if sample and (terminal or sample["at"] >= told + 60):
                told = sample["at"]
                print(self.progress(sample), end="\033[K\r" if terminal else "\n", file=sys.stderr, flush=True)

    def progress(self, sample):
        done = len(self.results)
        return (f"{sample['at'] / 60:6.1f} min   {done} requests, {len(self.futures) + 1 - done} in flight   "
                f"RSS {sample['rss'] / 1e6:.0f} MB   {len(self.errors())} errors")

    def errors(self):
        return [r.error for r in list(self.results) if r.error] + self.problems

    def sample(self):
        """The server's figures now."""
        proc = pathlib.Path("/proc", str(self.server.process.pid))
        status = dict(re.findall(r"^(\w+):\s+(\d+)", (proc / "status").read_text(), re.M))
        times = (proc / "stat").read_text().rpartition(")")[2].split()
        sample = {"at": self.now(), "rss": int(status["VmRSS"]) * 1024, "threads": int(status["Threads"])}
        sample["descriptors"] = len(os.listdir(proc / "fd"))
        sample["cpu"] = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
        sample["others"] = cpu_seconds() - sample["cpu"]
        with Client(self.server, timeout=60) as client:
            text = client.call("GET", "/metrics")[1].decode()
        figures = dict(re.findall(r"^(\w+)\S* (\S+)$", text, re.M))
        return sample | {name: float(figures[metric]) for name, metric in METRICS.items()}

    def drain(self, early):
        """Waits until all is answered and given back, and takes the last sample."""
        self.ran = min(self.now(), self.seconds)
        self.stop.set()
        self.at_end = self.sample()
        if early:  # What still waits here need not be sent.
            self.futures = [future for future in self.futures if not future.cancel()]
        self.open = len(concurrent.futures.wait(self.futures, DRAIN).not_done)
        for pool in (self.pool, self.others):
            pool.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + SETTLE
        self.last = self.sample()
        while not self.settled(self.last) and time.monotonic() < end:
            time.sleep(0.5)
            self.last = self.sample()

    def settled(self, sample):
        return not any(sample[name] > limit for name, limit in self.limits().items())

    def limits(self):
        """What may be there when all is answered."""
        return {"running": 0, "waiting": 0, "pages_used": 0} | {name: self.first[name] for name in ("threads", "descriptors")}

    def verdict(self):
        """Rows of the table: what is checked, the figure, what it may be at most, whether it holds (nothing: too few figures)."""
        texts = [r.text for r in self.results if r.kind == "repeat" and not r.error]
        different = sum(text != texts[0] for text in texts)
        rows = [["requests that went wrong, or did not end", len(self.errors()) + self.open, 0],
                ["requests the engine failed or refused", self.last["failed"] + self.last["refused"], 0],
                [f"repeated answers that differ, of {len(texts)}", different, 0]]
        rss = [(s["at"], s["rss"]) for s in self.samples if s]
        rows.append(["memory, last fifth over second", self.ratio(rss, 1), GROWTH])
        rows.append(["probe latency, last fifth over first", self.ratio(self.latencies(), 0), SLOWER])
        tokens = [(r.start, r.per_token) for r in self.results if r.kind == "load" and r.per_token]
        rows.append(["time per token, last fifth over first", self.ratio(tokens, 0), SLOWER])
        for name, limit in self.limits().items():
            rows.append([f"{name.replace('_', ' ')}, when all is answered", self.last[name], limit])
        return [row + [None if row[1] is None else row[1] <= row[2]] for row in rows]

    def latencies(self):
        return sorted((r.start, r.end - r.start) for r in self.results if r.kind == "probe" and not r.error)

    def ratio(self, points, before):
        """Of the last fifth's median to that of another."""
        old, new = ([v for at, v in points if int(at / self.ran * FIFTHS) == i] for i in (before, FIFTHS - 1))
        return statistics.median(new) / statistics.median(old) if old and new else None

    def summary(self):
        """What the run was, in figures."""
        first, end, cpus = self.first, self.at_end, len(os.sched_getaffinity(self.server.process.pid))
        load = [r for r in self.results if r.kind == "load"]
        latency = [v for _, v in self.latencies()]
        totals = ("prompt_tokens", "cached_tokens", "generated_tokens", "cancelled", "preemptions")
        return {name: self.last[name] - first[name] for name in totals} | {
            "model": self.model, "minutes": self.ran / 60, "rate": self.args.rate, "seed": self.args.seed, "cpus": cpus,
            "requests": len(load), "late": sum(r.late for r in load), "left": sum(r.left for r in load),
            "busy": (end["cpu"] - first["cpu"]) / (end["at"] - first["at"]) / cpus,
            "others": (end["others"] - first["others"]) / (end["at"] - first["at"]),
            "in_flight": sum(r.end - r.start for r in load) / self.ran,
            "probe_latency": statistics.median(latency) if latency else None,
            "rss": {"start": first["rss"], "end": end["rss"], "idle": self.last["rss"]},
        }


def words(summary):
    """The same in sentences."""
    s = summary
    return (f"{s['model']}: {s['minutes']:.1f} minutes, {s['requests']} requests ({s['rate']:g}/s; {s['left']} left by their client, "
            f"{s['late']} late), {s['in_flight']:.1f} in flight on average; server {s['busy']:.0%} busy on {s['cpus']} CPUs.\n"
            f"{s['prompt_tokens']:.0f} prompt tokens, {s['cached_tokens']:.0f} of them cached; {s['generated_tokens']:.0f} generated; "
            f"{s['cancelled']:.0f} cancelled in the engine, {s['preemptions']:.0f} preemptions; "
            f"RSS {s['rss']['start'] / 1e6:.0f} MB at the start, {s['rss']['end'] / 1e6:.0f} MB at the end.")


def print_table(rows):
    print("\n| check | figure | at most | holds |\n|---|---|---|---|")
    for what, value, limit, holds in rows:
        figure = "-" if value is None else f"{value:.3f}" if isinstance(limit, float) and limit % 1 else f"{value:.0f}"
        print(f"| {what} | {figure} | {limit:g} | {'too few figures' if holds is None else 'yes' if holds else 'NO'} |")


WIDTH, LEFT, RIGHT, TOP, PANEL, GAP = 860, 64, 20, 82, 104, 42
BLUE, ORANGE = "#0969da", "#bc4c00"


def ticks(top, n):
    """Round numbers from 0 to at least `top`, some n steps."""
    rough = max(top, 1e-9) / n
    unit = 10 ** math.floor(math.log10(rough))
    step = next(f * unit for f in (1, 2, 2.5, 5, 10) if f * unit >= rough * 0.999)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def panel(title, series, y0, minutes):
    """One small diagram; `series` are (name, colour, whether it is dots, [(minute, value)])."""
    marks = ticks(max([v for *_, points in series for _, v in points], default=1), 4)
    x, y = LEFT, y0 + PANEL
    right, across, up = WIDTH - RIGHT, (WIDTH - LEFT - RIGHT) / minutes, PANEL / marks[-1]
    yield f'<text x="{LEFT}" y="{y0 - 10}" class="h">{title}</text>'
    for mark in marks:
        at = y - mark * up
        yield f'<path d="M{LEFT} {at:.1f}H{right}" class="g"/><text x="{LEFT - 8}" y="{at + 4:.1f}" class="e">{mark:g}</text>'
    for _, colour, dots, points in series:
        places = [f"M{x + t * across:.1f} {y - v * up:.1f}" for t, v in points]
        path = "".join(f"{place}h0" for place in places) if dots else "".join(places[:1]) + "".join(places[1:]).replace("M", "L")
        yield f'<path d="{path}" stroke="{colour}" class="{"d" if dots else "l"}"/>'
    for name, colour, *_ in series:
        yield f'<text x="{right}" y="{y0 - 10}" style="fill:{colour}" class="e">{name}</text>'
        right -= 8 * len(name) + 16


def svg(soak, summary):
    """The run as a picture."""
    samples, minutes = [s for s in soak.samples if s], soak.ran / 60
    wide = max(1, round(len(samples) / 120))
    coarse = samples[::wide]
    spans = list(zip(coarse, coarse[1:]))

    def rate(name, less=None):
        value = {s["at"]: s[name] - (s[less] if less else 0) for s in coarse}
        return [((a["at"] + b["at"]) / 120, (value[b["at"]] - value[a["at"]]) / (b["at"] - a["at"])) for a, b in spans]

    def in_flight(a, b):
        return sum(max(0, min(r.end, b["at"]) - max(r.start, a["at"])) for r in soak.results) / (b["at"] - a["at"])

    probes = [(at / 60, v) for at, v in soak.latencies()]
    half = max(2, len(probes) // 24)
    median = [(at, statistics.median(v for _, v in probes[max(0, i - half) : i + half + 1])) for i, (at, _) in enumerate(probes)]
    panels = {
        "Resident memory, MB": [("", BLUE, False, [(s["at"] / 60, s["rss"] / 1e6) for s in samples])],
        "Latency of a probe (256 + 32 tokens), seconds": [("each", BLUE, True, probes), ("running median", ORANGE, False, median)],
        "Tokens per second": [("generated", ORANGE, False, rate("generated_tokens")),
                              ("prompt, not cached", BLUE, False, rate("prompt_tokens", "cached_tokens"))],
        "Requests in flight": [("", BLUE, False, [((a["at"] + b["at"]) / 120, in_flight(a, b)) for a, b in spans])],
    }
    height = TOP + len(panels) * (PANEL + GAP) + 18
    title = f"{summary['model']}: {minutes:.0f} minutes of mixed load"
    below = f"{summary['requests']} requests, {summary['rate']:g} per second; server {summary['busy']:.0%} busy on {summary['cpus']} CPUs"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
    yield f"<title>{title}; {below}</title>"
    yield ("<style>text{font:13px system-ui,'DejaVu Sans',sans-serif;fill:#57606a}.t{font-size:17px;font-weight:600;fill:#1f2328}"
           ".h{font-weight:600;fill:#1f2328}.e{text-anchor:end}.m{text-anchor:middle}.g{stroke:#d0d7de;stroke-width:1}"
           ".l{fill:none;stroke-width:1.8;stroke-linejoin:round}.d{stroke-width:4;stroke-linecap:round;opacity:.55}</style>")
    yield f'<rect width="{WIDTH}" height="{height}" rx="6" fill="#fff"/>'
    yield f'<text x="{LEFT}" y="26" class="t">{title}</text><text x="{LEFT}" y="46">{below}</text>'
    for i, (heading, series) in enumerate(panels.items()):
        yield from panel(heading, series, TOP + i * (PANEL + GAP), minutes)
    bottom = TOP + len(panels) * (PANEL + GAP) - GAP
    for mark in ticks(minutes, 10):
        if mark <= minutes * 1.001:
            yield f'<text x="{LEFT + mark / minutes * (WIDTH - LEFT - RIGHT):.1f}" y="{bottom + 20}" class="m">{mark:g}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{bottom + 42}" class="m">minutes</text></svg>'


def soaked(args, gguf, tokens):
    """Runs it all; the server's last words if it died."""
    with Apart([args.bantam, "serve", "--model", gguf, *args.bantam_args], "/readyz") as server:
        try:
            soak = Soak(args, server, tokens)
            early = False
            try:
                soak.drive()
            except KeyboardInterrupt:
                early = True
                print("\nended early; waiting for what is being answered", file=sys.stderr)
            soak.drain(early)
            return soak, soak.summary(), soak.verdict()
        except Exception as e:
            if server.process.poll() is None:
                raise
            server.log.seek(0)
            log = server.log.read().decode(errors="replace").splitlines()[-20:]
            sys.exit("\n".join([f"the server died (exit code {server.process.returncode}; {e}); its last lines:", *log]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="catalogue name or path of a GGUF file")
    parser.add_argument("--minutes", type=float, default=60, help="how long [%(default)s]")
    parser.add_argument("--rate", type=float, default=1.5, help="requests per second [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is drawn [%(default)s]")
    parser.add_argument("--bantam", default="target/release/bantam", help="its program [%(default)s]")
    parser.add_argument("--bantam-args", type=shlex.split, default=[], metavar="ARGS",
                        help="further options of bantam serve, as in --bantam-args='--kv-memory 256'")
    parser.add_argument("--json", metavar="FILE", help="where to write all figures")
    parser.add_argument("--svg", metavar="FILE", help="where to write a picture of the run")
    args = parser.parse_args()
    if not pathlib.Path("/proc/self/status").exists():
        sys.exit("this needs Linux: it reads /proc")
    if args.minutes <= 0 or args.rate <= 0:
        parser.error("--minutes and --rate must be above 0")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Also where a shell started it in the background.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    gguf = gguf_path(args.bantam, args.model)
    try:
        soak, summary, rows = soaked(args, gguf, tokenise(args, gguf, TEXT))
    except (KeyboardInterrupt, Unavailable) as e:
        sys.exit(str(e) or "ended")
    print(words(summary))
    if summary["others"] > DISTURBED:
        print(f"Other programs used {summary['others']:.0%} of a CPU meanwhile; what is said of speed is worth little.")
    print_table(rows)
    for error, n in collections.Counter(soak.errors()).most_common(10):
        print(f"{n} x {error}")
    holds = all(row[3] is not False for row in rows)
    if args.json:
        checks = [dict(zip(("check", "figure", "at_most", "holds"), row)) for row in rows]
        results = [r[:-1] for r in sorted(soak.results, key=lambda r: r.start)]  # Without texts.
        figures = {**summary, "holds": holds, "checks": checks, "errors": soak.errors(), "samples": soak.samples}
        figures |= {"result_fields": Result._fields[:-1], "results": results}
        pathlib.Path(args.json).write_text(json.dumps(figures) + "\n", encoding="utf-8")
    if args.svg:
        pathlib.Path(args.svg).write_text("\n".join(svg(soak, summary)) + "\n", encoding="utf-8")
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
