"""Talks to a running gateway with the official OpenAI and Anthropic clients, as applications would that changed only the base URL.

usage: python gateway_clients.py URL LOCAL ENCODER          (URL such as http://127.0.0.1:8080)

LOCAL and ENCODER run in the gateway itself. Its routes `openai` and `anthropic` lead to mock servers of that API, which know the answer to
`Say hello.`; so do the routes whose names begin with those and end with what goes wrong. Every request needs a key: they are made here.

Every check runs; the program says which failed and then exits with 1. What it prints as `entry ID STATUS` must stand in the ledger.
"""

import base64
import json
import struct
import sys
import traceback
import urllib.request

import anthropic
import openai
import pydantic

if len(sys.argv) != 4:
    sys.exit(__doc__)
URL, LOCAL, ENCODER = sys.argv[1:]
UPSTREAMS = ["openai", "anthropic"]
MODELS = [LOCAL, *UPSTREAMS]
HELLO = "Hello, world. This is no model."

CHECKS = []
ENTRIES = []


def check(function):
    CHECKS.append(function)
    return function


def equal(got, expected, what):
    assert got == expected, f"{what}: got {got!r}, expected {expected!r}"


def admin(path, body):
    request = urllib.request.Request(f"{URL}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as response:
        equal(response.status, 201, path)
        return json.load(response)


def key(name, **fields):
    return admin("/admin/keys", {"name": name, **fields})["key"]


def note(response):
    """Every answer of the gateway has its entry, under its own name. Whoever has no key is nobody: that is in the log alone."""
    if response.request.method == "POST" and response.status_code != 401:
        ENTRIES.append((response.headers["x-request-id"], response.status_code))
        if response.is_success:
            equal(response.headers["x-bantam-id"], response.headers["x-request-id"], "ids")


def openai_client(secret, **options):
    http = openai.DefaultHttpxClient(event_hooks={"response": [note]})
    return openai.OpenAI(base_url=f"{URL}/v1", api_key=secret, http_client=http, **{"timeout": 120, "max_retries": 0} | options)


def anthropic_client(secret, **options):
    http = anthropic.DefaultHttpxClient(event_hooks={"response": [note]})
    return anthropic.Anthropic(base_url=URL, api_key=secret, http_client=http, **{"timeout": 120, "max_retries": 0} | options)


APP = key("app")
oa, an = openai_client(APP), anthropic_client(APP)


def user(text="Say hello."):
    return [{"role": "user", "content": text}]


def chat(model, **options):
    return oa.chat.completions.create(**{"model": model, "messages": user(), "temperature": 0, "max_tokens": 24} | options)


# What their newest models do not take any more is no argument of Anthropic's client, yet part of the API.
GREEDY = {"extra_body": {"temperature": 0}}


def message(model, **options):
    return an.messages.create(**{"model": model, "messages": user(), "max_tokens": 24} | GREEDY | options)


def respond(model, **options):
    return oa.responses.create(**{"model": model, "input": "Say hello.", "temperature": 0, "max_output_tokens": 24} | options)


def said(model, text):
    """What a mock says is known; a model says something."""
    assert text, f"{model}: an empty answer"
    if model != LOCAL:
        equal(text, HELLO, model)


def raises(kind, call, **fields):
    try:
        call()
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        assert type(error) is kind, f"got {type(error).__name__} ({error}), expected {kind.__name__}"
        for name, value in fields.items():
            equal(getattr(error, name), value, f"{kind.__name__}.{name}")
        return error
    raise AssertionError(f"nothing was raised, expected {kind.__name__}")


@check
def chat_whole_and_streamed():
    for model in MODELS:
        whole = chat(model)
        said(model, whole.choices[0].message.content)
        assert whole.usage.prompt_tokens > 0 and 0 < whole.usage.completion_tokens <= 24, whole.usage
        text, finish, usage = "", None, None
        for chunk in chat(model, stream=True, stream_options={"include_usage": True}):
            if chunk.choices:
                text += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason or finish
            usage = chunk.usage or usage
        equal(text, whole.choices[0].message.content, f"{model}: streamed text")
        equal(finish, whole.choices[0].finish_reason, f"{model}: finish reason")
        equal((usage.prompt_tokens, usage.completion_tokens), (whole.usage.prompt_tokens, whole.usage.completion_tokens), f"{model}: usage")


@check
def messages_whole_and_streamed():
    for model in MODELS:
        whole = message(model)
        equal((whole.type, whole.role, len(whole.content)), ("message", "assistant", 1), f"{model}: shape")
        said(model, whole.content[0].text)
        assert whole.usage.input_tokens > 0 and 0 < whole.usage.output_tokens <= 24, whole.usage
        with an.messages.stream(model=model, messages=user(), max_tokens=24, **GREEDY) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        equal(text, whole.content[0].text, f"{model}: streamed text")
        equal(final.content[0].text, text, f"{model}: gathered text")
        equal(final.stop_reason, whole.stop_reason, f"{model}: stop reason")
        equal(final.usage.output_tokens, whole.usage.output_tokens, f"{model}: usage")


@check
def responses_whole_and_streamed():
    for model in MODELS:
        whole = respond(model)
        said(model, whole.output_text)
        assert whole.status in ("completed", "incomplete"), whole.status
        assert whole.usage.input_tokens > 0 and 0 < whole.usage.output_tokens <= 24, whole.usage
        text, last, numbers = "", None, []
        for event in respond(model, stream=True):
            numbers.append(event.sequence_number)
            text += event.delta if event.type == "response.output_text.delta" else ""
            last = event
        equal(text, whole.output_text, f"{model}: streamed text")
        equal(last.type, f"response.{whole.status}", f"{model}: last event")
        equal(last.response.output_text, text, f"{model}: gathered text")
        equal(last.response.usage.output_tokens, whole.usage.output_tokens, f"{model}: usage")
        equal(numbers, list(range(numbers[0], numbers[0] + len(numbers))), f"{model}: sequence numbers")


SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": False}
QUESTION = user("How is the weather in Paris?")
CHAT_TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": SCHEMA}}
MESSAGES_TOOL = {"name": "weather", "description": "The weather of a city", "input_schema": SCHEMA}
RESPONSES_TOOL = {"type": "function", "name": "weather", "description": "The weather of a city", "parameters": SCHEMA, "strict": True}


def arguments(model, text):
    got = json.loads(text) if isinstance(text, str) else text
    assert list(got) == ["city"] and isinstance(got["city"], str), f"{model}: arguments {got!r}"
    return got


@check
def chat_tools():
    forced = {"type": "function", "function": {"name": "weather"}}
    for model in MODELS:
        options = {"messages": QUESTION, "tools": [CHAT_TOOL], "tool_choice": forced, "max_tokens": 64}
        whole = chat(model, **options)
        call = whole.choices[0].message.tool_calls[0]
        equal((call.type, call.function.name), ("function", "weather"), model)
        got = arguments(model, call.function.arguments)
        equal(whole.choices[0].finish_reason, "tool_calls" if model != LOCAL else whole.choices[0].finish_reason, model)
        pieces, names, finish = [], [], None
        for chunk in chat(model, stream=True, **options):
            finish = chunk.choices[0].finish_reason or finish
            for delta in chunk.choices[0].delta.tool_calls or []:
                equal(delta.index, 0, f"{model}: index")
                names += [delta.function.name] if delta.function.name else []
                pieces.append(delta.function.arguments or "")
        equal((names, finish), (["weather"], whole.choices[0].finish_reason), f"{model}: streamed call")
        assert len([piece for piece in pieces if piece]) > 1, f"{model}: arguments came in one piece: {pieces}"
        streamed = arguments(model, "".join(pieces))
        assert model != LOCAL or streamed == got, f"{streamed} and not {got}"
        # The helper puts the same together.
        with oa.chat.completions.stream(model=model, temperature=0, **options) as stream:
            done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        arguments(model, done[0].arguments)
        turns = QUESTION + [
            whole.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "Rain, 14 degrees"},
        ]
        answer = chat(model, messages=turns, tools=[CHAT_TOOL], tool_choice="none").choices[0]
        assert answer.message.content and not answer.message.tool_calls, f"{model}: {answer}"


