"""Talks to a running Bantam with the official OpenAI client, as an application would.

usage: python openai_client.py BASE_URL MODEL ENCODER          (BASE_URL such as http://127.0.0.1:8080/v1)

Every check runs; the program says which failed and then exits with 1.
"""

import asyncio
import json
import math
import re
import sys
import traceback
import typing

import openai
import pydantic

if len(sys.argv) != 4:
    sys.exit(__doc__)
BASE_URL, MODEL, ENCODER = sys.argv[1:]

client = openai.OpenAI(base_url=BASE_URL, api_key="unused", timeout=120, max_retries=0)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def user(text):
    return [{"role": "user", "content": text}]


def chat(**options):
    options = {"model": MODEL, "messages": user("What is the capital of France?"), "temperature": 0, "max_tokens": 24} | options
    return client.chat.completions.create(**options)


def complete(**options):
    options = {"model": MODEL, "prompt": "The capital of France is", "temperature": 0, "max_tokens": 8} | options
    return client.completions.create(**options)


def equal(got, expected, what):
    assert got == expected, f"{what}: got {got!r}, expected {expected!r}"


def raises(kind, call, **fields):
    try:
        call()
    except openai.APIStatusError as error:
        assert type(error) is kind, f"got {type(error).__name__} ({error}), expected {kind.__name__}"
        for name, value in fields.items():
            equal(getattr(error, name), value, f"{kind.__name__}.{name}")
        assert error.request_id, "an error has a request id"
        return error
    raise AssertionError(f"nothing was raised, expected {kind.__name__}")


@check
def models_are_listed_and_found():
    names = [model.id for model in client.models.list()]
    assert MODEL in names, f"{MODEL} is not among {names}"
    model = client.models.retrieve(MODEL)
    equal((model.id, model.object), (MODEL, "model"), "retrieved model")
    raises(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"), code="model_not_found", param="model")


@check
def chat_answers():
    answer = chat()
    choice = answer.choices[0]
    equal((answer.object, answer.model, len(answer.choices)), ("chat.completion", MODEL, 1), "answer")
    equal(choice.message.role, "assistant", "role")
    assert choice.message.content, "an empty answer"
    assert choice.finish_reason in ("stop", "length"), choice.finish_reason
    assert answer.system_fingerprint, "no fingerprint"
    usage = answer.usage
    assert usage.prompt_tokens > 5 and 0 < usage.completion_tokens <= 24, usage
    equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens, "total tokens")
    assert answer._request_id, "no request id"


@check
def a_repeated_prompt_comes_from_the_cache():
    long = "Count the words of this text. " + "one two three four five six seven eight nine ten " * 20
    chat(messages=user(long), max_tokens=1)
    usage = chat(messages=user(long), max_tokens=1).usage
    assert usage.prompt_tokens_details.cached_tokens > usage.prompt_tokens // 2, usage


@check
def a_stream_is_the_same_answer():
    whole = chat()
    text, usage, finish = "", None, None
    for chunk in chat(stream=True, stream_options={"include_usage": True}):
        equal(chunk.object, "chat.completion.chunk", "object")
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        else:
            usage = chunk.usage
    equal(text, whole.choices[0].message.content, "streamed text")
    equal(finish, whole.choices[0].finish_reason, "finish reason")
    equal(usage.completion_tokens, whole.usage.completion_tokens, "streamed usage")


@check
def the_stream_helper_works():
    # The helper wants an answer that ended by itself.
    options = {"model": MODEL, "messages": user("Say hello."), "temperature": 0, "stop": [" ", "\n"]}
    with client.chat.completions.stream(**options) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    equal(deltas, final.choices[0].message.content, "helper's text")


@check
def leaving_a_stream_early_is_harmless():
    for _ in range(3):
        stream = chat(stream=True, max_tokens=500, messages=user("Tell me a long story."))
        next(iter(stream))
        stream.close()
    chat(max_tokens=1)


