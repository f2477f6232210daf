#!/usr/bin/env python3
"""What does the gateway add, and how much does it carry, beside LiteLLM's proxy?

    cargo build --release && cargo build --release -p bantam-providers --example load
    pip install 'litellm[proxy]'        (in a virtual environment; give its program with --litellm)
    python3 bench/gateway.py --litellm VENV/bin/litellm

Everything runs on this machine over loopback: the upstream is `bantam mock`, the load comes from the example `load`, and both cost processor time
that the gateways would have alone. Three works, for every way in turn (the mock itself, `bantam serve` before it, LiteLLM before it):

latency  requests at a constant rate; times count from when a request should have started, so a stall is not hidden; added is the difference
         to the mock itself in the same round
rate     as many requests as so many connections get answered; a rate with any failed request does not count
stream   streams at a constant rate whose tokens are the time of their sending: from there to the reader, per chunk

Medians of all rounds. Nothing else should run meanwhile. bantam serve gets --config FILE, in which MOCK stands for the mock's address and STREAM for
its model whose streams are measured; the default is at the top of this file.
"""

import argparse
import contextlib
import json
import os
import pathlib
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

CONFIG = """\
[[providers]]
name = "mock"
preset = "openai-compatible"
base_url = "MOCK/v1"

[[routes]]
name = "mock"
targets = [{ provider = "mock", model = "mock" }]

[[routes]]
name = "mock-stream"
targets = [{ provider = "mock", model = "STREAM" }]
"""

LITELLM = """\
model_list:
  - model_name: mock
    litellm_params:
      model: openai/mock
      api_base: MOCK/v1
      api_key: sk-mock
  - model_name: mock-stream
    litellm_params:
      model: openai/STREAM
      api_base: MOCK/v1
      api_key: sk-mock
litellm_settings:
  num_retries: 0
  telemetry: false
"""

# LiteLLM does not start without a key to ask its clients for.
LITELLM_KEY = "sk-" + secrets.token_hex(16)

START_TIMEOUT = 180