@check
def messages_tools():
    forced = {"type": "tool", "name": "weather"}
    for model in MODELS:
        options = {"messages": QUESTION, "tools": [MESSAGES_TOOL], "tool_choice": forced, "max_tokens": 64}
        whole = message(model, **options)
        call = whole.content[-1]
        equal((call.type, call.name, whole.stop_reason), ("tool_use", "weather", "tool_use"), model)
        got = arguments(model, call.input)
        with an.messages.stream(model=model, **GREEDY, **options) as stream:
            pieces = [event.partial_json for event in stream if event.type == "input_json"]
            final = stream.get_final_message()
        assert len([piece for piece in pieces if piece]) > 1, f"{model}: arguments came in one piece: {pieces}"
        streamed = arguments(model, "".join(pieces))
        equal(final.content[-1].input, streamed, f"{model}: gathered arguments")
        equal(final.stop_reason, "tool_use", f"{model}: streamed stop reason")
        assert model != LOCAL or streamed == got, f"{streamed} and not {got}"
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "Rain, 14 degrees"}
        turns = QUESTION + [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in whole.content]}]
        turns.append({"role": "user", "content": [result]})
        answer = message(model, messages=turns, tools=[MESSAGES_TOOL], tool_choice={"type": "none"})
        equal([block.type for block in answer.content], ["text"], f"{model}: after the result")


