#!/usr/bin/env python3
"""Bantam's recognisers and Presidio's on the same labelled texts, judged by the same program.

    python3 bench/pii.py $BANTAM_DATA/presidio_research/synth_dataset_v2.jsonl [--bantam target/release/bantam]

Presidio's pattern recognisers are run as its analyzer runs them (context words, its own way with overlaps), over a blank English pipeline of spaCy:
no model of the language is loaded, so names and places are not looked for, and words have no lemmas. `bantam pii eval --predictions` judges what
they find; findings below `--threshold` are left out on both sides. `presidio-analyzer` is installed into a virtual environment of its own below --target.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import venv

PRESIDIO = "presidio-analyzer==2.2.360"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=pathlib.Path)
parser.add_argument("--bantam", default="target/release/bantam")
parser.add_argument("--threshold", type=float, default=0.4)
parser.add_argument("--target", type=pathlib.Path, default=pathlib.Path("target"), help="where the virtual environment goes")
parser.add_argument("--python", type=pathlib.Path, help="a Python that has presidio-analyzer already")
parser.add_argument("--write", type=pathlib.Path, help=argparse.SUPPRESS)


def analyzer():
    """Presidio's engine with the pattern recognisers that it loads for English by default."""
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine
    import spacy
    import tldextract

    # The list of domains that the package brings: nothing is fetched.
    tldextract.extract = tldextract.TLDExtract(suffix_list_urls=())

    class Blank(NlpEngine):
        """Tokens and nothing else."""

        def __init__(self):
            self.nlp = spacy.blank("en")

        def load(self):
            pass

        def is_loaded(self):
            return True

        def process_text(self, text, language):
            doc = self.nlp(text)
            return NlpArtifacts([], doc, [t.idx for t in doc], [t.lower_ for t in doc], self, language)

        def process_batch(self, texts, language, **_):
            return ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, word, language):
            return word.lower() in self.nlp.Defaults.stop_words

        def is_punct(self, word, language):
            return bool(word) and all(not c.isalnum() for c in word)

        def get_supported_entities(self):
            return []

        def get_supported_languages(self):
            return ["en"]

    engine = Blank()
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    for name in ("SpacyRecognizer", "StanzaRecognizer", "TransformersRecognizer"):
        registry.remove_recognizer(name)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def write(data, threshold, out):
    engine = analyzer()
    texts = [json.loads(line)["text"] for line in open(data, encoding="utf-8")]
    engine.analyze("warm up 1", "en")
    start = time.monotonic()
    found = [engine.analyze(text, "en", score_threshold=threshold) for text in texts]
    seconds = time.monotonic() - start
    with open(out, "w", encoding="utf-8") as file:
        for results in found:
            keep = [{"start": r.start, "end": r.end, "score": r.score, "entity_type": r.entity_type} for r in results]
            file.write(json.dumps(keep) + "\n")
    names = sorted({r.name for r in engine.registry.recognizers})
    print(f"Presidio's recognisers: {', '.join(names)}")
    print(f"{sum(len(t.encode()) for t in texts) / 1e6 / seconds:.3f} MB/s on one core")


def main():
    args = parser.parse_args()
    if args.write:
        return write(args.data, args.threshold, args.write)
    python = args.python
    if not python:
        home = args.target / "presidio"
        python = home / "bin" / "python"
        if not python.exists():
            venv.create(home, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", PRESIDIO], check=True)
    judge = [args.bantam, "pii", "eval", args.data, "--threshold", str(args.threshold)]
    with tempfile.TemporaryDirectory() as folder:
        predictions = pathlib.Path(folder) / "presidio.jsonl"
        print("== Bantam", flush=True)
        subprocess.run(judge, check=True)
        print("\n== Presidio", flush=True)
        subprocess.run([python, __file__, args.data, "--threshold", str(args.threshold), "--write", predictions], check=True)
        subprocess.run([*judge, "--predictions", predictions], check=True)


if __name__ == "__main__":
    sys.exit(main())
