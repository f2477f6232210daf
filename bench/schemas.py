"""Constrained answers over jsonschemabench: masks against known examples, then answers against a validator.

usage: python bench/schemas.py DATA_DIR MODEL.gguf [--count 200] [--max-tokens 512] [--streams 8] [--target DIR]

DATA_DIR holds maskbench_sample.jsonl and schemas_*.jsonl, one object with `id` and `schema` a line. The program is built
first (`cargo build --release -p bantam-engine --example schemas`). Answers are checked by the Python package `jsonschema`,
which shares no code with what made them; it is installed into a virtual environment of its own below the target folder.
"""

import argparse
import glob
import hashlib
import json
import pathlib
import subprocess
import sys
import venv

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("model")
parser.add_argument("--count", type=int, default=200, help="schemas to ask the model for an instance of")
parser.add_argument("--max-tokens", type=int, default=512)
parser.add_argument("--streams", type=int, default=8, help="answers computed together")
parser.add_argument("--target", type=pathlib.Path, default=pathlib.Path("target"), help="cargo's target folder")
parser.add_argument("--check", type=pathlib.Path, help=argparse.SUPPRESS)


def sample(data, count):
    """The schemas whose ids have the smallest digests: the same ones everywhere, in no order of size or source."""
    lines = [line for path in sorted(glob.glob(str(data / "schemas_*.jsonl"))) for line in open(path)]
    lines.sort(key=lambda line: hashlib.sha256(json.loads(line)["id"].encode()).digest())
    return lines[:count]


def check(schemas, answers):
    """Validates every finished answer."""
    import jsonschema

    schemas = {entry["id"]: entry["schema"] for entry in map(json.loads, open(schemas))}
    refused, cut, failed, valid, invalid = 0, 0, [], 0, []
    for answer in map(json.loads, open(answers)):
        if "refused" in answer:
            refused += 1
        elif "error" in answer:
            failed.append(answer)
        elif answer["cut"]:
            cut += 1
        else:
            schema = schemas[answer["id"]]
            kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
            try:
                kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(answer["text"]))
                valid += 1
            except Exception as error:
                invalid.append((answer, str(error).splitlines()[0]))
    print(f"{len(schemas)} schemas: {refused} refused, {len(failed)} failed, {cut} answers cut, {valid} valid, {len(invalid)} invalid")
    for answer in failed:
        print(f"  failed {answer['id']}: {answer['error']}")
    for answer, error in invalid:
        print(f"  invalid {answer['id']}: {error}: {answer['text'][:300]}")
    sys.exit(1 if invalid else 0)


arguments = parser.parse_args()
if arguments.check:
    check(arguments.data, arguments.check)

program = arguments.target / "release/examples/schemas"
subprocess.run([program, "masks", arguments.model, arguments.data / "maskbench_sample.jsonl"], check=True)

environment = arguments.target / "schemas-venv"
python = environment / "bin/python"
if not python.exists():
    venv.create(environment, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "jsonschema[format-nongpl]==4.25.1"], check=True)
chosen, answers = arguments.target / "schemas.jsonl", arguments.target / "schemas-answers.jsonl"
chosen.write_text("".join(sample(arguments.data, arguments.count)))
with open(answers, "w") as out:
    subprocess.run([program, "answers", arguments.model, chosen, str(arguments.max_tokens), str(arguments.streams)], stdout=out, check=True)
sys.exit(subprocess.run([python, __file__, chosen, arguments.model, "--check", answers]).returncode)
