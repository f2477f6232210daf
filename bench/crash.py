#!/usr/bin/env python3
"""Is what clients received on record when the server is killed at any moment?

    cargo build --release
    python3 bench/crash.py

`bantam serve` stands before `bantam mock`, all on this machine. Clients send chat requests, half of them streamed, without a pause; every fourth has a key
whose budget runs out on the way. At random moments the server gets SIGKILL and is started again on the same ledger.
At the end must hold, or the exit code is 1:

recorded  every answer that a client received whole (a stream: up to its [DONE]) has its entry, once, under the id that the client was told,
          with the status and the tokens that it was told
sound     `bantam audit verify` finds nothing wrong
budget    what the key's clients received costs no more than its budget, and neither does what the ledger charged for it

Only the standard library is used.
"""

import argparse
import contextlib
import http.client
import json
import pathlib
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid

# Nano-dollars a token, of prompts and of answers; and tokens of an answer.
INPUT, OUTPUT, TOKENS = 1_000, 4_000, 24
CONFIG = """\
[keys]
required = true
[[providers]]
name = "mock"
preset = "openai-compatible"
base_url = "MOCK/v1"
[[routes]]
name = "mock"
targets = [{{ provider = "mock", model = "mock" }}]
[[prices.models]]
name = "mock"
input_per_million = {}
output_per_million = {}
"""
PROMPT = "Which way is the harbour?"
PATIENCE = 60


class Process:
    """A command that says where it listens."""

    def __init__(self, *command):
        began = time.monotonic()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)
        words = self.process.stdout.readline().decode().split()
        if not words:
            self.log.seek(0)
            sys.exit(f"{' '.join(map(str, command))} did not start:\n{self.log.read().decode()}")
        self.url, self.took = words[-1], time.monotonic() - began

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.log.close()