@check
def completions_answer():
    answer = complete()
    equal(answer.object, "text_completion", "object")
    assert "Paris" in answer.choices[0].text, f"no Paris in {answer.choices[0].text!r}"
    streamed = "".join(chunk.choices[0].text for chunk in complete(stream=True) if chunk.choices)
    equal(streamed, answer.choices[0].text, "streamed text")
    echoed = complete(echo=True).choices[0].text
    equal(echoed, "The capital of France is" + answer.choices[0].text, "echoed text")


@check
def many_prompts_are_answered_in_order():
    prompts = ["The capital of France is", "One, two, three,"]
    together = complete(prompt=prompts)
    equal([choice.index for choice in together.choices], [0, 1], "indices")
    for choice, prompt in zip(together.choices, prompts):
        equal(choice.text, complete(prompt=prompt).choices[0].text, f"answer to {prompt!r}")


@check
def n_answers_and_seeds():
    options = {"n": 3, "temperature": 1, "seed": 42, "messages": user("Write a sentence about the sea.")}
    first = [choice.message.content for choice in chat(**options).choices]
    equal(len(set(first)), 3, "different answers")
    equal([choice.message.content for choice in chat(**options).choices], first, "the same seed again")
    other = [choice.message.content for choice in chat(**(options | {"seed": 43})).choices]
    assert other != first, "another seed gave the same answers"
    streamed = ["", "", ""]
    for chunk in chat(stream=True, **options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    equal(streamed, first, "streamed answers")


@check
def stop_strings():
    text = complete(prompt="1, 2, 3, 4, 5,", max_tokens=24).choices[0].text
    word = text.strip().split()[2]
    stopped = complete(prompt="1, 2, 3, 4, 5,", max_tokens=24, stop=[word, "never to be seen"]).choices[0]
    equal(stopped.text, text[: text.index(word)], "text before the stop string")
    equal(stopped.finish_reason, "stop", "finish reason")


@check
def chat_logprobs():
    choice = chat(logprobs=True, top_logprobs=5, max_tokens=6).choices[0]
    entries = choice.logprobs.content
    equal(b"".join(bytes(entry.bytes) for entry in entries).decode(), choice.message.content, "bytes of the tokens")
    for entry in entries:
        equal(len(entry.top_logprobs), 5, "alternatives")
        equal(entry.top_logprobs[0].token, entry.token, "greedy takes the likeliest token")
        total = sum(math.exp(top.logprob) for top in entry.top_logprobs)
        assert 0 < total <= 1.0001, f"the probabilities add up to {total}"


@check
def completion_logprobs():
    choice = complete(logprobs=3).choices[0]
    lists = choice.logprobs
    equal("".join(lists.tokens), choice.text, "text of the tokens")
    equal(lists.text_offset[0], 0, "first offset")
    for token, logprob, top in zip(lists.tokens, lists.token_logprobs, lists.top_logprobs):
        equal(len(top), 3, "alternatives")
        equal(top[token], logprob, "chosen token among the alternatives")


@check
def bias_and_length():
    equal(chat(max_completion_tokens=3, max_tokens=openai.NOT_GIVEN).usage.completion_tokens, 3, "max_completion_tokens")
    equal(chat(max_tokens=1).choices[0].finish_reason, "length", "finish reason")
    plain = complete(max_tokens=4).choices[0].text
    answer = client.completions.with_raw_response.create(
        model=MODEL, prompt="The capital of France is", temperature=0, max_tokens=4, extra_body={"top_k": 1, "min_p": 0.1}
    )
    equal(answer.parse().choices[0].text, plain, "extensions")
    equal(answer.headers["x-bantam-model"], MODEL, "x-bantam-model")


CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "inhabitants": {"type": "integer", "minimum": 1000, "maximum": 99_999_999},
        "river": {"anyOf": [{"type": "string", "maxLength": 12}, {"type": "null"}]},
    },
    "required": ["city", "inhabitants", "river"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


@check
def json_schemas_hold():
    form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}}
    options = {"response_format": form, "max_tokens": 120, "messages": user("Describe Paris.")}
    choice = chat(**options).choices[0]
    value = json.loads(choice.message.content)
    equal(list(value), ["city", "inhabitants", "river"], "properties")
    assert len(value["city"]) <= 20 and 1000 <= value["inhabitants"] <= 99_999_999, value
    equal(choice.finish_reason, "stop", "finish reason")
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chat(stream=True, **options))
    equal(streamed, choice.message.content, "streamed")
    for seed in range(5):
        answer = chat(**(options | {"temperature": 1, "seed": seed}))
        assert answer.choices[0].finish_reason != "stop" or json.loads(answer.choices[0].message.content)
    cut = chat(**(options | {"max_tokens": 6})).choices[0]
    equal(cut.finish_reason, "length", "finish reason of a cut answer")
    anything = chat(response_format={"type": "json_object"}, max_tokens=200, messages=user("Describe Paris as JSON."))
    assert anything.choices[0].message.content.startswith("{"), anything
    if anything.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(anything.choices[0].message.content), dict)