class Server:
    """A server that runs while the context lasts. `url` is where it is."""

    def __init__(self, command, ready=None, port=None):
        self.command, self.ready, self.port = [str(part) for part in command], ready, port

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        out = subprocess.PIPE if self.port is None else self.log
        # LiteLLM would fetch its list of prices from the network.
        env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": LITELLM_KEY}
        self.process = subprocess.Popen(self.command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=self.log)
        try:
            if self.port is None:
                line = self.process.stdout.readline().decode().split()
                if not line:
                    self.fail()
                self.url = line[-1]
            else:
                self.url = f"http://127.0.0.1:{self.port}"
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self):
        end = time.monotonic() + START_TIMEOUT
        while self.ready:
            with contextlib.suppress(OSError, urllib.error.URLError):
                if urllib.request.urlopen(self.url + self.ready, timeout=5).status == 200:
                    return
            if time.monotonic() > end or self.process.poll() is not None:
                self.fail()
            time.sleep(0.2)

    def fail(self):
        self.log.seek(0)
        sys.exit(f"{' '.join(self.command)} did not get ready: {self.log.read().decode(errors='replace')[-2000:]}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def rss(self):
        """Bytes of memory of the server and its children."""
        pids, total = [self.process.pid], 0
        while pids:
            pid = pids.pop()
            with contextlib.suppress(OSError):
                pids += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())
                total += int(pathlib.Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return total


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.streaming = f"mock+stamp,ttft={args.ttft},token={args.token},tokens={args.tokens}"

    def file(self, name, text, mock):
        path = self.folder / name
        path.write_text(text.replace("MOCK", mock).replace("STREAM", self.streaming), encoding="utf-8")
        return path

    def mock(self):
        return Server([self.args.bantam, "mock", "--port", "0", "--quiet"], ready="/health")

    def bantam(self, mock):
        text = self.args.config.read_text(encoding="utf-8") if self.args.config else CONFIG
        config = self.file("bantam.toml", text, mock)
        return Server([self.args.bantam, "serve", "--config", config, "--port", "0", "--quiet", "--data-dir", self.folder / "data"], ready="/readyz")

    def litellm(self, mock):
        port = free_port()
        config = self.file("litellm.yaml", LITELLM, mock)
        command = [self.args.litellm, "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", self.args.workers]
        return Server(command, ready="/health/liveliness", port=port)

    def load(self, url, **options):
        command = [self.args.load, "--url", url + "/v1/chat/completions", "--warmup", self.args.warmup]
        for header in self.args.header or [f"authorization: Bearer {LITELLM_KEY}"]:
            command += ["--header", header]
        for name, value in options.items():
            command += [f"--{name}"] + ([] if value is True else [value])
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"load failed against {url}")
        figures = json.loads(done.stdout)
        print(json.dumps({"url": url, **options, **figures}), file=sys.stderr, flush=True)
        return figures

    def latency(self, url, _way, rate):
        figures = self.load(url, rate=rate, connections=self.args.connections, seconds=self.args.seconds)
        times = figures["latency_ms"] or dict.fromkeys(("p50", "p95", "p99"), float("nan"))
        return {"failed": figures["failed"], **{p: times[p] for p in ("p50", "p95", "p99")}}

    def rate(self, url, _way):
        runs = [self.load(url, connections=n, seconds=self.args.seconds) for n in self.args.closed]
        best = max((run["ok_per_s"] for run in runs if not run["failed"]), default=0)
        return {"per_s": best, "failed": min(run["failed"] for run in runs)}

    def stream(self, url, way):
        model = self.streaming if way == "mock" else "mock-stream"
        figures = self.load(url, rate=self.args.streams, connections=256, seconds=self.args.seconds, model=model, stream=True)
        chunks = figures["chunk_ms"] or {"p50": float("nan"), "p99": float("nan")}
        return {"failed": figures["failed"], "p50": chunks["p50"], "p99": chunks["p99"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bantam", default="target/release/bantam")
    parser.add_argument("--load", default="target/release/examples/load")
    parser.add_argument("--litellm", help="LiteLLM's program; left out if not given")
    parser.add_argument("--workers", type=int, default=1, help="processes of LiteLLM [%(default)s]")
    parser.add_argument("--config", type=pathlib.Path, help="bantam.toml, in which MOCK is the mock's address")
    parser.add_argument("--header", action="append", default=[], help="of every request, as for a virtual key")
    parser.add_argument("--ways", nargs="+", choices=("mock", "bantam", "litellm"), default=None)
    parser.add_argument("--works", nargs="+", choices=("latency", "rate", "stream"), default=("latency", "rate", "stream"))
    parser.add_argument("--rates", type=float, nargs="+", default=[1000, 50], help="requests per second of the first work")
    parser.add_argument("--litellm-most", type=float, default=100, help="LiteLLM is left out of higher rates, which it does not bear [%(default)s]")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--closed", type=int, nargs="+", default=[16, 64], help="connections of the second work")
    parser.add_argument("--streams", type=float, default=20, help="streams begun per second [%(default)s]")
    parser.add_argument("--ttft", default="20")
    parser.add_argument("--token", default="10")
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warmup", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ways = args.ways or ["mock", "bantam"] + (["litellm"] if args.litellm else [])
    todo = []
    if "latency" in args.works:
        for rate in args.rates:
            bearing = [way for way in ways if way != "litellm" or rate <= args.litellm_most]
            todo.append((f"{rate:g} requests/s", lambda bench, url, way, rate=rate: bench.latency(url, way, rate), bearing))
    todo += [(work, getattr(Bench, work), ways) for work in ("rate", "stream") if work in args.works]
    runs = {name: {way: [] for way in of_ways} for name, _, of_ways in todo}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, pathlib.Path(folder))
        with bench.mock() as mock, contextlib.ExitStack() as stack:
            servers = {way: stack.enter_context(getattr(bench, way)(mock.url)) for way in ways if way != "mock"}
            urls = {"mock": mock.url, **{way: server.url for way, server in servers.items()}}
            for url in urls.values():
                bench.load(url, connections=4, seconds=args.seconds / 2)  # Python loads much of itself at the first requests.
            for _ in range(args.rounds):
                for name, work, of_ways in todo:
                    for way in of_ways:
                        runs[name][way].append(work(bench, urls[way], way))
            memory = {way: server.rss() for way, server in servers.items()}
    report(args, ways, runs, memory)


def report(args, ways, runs, memory):
    medians = {
        work: {way: {key: statistics.median(run[key] for run in of_way) for key in of_way[0]} for way, of_way in of_work.items()}
        for work, of_work in runs.items()
    }
    if args.json:
        print(json.dumps({"medians": medians, "runs": runs, "memory_bytes": memory}))
        return
    print("| work | " + " | ".join(ways) + " |\n|---|" + "---|" * len(ways))

    def row(name, cells):
        print(f"| {name} | " + " | ".join(cells.get(way, "-") for way in ways) + " |")

    for work, of_way in medians.items():
        row(f"{work}: failed", {way: f"{figures['failed']:.0f}" for way, figures in of_way.items()})
        if work == "rate":
            row("highest rate without a failure, requests/s", {way: f"{figures['per_s']:.0f}" for way, figures in of_way.items()})
            continue
        for p in (key for key in of_way[ways[0]] if key != "failed"):
            direct = of_way["mock"][p] if "mock" in of_way else float("nan")
            added = {way: "" if way == "mock" else f" (+{figures[p] - direct:.2f})" for way, figures in of_way.items()}
            what = "per chunk" if work == "stream" else "latency"
            row(f"{work}: {what} {p}, ms (added)", {way: f"{figures[p]:.2f}{added[way]}" for way, figures in of_way.items()})
    if memory:
        row("memory, MiB", {way: f"{size / 2**20:.0f}" for way, size in memory.items()})


if __name__ == "__main__":
    main()