class Clients:
    """Threads that ask, and what they were told."""

    def __init__(self, keys):
        self.address, self.stopping, self.lock = None, threading.Event(), threading.Lock()
        self.received, self.refused, self.cut, self.faults = [], 0, 0, []
        self.threads = [threading.Thread(target=self.run, args=(name, secret, seed)) for seed, (name, secret) in enumerate(keys)]

    def run(self, name, secret, seed):
        draw = random.Random(seed)
        connection, address = None, None
        while not self.stopping.is_set():
            if address != self.address:
                address, connection = self.address, None
            if address is None:
                time.sleep(0.005)
                continue
            connection = connection or http.client.HTTPConnection(address, timeout=PATIENCE)
            try:
                status = self.ask(connection, name, secret, draw.random() < 0.5)
            except ConnectionRefusedError:
                # It is not up yet.
                connection = None
                time.sleep(0.01)
                continue
            except (OSError, http.client.HTTPException):
                connection = None
                with self.lock:
                    self.cut += 1
                time.sleep(0.01)
                continue
            if status != 200:
                # Asking again at once would only fill the ledger with refusals.
                time.sleep(0.05)

    def ask(self, connection, name, secret, stream):
        body = {"model": "mock", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": TOKENS, "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            error = json.loads(answer.read())["error"]
            with self.lock:
                if (answer.status, error["code"]) == (429, "budget_exceeded"):
                    self.refused += 1
                else:
                    self.faults.append(f"{answer.status}: {error['message']}")
            return answer.status
        usage = self.streamed(answer) if stream else json.loads(answer.read())["usage"]
        tokens = (usage["prompt_tokens"], usage["completion_tokens"])
        with self.lock:
            self.received.append((uuid.UUID(answer.headers["x-bantam-id"]).bytes, name, stream, tokens))
        return answer.status

    def streamed(self, answer):
        usage = None
        while line := answer.readline():
            data = line.decode().removeprefix("data: ").strip()
            if data == "[DONE]":
                answer.read()
                return usage
            if data:
                usage = json.loads(data).get("usage") or usage
        raise http.client.IncompleteRead(b"")


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return json.load(response)


def cost(tokens):
    return tokens[0] * INPUT + tokens[1] * OUTPUT


def run(args, folder):
    """Kills, and says what clients were told and when they could ask again."""
    draw = random.Random(args.seed)
    ledger, config = folder / "ledger.db", folder / "bantam.toml"
    mock = Process(args.bantam, "--quiet", "mock", "--port", 0, "--behave", f"ttft=3~0.5,token=0.5~0.5,tokens={TOKENS - 4}")
    config.write_text(CONFIG.format(INPUT / 1000, OUTPUT / 1000).replace("MOCK", mock.url))
    serve = [args.bantam, "--quiet", "serve", "--config", config, "--ledger", ledger, "--port", 0]
    server = Process(*serve)
    rich = post(f"{server.url}/admin/keys", {"name": "rich"})
    poor = post(f"{server.url}/admin/keys", {"name": "poor", "limits": {"budgets": [{"period": "month", "amount": {"money": args.budget}}]}})
    keys = [("poor", poor["key"]) if i % 4 == 0 else ("rich", rich["key"]) for i in range(args.clients)]
    clients = Clients(keys)
    for thread in clients.threads:
        thread.start()
    starts = []
    try:
        for number in range(args.kills + 1):
            clients.address = server.url.removeprefix("http://")
            # Every second life is long enough for an answer, whatever else the machine does, and the last for the end of the budget.
            last = number == args.kills
            before = len(clients.received)
            wait(lambda: clients.refused if last else number % 2 == 0 or len(clients.received) > before)
            if last:
                break
            time.sleep(draw.uniform(0.02, 2 * args.seconds))
            server.end(signal.SIGKILL)
            server = Process(*serve)
            starts.append(server.took)
            progress(f"{number + 1} of {args.kills} kills, {len(clients.received)} answers")
    finally:
        clients.stopping.set()
        for thread in clients.threads:
            thread.join(PATIENCE)
        server.end(signal.SIGTERM)
        mock.end(signal.SIGTERM)
    return clients, starts, poor["id"]


def wait(condition):
    until = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < until:
        time.sleep(0.002)


def progress(text):
    if sys.stderr.isatty():
        print(f"\r{text}", end="", file=sys.stderr, flush=True)


def judge(args, folder, clients, poor):
    """What the ledger says of what clients were told."""
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as database:
        rows = database.execute("SELECT id, status, input, output, settled, cost, key_id FROM requests").fetchall()
        spent, reserved = database.execute("SELECT sum(cost), sum(reserved_cost) FROM spending WHERE scope = ? AND unit = 1", [poor]).fetchone()
    entries = {}
    for row in rows:
        entries.setdefault(row[0], []).append(row[1:])
    missing, wrong = [], []
    for name, _, _, tokens in clients.received:
        match entries.get(name, []):
            case []:
                missing.append(name)
            case [(200, *counted, _, _, _)] if tuple(counted) == tokens:
                pass
            case _:
                wrong.append(name)
    verified = subprocess.run([args.bantam, "audit", "verify", "--ledger", folder / "ledger.db"], capture_output=True, text=True)
    got = sum(cost(tokens) for _, name, _, tokens in clients.received if name == "poor")
    charged = sum(row[5] for row in rows if row[6] == poor)
    return {
        "entries": len(rows),
        "interrupted": sum(row[4] == "interrupted" for row in rows),
        "missing": len(missing),
        "wrong": len(wrong),
        "sound": verified.returncode == 0,
        "verify": verified.stdout + verified.stderr,
        "received_cost": got,
        "charged": charged,
        "spent": spent or 0,
        "reserved": reserved or 0,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bantam", type=pathlib.Path, default=pathlib.Path("target/release/bantam"), help="the program [%(default)s]")
    parser.add_argument("--kills", type=int, default=100, help="how often [%(default)s]")
    parser.add_argument("--clients", type=int, default=16, help="threads that ask; every fourth has the key with a budget [%(default)s]")
    parser.add_argument("--seconds", type=float, default=0.5, help="mean time from a start, or from its first answer, to a kill [%(default)s]")
    parser.add_argument("--budget", type=int, default=None, help="of the key, in nano-dollars [enough for about one answer a kill]")
    parser.add_argument("--seed", type=int, default=1, help="of the moments [%(default)s]")
    parser.add_argument("--keep", type=pathlib.Path, help="keep the ledger in this folder")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to this file, too")
    args = parser.parse_args()
    args.budget = args.budget or args.kills * cost((8, TOKENS))
    with contextlib.ExitStack() as stack:
        folder = args.keep or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "ledger.db").exists():
            sys.exit(f"--keep: {folder} has a ledger already")
        clients, starts, poor = run(args, folder)
        found = judge(args, folder, clients, poor)
    within = max(found["received_cost"], found["charged"], found["spent"] + found["reserved"]) <= args.budget
    whole = sum(not stream for _, _, stream, _ in clients.received)
    rows = [
        ("kills", args.kills),
        ("until it listens again, median / longest", f"{statistics.median(starts):.2f} s / {max(starts):.2f} s" if starts else "-"),
        ("whole answers received", whole),
        ("streams received up to [DONE]", len(clients.received) - whole),
        ("requests cut by a kill", clients.cut),
        ("entries", found["entries"]),
        ("  of these settled as interrupted", found["interrupted"]),
        ("received answers without an entry", found["missing"]),
        ("received answers with another or a second entry", found["wrong"]),
        ("chain, signatures and sums", "sound" if found["sound"] else "BROKEN"),
        ("requests refused over budget", clients.refused),
        ("budget", f"${args.budget / 1e9:.6f}"),
        ("  received for it", f"${found['received_cost'] / 1e9:.6f}"),
        ("  charged to it", f"${found['charged'] / 1e9:.6f}"),
        ("other refusals", len(clients.faults)),
    ]
    width = max(len(name) for name, _ in rows)
    print("\n".join(f"{name:{width}}  {value}" for name, value in rows))
    if args.json:
        args.json.write_text(json.dumps(dict(rows) | {"verify": found["verify"]}, indent=2) + "\n")
    faults = []
    if not clients.received or not clients.refused:
        faults.append("nothing was received, or the budget did not run out: the run is too short to tell anything")
    if found["missing"] or found["wrong"]:
        faults.append("an answer is not on record")
    if not found["sound"]:
        faults.append(f"the ledger is not sound: {found['verify']}")
    if not within:
        faults.append("the budget was overspent")
    faults.extend(sorted(set(clients.faults)))
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