@check
def the_parse_helper_works():
    class City(pydantic.BaseModel):
        name: typing.Literal["Paris", "Rome"]
        size: typing.Literal["small", "large"]

    parsed = client.chat.completions.parse(
        model=MODEL, messages=user("Which city is the capital of France, and is it large?"), response_format=City, max_tokens=60
    )
    assert parsed.choices[0].message.parsed.name in ("Paris", "Rome"), parsed


@check
def structured_outputs():
    def asked(**wanted):
        return chat(extra_body={"structured_outputs": wanted}, max_tokens=40).choices[0].message.content

    assert asked(choice=["Paris", "Rome"]) in ("Paris", "Rome")
    assert re.fullmatch(r"[A-Z][a-z]+ [0-9]{4}", asked(regex="[A-Z][a-z]{1,9} [0-9]{4}"))
    assert asked(grammar='start: "yes" | "no"') in ("yes", "no")
    text = complete(extra_body={"structured_outputs": {"choice": [" Paris", " Rome"]}}).choices[0].text
    equal(text, " Paris", "completion")


@check
def tools_are_called():
    asked = {"tools": [WEATHER], "max_tokens": 80, "messages": user("How is the weather in Rome?")}
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer = chat(tool_choice=choice, **asked).choices[0]
        equal((answer.finish_reason, answer.message.content), ("tool_calls", None), "a call")
        (call,) = answer.message.tool_calls
        equal((call.type, call.function.name), ("function", "get_weather"), "the call")
        arguments = json.loads(call.function.arguments)
        equal(set(arguments), {"city", "unit"}, "arguments")
        text, names = "", []
        for chunk in chat(stream=True, tool_choice=choice, **asked):
            for delta in chunk.choices[0].delta.tool_calls or []:
                text += delta.function.arguments or ""
                names += [delta.function.name] if delta.function.name else []
        equal((names, text), (["get_weather"], call.function.arguments), "streamed call")
    # The result goes back, and the model answers in text.
    messages = asked["messages"] + [answer.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny, 25 degrees"}]
    final = chat(messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=30).choices[0]
    assert final.message.content and final.message.tool_calls is None, final
    free = chat(tools=[WEATHER], tool_choice="auto", max_tokens=60).choices[0]
    assert free.message.content or free.message.tool_calls, free
    if free.finish_reason == "tool_calls":
        json.loads(free.message.tool_calls[0].function.arguments)


@check
def embeddings():
    # The client asks for base64 by itself and decodes it.
    texts = ["Where is my card?", "My card has not arrived yet.", "How do I bake bread?"]
    reply = client.embeddings.create(model=ENCODER, input=texts)
    equal([entry.index for entry in reply.data], [0, 1, 2], "order")
    a, b, c = (entry.embedding for entry in reply.data)
    dot = lambda x, y: sum(p * q for p, q in zip(x, y))
    assert dot(a, b) > dot(a, c) + 0.3, "texts of one meaning are not near"
    floats = client.embeddings.create(model=ENCODER, input=texts[0], encoding_format="float").data[0].embedding
    assert max(abs(x - y) for x, y in zip(floats, a)) < 1e-6, "float and base64 differ"
    short = client.embeddings.create(model=ENCODER, input=texts[0], dimensions=64).data[0].embedding
    assert len(short) == 64 and abs(dot(short, short) - 1) < 1e-4, "dimensions"
    raises(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input="x"), code="wrong_model_kind")
    raises(openai.BadRequestError, lambda: client.embeddings.create(model=ENCODER, input="card " * 400), param="input")


