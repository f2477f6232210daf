"""One round of mistral.rs, for speed.py, in a process of its own: mistral.py GGUF PROMPT,PROMPT.. ANSWER

Prints {work: tokens per second} as one line of JSON. Prompts are prose, cut to a number of tokens; the times are those that
mistral.rs reports with each answer.
"""

import json
import pathlib
import sys

from common import reference_text
from mistralrs import CompletionRequest, Runner, Which


def main():
    gguf, prompts, answer = pathlib.Path(sys.argv[1]).resolve(), [int(n) for n in sys.argv[2].split(",")], int(sys.argv[3])
    which = Which.GGUF(quantized_model_id=str(gguf.parent), quantized_filename=gguf.name)
    runner = Runner(which=which, max_seqs=1, prefix_cache_n=0, token_source="none")
    ids = runner.tokenize_text(reference_text(20_000), False, None)

    def usage(prompt_tokens, max_tokens):
        prompt = runner.detokenize_text(ids[:prompt_tokens], False)
        request = CompletionRequest(prompt=prompt, model="default", max_tokens=max_tokens, temperature=0.0, top_k=1, ignore_eos=True)
        return runner.send_completion_request(request).usage

    usage(16, 2)
    rates = {}
    for n in prompts:
        used = usage(n, 1)
        rates[f"prefill {n}"] = used.prompt_tokens / used.total_prompt_time_sec
    used = usage(16, answer)
    rates["decode"] = used.completion_tokens / used.total_completion_time_sec
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