@check
def responses_tools():
    forced = {"type": "function", "name": "weather"}
    for model in MODELS:
        options = {"input": QUESTION, "tools": [RESPONSES_TOOL], "tool_choice": forced, "max_output_tokens": 64}
        whole = respond(model, **options)
        call = whole.output[-1]
        equal((call.type, call.name, call.status), ("function_call", "weather", "completed"), model)
        got = arguments(model, call.arguments)
        pieces, done = [], None
        for event in respond(model, stream=True, **options):
            if event.type == "response.function_call_arguments.delta":
                pieces.append(event.delta)
            elif event.type == "response.function_call_arguments.done":
                done = event.arguments
        assert len(pieces) > 1, f"{model}: arguments came in one piece: {pieces}"
        equal("".join(pieces), done, f"{model}: gathered arguments")
        streamed = arguments(model, done)
        assert model != LOCAL or streamed == got, f"{streamed} and not {got}"
        turns = QUESTION + [call.model_dump(exclude_none=True)]
        turns.append({"type": "function_call_output", "call_id": call.call_id, "output": "Rain, 14 degrees"})
        answer = respond(model, input=turns, tools=[RESPONSES_TOOL], tool_choice="none")
        assert answer.output_text, f"{model}: {answer}"


@check
def two_calls_at_once():
    for route in UPSTREAMS:
        model = f"{route}-two-calls"
        calls = chat(model, messages=QUESTION, tools=[CHAT_TOOL], max_tokens=200).choices[0].message.tool_calls
        equal(len(calls), 2, f"{model}: calls")
        assert calls[0].id != calls[1].id, calls
        gathered = {}
        for chunk in chat(model, messages=QUESTION, tools=[CHAT_TOOL], max_tokens=200, stream=True):
            for delta in chunk.choices[0].delta.tool_calls or []:
                gathered[delta.index] = gathered.get(delta.index, "") + (delta.function.arguments or "")
        equal(sorted(gathered), [0, 1], f"{model}: streamed calls")
        blocks = message(model, messages=QUESTION, tools=[MESSAGES_TOOL], max_tokens=200).content
        equal([block.type for block in blocks], ["tool_use"] * 2, f"{model}: blocks")
        with an.messages.stream(model=model, messages=QUESTION, tools=[MESSAGES_TOOL], max_tokens=200) as stream:
            blocks = stream.get_final_message().content
        for text in [*gathered.values(), *(block.input for block in blocks)]:
            arguments(model, text)


class Mail(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    subject: str = pydantic.Field(max_length=30)
    urgent: bool


@check
def structured_output():
    ask = user("Which subject has a mail about a broken lift, and is it urgent?")
    parsed = oa.chat.completions.parse(model=LOCAL, messages=ask, response_format=Mail, temperature=0, max_tokens=80)
    assert isinstance(parsed.choices[0].message.parsed, Mail), parsed
    text = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in chat(LOCAL, messages=ask, max_tokens=80, stream=True, response_format={
            "type": "json_schema", "json_schema": {"name": "mail", "strict": True, "schema": Mail.model_json_schema()}})
    )
    equal(Mail.model_validate_json(text), parsed.choices[0].message.parsed, "streamed")
    parsed = oa.responses.parse(model=LOCAL, input=ask, text_format=Mail, temperature=0, max_output_tokens=80)
    assert isinstance(parsed.output_parsed, Mail), parsed
    parsed = an.messages.parse(model=LOCAL, messages=ask, output_format=Mail, max_tokens=80, **GREEDY)
    assert isinstance(parsed.parsed_output, Mail), parsed