@check
def errors_are_typed():
    raises(openai.NotFoundError, lambda: chat(model="gpt-4o"), code="model_not_found", param="model", status_code=404)
    bad = openai.BadRequestError
    raises(bad, lambda: chat(temperature=3), param="temperature", type="invalid_request_error")
    raises(bad, lambda: chat(messages=[]), param="messages")
    raises(bad, lambda: chat(messages=[{"role": "wizard", "content": "x"}]), param="messages[0].role")
    raises(bad, lambda: chat(n=0), param="n")
    raises(bad, lambda: chat(logit_bias={"x": 1}), param="logit_bias.x")
    raises(bad, lambda: chat(max_tokens=-1), param="max_tokens")
    raises(bad, lambda: complete(suffix="x"), param="suffix", code="unsupported_parameter")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"not": {}}}}}}]
    raises(bad, lambda: chat(tools=tools), param="tools[0].function.parameters.properties.x")
    raises(bad, lambda: chat(response_format={"type": "xml"}), param="response_format.type")
    schema = {"$ref": "https://example.com/schema.json"}
    named = {"type": "json_schema", "json_schema": {"name": "far", "schema": schema}}
    raises(bad, lambda: chat(response_format=named), param="response_format.json_schema.schema")
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    raises(bad, lambda: chat(messages=[{"role": "user", "content": image}]), param="messages[0].content[0].type")
    long = "word " * 200_000
    raises(bad, lambda: chat(messages=user(long)), param="messages", code="context_length_exceeded")
    raises(bad, lambda: complete(prompt=long), param="prompt", code="context_length_exceeded")
    # Errors before a stream are statuses too.
    raises(bad, lambda: chat(stream=True, temperature=-1), param="temperature")
    error = raises(openai.APIStatusError, lambda: chat(messages=user("x" * 10_000_000)), status_code=413)
    equal(error.code, "request_too_large", "code")
    raises(openai.NotFoundError, lambda: client.images.generate(model=MODEL, prompt="x"), code="unknown_url")
    chat(max_tokens=1)


@check
def a_client_may_give_up():
    hasty = client.with_options(timeout=0.2)
    try:
        hasty.chat.completions.create(model=MODEL, messages=user("Tell me a very long story."), max_tokens=2000, seed=1)
    except openai.APITimeoutError:
        pass
    else:
        raise AssertionError("2000 tokens in a fifth of a second")
    chat(max_tokens=1)


@check
def many_at_one_time():
    async def run():
        async with openai.AsyncOpenAI(base_url=BASE_URL, api_key="unused", timeout=300, max_retries=0) as many:
            async def one(number):
                text = ""
                stream = await many.chat.completions.create(
                    model=MODEL, messages=user(f"Tell me about the number {number}."), max_tokens=16, temperature=0, stream=True
                )
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or ""
                return text
            return await asyncio.gather(*(one(number) for number in range(16)))

    together = asyncio.run(run())
    assert all(together), f"an answer is empty: {together}"
    alone = chat(messages=user("Tell me about the number 3."), max_tokens=16).choices[0].message.content
    equal(together[3], alone, "the same request among 15 others")


failed = []
for run in CHECKS:
    try:
        run()
        print(f"ok      {run.__name__}", flush=True)
    except Exception as error:  # every check is to be seen, whatever the one before did
        failed.append(run.__name__)
        print(f"FAILED  {run.__name__}: {type(error).__name__}: {error}", flush=True)
        traceback.print_exc()
if failed:
    sys.exit(f"{len(failed)} of {len(CHECKS)} checks failed: {', '.join(failed)}")
print(f"{len(CHECKS)} checks passed with openai {openai.__version__}")