@check
def system_prompts_and_parts():
    parts = [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]
    for model in UPSTREAMS:
        said(model, chat(model, messages=[{"role": "system", "content": "Be kind."}, {"role": "user", "content": parts}]).choices[0].message.content)
        said(model, message(model, system="Be kind.", messages=[{"role": "user", "content": parts}]).content[0].text)
        said(model, respond(model, instructions="Be kind.").output_text)


PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n pixel").decode()


@check
def images_go_through_and_are_refused_here():
    picture = [{"type": "text", "text": "Say hello."}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    for model in UPSTREAMS:
        said(model, chat(model, messages=[{"role": "user", "content": picture}]).choices[0].message.content)
        said(model, message(model, messages=[{"role": "user", "content": [picture[0], block]}]).content[0].text)
    raises(openai.BadRequestError, lambda: chat(LOCAL, messages=[{"role": "user", "content": picture}]), param="messages[0].content[1].type")


@check
def completions_whole_and_streamed():
    for model in (LOCAL, "openai"):
        options = {"model": model, "prompt": "Say hello.", "temperature": 0, "max_tokens": 24}
        whole = oa.completions.create(**options)
        said(model, whole.choices[0].text)
        equal(whole.object, "text_completion", model)
        streamed = "".join(chunk.choices[0].text for chunk in oa.completions.create(stream=True, **options) if chunk.choices)
        equal(streamed, whole.choices[0].text, f"{model}: streamed")
    # Anthropic has no such API.
    raises(openai.BadRequestError, lambda: oa.completions.create(model="anthropic", prompt="Say hello."), param="model", code="unsupported_parameter")


@check
def embeddings():
    for model, dimensions in ((ENCODER, 384), ("openai", 16)):
        texts = ["a lift", "a broken lift"]
        vectors = oa.embeddings.create(model=model, input=texts)
        equal([len(item.embedding) for item in vectors.data], [dimensions] * 2, f"{model}: dimensions")
        assert vectors.usage.prompt_tokens > 0, vectors.usage
        floats = oa.embeddings.create(model=model, input=texts[0], encoding_format="float").data[0].embedding
        coded = struct.pack(f"{dimensions}f", *floats)
        equal(struct.pack(f"{dimensions}f", *vectors.data[0].embedding), coded, f"{model}: both encodings")
    raises(openai.BadRequestError, lambda: oa.embeddings.create(model=LOCAL, input="x"), code="wrong_model_kind")


@check
def models_are_listed():
    names = {model.id for model in oa.models.list()}
    assert {LOCAL, ENCODER, *UPSTREAMS} <= names, names
    equal(oa.models.retrieve("openai").id, "openai", "retrieved")
    raises(openai.NotFoundError, lambda: oa.models.retrieve("none"), code="model_not_found")
    few = openai_client(key("few", models=["openai"]))
    equal([model.id for model in few.models.list()], ["openai"], "models of a key")
    raises(openai.PermissionDeniedError, lambda: few.chat.completions.create(model=LOCAL, messages=user()), code="model_not_allowed")


@check
def bad_requests_name_their_field():
    # A server that speaks the client's own API judges by itself.
    for model in (LOCAL, "anthropic"):
        raises(openai.BadRequestError, lambda: chat(model, messages="none"), param="messages")
    raises(openai.BadRequestError, lambda: chat(LOCAL, temperature=3), param="temperature", code="invalid_value")
    raises(openai.BadRequestError, lambda: chat(LOCAL, temperature=3, stream=True), param="temperature")
    raises(openai.BadRequestError, lambda: respond("openai", previous_response_id="resp_1"), param="previous_response_id")
    raises(openai.NotFoundError, lambda: chat("none"), code="model_not_found", param="model")
    raises(openai.NotFoundError, lambda: respond("none"), code="model_not_found")
    error = raises(anthropic.NotFoundError, lambda: message("none"))
    equal((error.body["type"], error.body["error"]["type"]), ("error", "not_found_error"), "the body's types")
    for model in (LOCAL, "openai"):
        error = raises(anthropic.BadRequestError, lambda: message(model, messages=[{"role": "user", "content": 5}]))
        equal(error.body["error"]["type"], "invalid_request_error", model)
        assert "messages" in error.body["error"]["message"], error
    assert error.request_id, "Anthropic's clients find the request's name"


@check
def wrong_keys_are_refused():
    for secret in ("sk-other", "sk-bantam-wrong", APP[:-1] + ("x" if APP[-1] != "x" else "y")):
        wrong = openai_client(secret)
        raises(openai.AuthenticationError, lambda: wrong.chat.completions.create(model="openai", messages=user()), code="invalid_api_key")
        raises(openai.AuthenticationError, lambda: wrong.models.list())
        wrong = anthropic_client(secret)
        error = raises(anthropic.AuthenticationError, lambda: wrong.messages.create(model="anthropic", messages=user(), max_tokens=5))
        equal(error.body["error"]["type"], "authentication_error", "type")
    expired = openai_client(key("gone", expires=1))
    error = raises(openai.AuthenticationError, lambda: expired.chat.completions.create(model="openai", messages=user()))
    assert "expired" in error.body["message"], error


def budget(tokens):
    return {"budgets": [{"period": "day", "amount": {"tokens": tokens}}]}


@check
def budgets_end_in_the_right_exception():
    # The clients' own retries are on: what is over for the day is asked once.
    poor = openai_client(key("poor", limits=budget(200)), max_retries=2)
    answered = 0
    while True:
        before = len(ENTRIES)
        try:
            poor.chat.completions.create(model="openai", messages=user(), max_tokens=24)
            answered += 1
        except openai.RateLimitError as error:
            equal((error.code, error.type), ("budget_exceeded", "insufficient_quota"), "code and type")
            assert int(error.response.headers["retry-after"]) > 0, error.response.headers
            equal(len(ENTRIES) - before, 1, "requests made")
            break
        assert 0 < answered < 20, "the budget holds nothing"
    assert answered, "nothing was answered"
    raises(openai.RateLimitError, lambda: poor.with_options(max_retries=0).chat.completions.create(model="openai", messages=user(), max_tokens=24, stream=True))
    poor = anthropic_client(key("poor too", limits=budget(30)))
    error = raises(anthropic.RateLimitError, lambda: poor.messages.create(model="anthropic", messages=user(), max_tokens=50))
    assert int(error.response.headers["retry-after"]) > 0, error.response.headers
    slow = openai_client(key("slow", limits={"requests_per_minute": 1}))
    slow.chat.completions.create(model="openai", messages=user(), max_tokens=24)
    error = raises(openai.RateLimitError, lambda: slow.chat.completions.create(model="openai", messages=user(), max_tokens=24), type="rate_limit_error")
    assert 0 < int(error.response.headers["retry-after"]) <= 60, error.response.headers


@check
def faults_of_upstreams_are_typed():
    for route in UPSTREAMS:
        raises(openai.InternalServerError, lambda: chat(f"{route}-down"), status_code=502, code="upstream_error")
        raises(anthropic.InternalServerError, lambda: message(f"{route}-down"), status_code=502)
        error = raises(openai.RateLimitError, lambda: chat(f"{route}-busy"))
        equal(error.response.headers["retry-after"], "7", f"{route}: wait")
        # Until then it is not asked again.
        error = raises(anthropic.ServiceUnavailableError, lambda: message(f"{route}-busy"))
        assert 0 < int(error.response.headers["retry-after"]) <= 7, error.response.headers
        for model in (f"{route}-cut", f"{route}-broken"):
            raises(openai.InternalServerError, lambda: chat(model))
            for call in (lambda: chat(model, stream=True), lambda: respond(model, stream=True), lambda: message(model, stream=True)):
                before = len(ENTRIES)
                try:
                    events = [event for event in call()]
                    # Responses tell of it by an event of theirs.
                    assert events[-1].type in ("response.failed", "error"), f"{model}: ended well: {events[-1]}"
                except (openai.APIError, anthropic.APIError):
                    pass
                # On record is what the status would have been.
                ENTRIES[before:] = [(name, 502 if status == 200 else status) for name, status in ENTRIES[before:]]


@check
def left_streams_are_noticed():
    for model in MODELS:
        slow = LOCAL if model == LOCAL else f"{model}-slow"
        long = user("Tell me a very long story about a lighthouse.")
        for ask in (chat, message):
            stream = ask(slow, messages=long, max_tokens=1500, stream=True)
            next(iter(stream))
            next(iter(stream))
            stream.close()
            name, status = ENTRIES.pop()
            equal((name, status), (stream.response.headers["x-request-id"], 200), "the stream that was left")
            ENTRIES.append((name, 499))
    chat(LOCAL, max_tokens=1)


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
for name, status in ENTRIES:
    print("entry", name, status)
print(f"{len(CHECKS)} checks passed with openai {openai.__version__} and anthropic {anthropic.__version__}")
