//! Whole bodies: what becomes of each field, what is refused by name, and round trips.

use bantam_providers::wire::{AnswerOptions, Api, DEFAULT_MAX_TOKENS, WireError, ask_for_usage, request, response};
use serde_json::{Value, json};

use crate::streams::options;

fn to(body: &Value, from: Api, to: Api) -> Value {
    request(body.clone(), from, to).unwrap_or_else(|e| panic!("{from} to {to}: {e}"))
}

#[test]
fn a_whole_messages_request_becomes_chat() {
    let body = json!({
        "model": "m", "max_tokens": 100, "temperature": 0.5, "top_k": 40, "stream": true,
        "stop_sequences": ["END"],
        "system": [
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Speak German."},
        ],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "Looking.", "citations": null},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, 2.5, "ü"]}},
                {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}, "caller": {"type": "direct"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "42"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true,
                 "content": [{"type": "text", "text": "no"}]},
                {"type": "text", "text": "And this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}},
                {"type": "document", "title": "a.pdf",
                 "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
            ]},
            {"role": "system", "content": "Now in English."},
        ],
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": true,
                   "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "metadata": {"user_id": "u-1"},
        "thinking": {"type": "enabled", "budget_tokens": 10_000},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "service_tier": "standard_only",
        "repetition_penalty": 1.1,
    });
    assert_eq!(
        to(&body, Api::Messages, Api::Chat),
        json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Be brief."},
                                               {"type": "text", "text": "Speak German."}]},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "toolu_1", "type": "function",
                     "function": {"name": "f", "arguments": "{\"a\":[1,2.5,\"ü\"]}"}},
                    {"id": "toolu_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "toolu_1", "content": "42"},
                {"role": "tool", "tool_call_id": "toolu_2", "content": "no"},
                {"role": "user", "content": [
                    {"type": "text", "text": "And this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
                ]},
                {"role": "system", "content": "Now in English."},
            ],
            "max_tokens": 100, "temperature": 0.5, "top_k": 40, "stream": true,
            "stop": ["END"],
            "stream_options": {"include_usage": true},
            "tools": [{"type": "function", "function": {
                "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": "required",
            "parallel_tool_calls": false,
            "reasoning_effort": "medium",
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "output", "schema": {"type": "object"}, "strict": true}},
            "user": "u-1",
            "service_tier": "default",
            "repetition_penalty": 1.1,
        })
    );
}

#[test]
fn a_whole_chat_request_becomes_messages() {
    let body = json!({
        "model": "m", "max_completion_tokens": 7, "temperature": 1, "top_p": 0.9, "stop": "END", "seed": 1, "n": 1,
        "presence_penalty": 0.0, "logit_bias": {}, "stream": false, "user": "u", "verbosity": "low",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}},
            ]},
            {"role": "assistant", "content": "", "refusal": null, "reasoning_content": "hm",
             "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                                 {"type": "thinking", "thinking": "not signed", "signature": ""}],
             "tool_calls": [
                {"id": "call:1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}},
                {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": ""}},
             ]},
            {"role": "tool", "tool_call_id": "call:1", "content": "42"},
            {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "Go on"},
            {"role": "system", "content": "In English"},
            {"role": "assistant", "content": null},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g", "strict": true}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
        "reasoning_effort": "high",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": {"type": "object"}}},
        "top_k": 5,
    });
    assert_eq!(
        to(&body, Api::Chat, Api::Messages),
        json!({
            "model": "m",
            "system": "Be brief.",
            "messages": [
                {"role": "user", "content": [
                    {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}},
                    {"type": "document", "title": "a.pdf",
                     "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}},
                ]},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "call_2", "name": "g", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "42"},
                    {"type": "tool_result", "tool_use_id": "call_2",
                     "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                    {"type": "text", "text": "Go on"},
                ]},
                {"role": "system", "content": "In English"},
            ],
            "max_tokens": 7, "temperature": 1, "top_p": 0.9, "top_k": 5, "stop_sequences": ["END"],
            "tools": [
                {"name": "f", "description": "d", "input_schema": {"type": "object"}},
                {"name": "g", "input_schema": {"type": "object", "properties": {}}, "strict": true},
            ],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
            "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
            "metadata": {"user_id": "u"},
            "stream": false,
        })
    );
    let least = json!({"messages": [{"role": "user", "content": "x"}]});
    assert_eq!(
        to(&least, Api::Chat, Api::Messages),
        json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": DEFAULT_MAX_TOKENS})
    );
}

#[test]
fn a_whole_responses_request_becomes_chat_and_messages() {
    let body = json!({
        "model": "m", "instructions": "Be brief.", "max_output_tokens": 9, "store": false, "stream": true,
        "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"}, "truncation": "disabled",
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": "What?"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
            ]},
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "anthropic-signature:s",
             "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "reasoning", "id": "rs_2", "encrypted_content": "gAAAA-of-openai", "summary": []},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "Looking.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "42"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "x"}]},
            {"role": "user", "content": "Go on"},
        ],
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
        "reasoning": {"effort": "low", "summary": "auto"},
    });
    let chat = to(&body, Api::Responses, Api::Chat);
    assert_eq!(
        chat,
        json!({
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"}},
                ]},
                {"role": "assistant", "content": "Looking.", "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                    {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
                {"role": "tool", "tool_call_id": "c2", "content": "x"},
                {"role": "user", "content": "Go on"},
            ],
            "max_tokens": 9, "stream": true, "stream_options": {"include_usage": true},
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": {"type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}},
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": true}},
            "reasoning_effort": "low",
        })
    );
    let messages = to(&body, Api::Responses, Api::Messages);
    assert_eq!(messages["messages"][1]["content"][0], json!({"type": "thinking", "thinking": "hm", "signature": "s"}));
    assert_eq!(messages["messages"][2]["content"].as_array().unwrap().len(), 3);
    assert_eq!(messages["tool_choice"], json!({"type": "any"}));
    assert_eq!(messages["output_config"]["effort"], "low");
    assert_eq!(messages["system"], "Be brief.");
}

#[test]
fn what_cannot_be_expressed_is_refused_by_name() {
    use Api::{Chat, Messages, Responses};
    let with = |api: Api, key: &str, value: Value| {
        let mut body = match api {
            Responses => json!({"model": "m", "input": "x"}),
            _ => json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}),
        };
        body[key] = value;
        body
    };
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    for (from, to, key, value, path) in [
        (Responses, Chat, "previous_response_id", json!("resp_1"), "previous_response_id"),
        (Responses, Chat, "conversation", json!("conv_1"), "conversation"),
        (Responses, Chat, "store", json!(true), "store"),
        (Responses, Chat, "background", json!(true), "background"),
        (Responses, Chat, "prompt", json!({"id": "p"}), "prompt"),
        (Responses, Chat, "truncation", json!("auto"), "truncation"),
        (Responses, Chat, "tools", json!([{"type": "web_search"}]), "tools[0].type"),
        (Responses, Chat, "tool_choice", json!({"type": "file_search"}), "tool_choice.type"),
        (Responses, Chat, "input", json!([{"type": "item_reference", "id": "x"}]), "input[0].type"),
        (Responses, Chat, "input", json!([{"type": "web_search_call", "id": "x"}]), "input[0].type"),
        (
            Responses,
            Chat,
            "input",
            json!([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]),
            "input[0].content[0].file_id",
        ),
        (Responses, Chat, "include", json!(["file_search_call.results"]), "include[0]"),
        (Responses, Messages, "temperature", json!(1.5), "temperature"),
        (Responses, Messages, "top_logprobs", json!(3), "top_logprobs"),
        (Responses, Messages, "text", json!({"format": {"type": "json_object"}}), "text.format"),
        (Chat, Messages, "n", json!(2), "n"),
        (Chat, Messages, "temperature", json!(1.1), "temperature"),
        (Chat, Messages, "presence_penalty", json!(0.5), "presence_penalty"),
        (Chat, Messages, "frequency_penalty", json!(-1), "frequency_penalty"),
        (Chat, Messages, "logit_bias", json!({"1": 5}), "logit_bias"),
        (Chat, Messages, "logprobs", json!(true), "logprobs"),
        (Chat, Messages, "modalities", json!(["text", "audio"]), "modalities"),
        (Chat, Messages, "audio", json!({"voice": "x"}), "audio"),
        (Chat, Messages, "web_search_options", json!({}), "web_search_options"),
        (Chat, Messages, "functions", json!([]), "functions"),
        (Chat, Messages, "response_format", json!({"type": "json_object"}), "response_format.type"),
        (Chat, Messages, "tools", json!([{"type": "custom", "custom": {"name": "x"}}]), "tools[0].type"),
        (Chat, Messages, "messages", user(json!([{"type": "input_audio"}])), "messages[0].content[0].type"),
        (
            Chat,
            Messages,
            "messages",
            user(json!([{"type": "file", "file": {"file_id": "f"}}])),
            "messages[0].content[0].file.file_id",
        ),
        (Messages, Chat, "tools", json!([{"type": "bash_20250124", "name": "bash"}]), "tools[0].type"),
        (Messages, Chat, "mcp_servers", json!([{}]), "mcp_servers"),
        (Messages, Chat, "container", json!("c"), "container"),
        (Messages, Chat, "inference_geo", json!("eu"), "inference_geo"),
        (Messages, Chat, "speed", json!("fast"), "speed"),
        (Messages, Chat, "messages", user(json!([{"type": "search_result"}])), "messages[0].content[0].type"),
        (
            Messages,
            Chat,
            "messages",
            user(json!([{"type": "image", "source": {"type": "file", "file_id": "f"}}])),
            "messages[0].content[0].source.type",
        ),
    ] {
        match request(with(from, key, value.clone()), from, to) {
            Err(WireError::Unsupported { path: at, why }) => {
                assert_eq!(at, path, "{from} to {to}: {key} = {value}");
                assert!(why.len() > 10, "{why}");
            }
            other => panic!("{from} to {to}: {key} = {value}: {other:?}"),
        }
        // The field alone is at fault.
        let idle = with(from, key, Value::Null);
        if !matches!(key, "messages" | "input") {
            request(idle, from, to).unwrap();
        }
    }
}

#[test]
fn wrong_types_are_named_by_their_path() {
    use Api::{Chat, Messages, Responses};
    for (from, to, body, path) in [
        (Chat, Messages, json!([]), "."),
        (Chat, Messages, json!({}), "messages"),
        (Chat, Messages, json!({"messages": "x"}), "messages"),
        (Chat, Messages, json!({"messages": [7]}), "messages[0]"),
        (Chat, Messages, json!({"messages": [{"role": "user", "content": 5}]}), "messages[0].content"),
        (Chat, Messages, json!({"messages": [{"role": "robot"}]}), "messages[0].role"),
        (
            Chat,
            Messages,
            json!({"messages": [{"role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{"}}]}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
        (
            Chat,
            Messages,
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]}),
            "messages[0].content[0].image_url.url",
        ),
        (Chat, Messages, json!({"messages": [], "stop": 5}), "stop"),
        (Chat, Messages, json!({"messages": [], "tool_choice": "maybe"}), "tool_choice"),
        (Messages, Chat, json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
        (Messages, Chat, json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (
            Messages,
            Chat,
            json!({"messages": [{"role": "assistant",
                "content": [{"type": "tool_use", "id": "1", "name": "f", "input": "{}"}]}]}),
            "messages[0].content[0].input",
        ),
        (Messages, Chat, json!({"messages": [], "tool_choice": {"type": "some"}}), "tool_choice.type"),
        (Messages, Chat, json!({"messages": [], "tools": [{"name": "x"}]}), "tools[0].input_schema"),
        (Responses, Chat, json!({"model": "m"}), "input"),
        (Responses, Chat, json!({"input": 5}), "input"),
        (Responses, Chat, json!({"input": [{"type": "function_call", "call_id": "c"}]}), "input[0].name"),
        (
            Responses,
            Messages,
            json!({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"}]}),
            "input",
        ),
    ] {
        match request(body.clone(), from, to) {
            Err(error @ WireError::Field { .. }) => assert_eq!(error.param(), Some(path), "{from} to {to}: {body}"),
            other => panic!("{from} to {to}: {body}: {other:?}"),
        }
    }
}

#[test]
fn pairs_without_a_way_are_refused() {
    for from in Api::ALL {
        for to in Api::ALL.into_iter().filter(|to| !from.can_reach(*to)) {
            let error = WireError::Pair { client: from, upstream: to };
            assert_eq!(request(json!({}), from, to), Err(error.clone()));
            assert_eq!(response(json!({}), to, from, &options()), Err(error));
        }
    }
}

#[test]
fn thoughts_of_another_kind_of_server_are_forgotten() {
    let messages = json!({"messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "ours", "signature": ""},
        {"type": "thinking", "thinking": "theirs", "signature": "s"},
        {"type": "text", "text": "x"}]}]});
    let out = to(&messages, Api::Messages, Api::Messages);
    assert_eq!(out["messages"][0]["content"].as_array().unwrap().len(), 2);
    let responses = json!({"input": [
        {"type": "reasoning", "encrypted_content": "anthropic-signature:s", "summary": []},
        {"type": "reasoning", "encrypted_content": "gAAAA", "summary": []}]});
    assert_eq!(to(&responses, Api::Responses, Api::Responses)["input"].as_array().unwrap().len(), 1);
}

fn chat_answer(message: Value, finish: &str) -> Value {
    json!({
        "id": "chatcmpl-9", "object": "chat.completion", "created": 5, "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
                  "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 0},
                  "completion_tokens_details": {"reasoning_tokens": 2}},
    })
}

#[test]
fn a_chat_answer_becomes_messages_and_responses() {
    let answer = chat_answer(
        json!({"role": "assistant", "content": "Hi", "reasoning_content": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]}),
        "stop",
    );
    assert_eq!(
        response(answer.clone(), Api::Chat, Api::Messages, &options()).unwrap(),
        json!({
            "id": "msg_9", "type": "message", "role": "assistant", "model": "m",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Hi"},
                {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 4, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 6,
                      "output_tokens": 4, "output_tokens_details": {"thinking_tokens": 2}},
        })
    );
    let mut answer = answer;
    answer["choices"][0]["logprobs"] = json!({"content": [{"token": "Hi", "logprob": -0.5, "bytes": null, "top_logprobs": [{"token": "H", "logprob": -1}]}]});
    let asked = json!({"model": "auto", "input": "x", "temperature": 0.5, "metadata": {"k": "v"}, "tools": [{"type": "function"}]});
    let options = AnswerOptions { created: 9, ..AnswerOptions::of(Api::Responses, &asked, "req") };
    let out = response(answer, Api::Chat, Api::Responses, &options).unwrap();
    assert_eq!(out["id"], "resp_9");
    assert_eq!(out["status"], "completed");
    assert_eq!(
        (&out["temperature"], &out["metadata"]["k"], &out["tools"][0]["type"]),
        (&json!(0.5), &json!("v"), &json!("function"))
    );
    let kinds: Vec<&str> = out["output"].as_array().unwrap().iter().filter_map(|i| i["type"].as_str()).collect();
    assert_eq!(kinds, ["reasoning", "message", "function_call"]);
    assert_eq!(
        out["output"][1]["content"][0]["logprobs"],
        json!([{"token": "Hi", "logprob": -0.5, "bytes": [72, 105],
                "top_logprobs": [{"token": "H", "logprob": -1, "bytes": [72]}]}])
    );
    assert_eq!(out["usage"]["input_tokens_details"]["cached_tokens"], 6);
    assert_eq!(out["usage"]["output_tokens_details"]["reasoning_tokens"], 2);
}

#[test]
fn broken_answers_are_typed() {
    let call = |arguments: Value| json!({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]});
    for (from, body) in [
        (Api::Chat, json!({})),
        (Api::Chat, json!({"choices": []})),
        (Api::Chat, json!("x")),
        (Api::Chat, chat_answer(json!({"content": 5}), "stop")),
        (Api::Chat, chat_answer(json!({"content": "x"}), "tired")),
        (Api::Chat, chat_answer(call(json!("{")), "tool_calls")),
        (Api::Chat, chat_answer(call(json!(7)), "tool_calls")),
        (Api::Messages, json!({"content": []})),
        (Api::Messages, json!({"content": [], "stop_reason": "pause_turn"})),
        (Api::Messages, json!({"content": [{"type": "server_tool_use"}], "stop_reason": "end_turn"})),
    ] {
        let to = if from == Api::Chat { Api::Messages } else { Api::Chat };
        let error = response(body.clone(), from, to, &options()).unwrap_err();
        assert!(matches!(error, WireError::Answer { .. }), "{body}: {error:?}");
    }
    let error = json!({"error": {"message": "no", "type": "server_error"}});
    assert!(
        matches!(response(error, Api::Chat, Api::Messages, &options()), Err(WireError::Failed(e)) if e.message == "no")
    );
    // An answer that was cut off says so, and its call has no arguments.
    let cut = response(chat_answer(call(json!("{\"a")), "length"), Api::Chat, Api::Messages, &options()).unwrap();
    assert_eq!((&cut["stop_reason"], &cut["content"][0]["input"]), (&json!("max_tokens"), &json!({})));
}

#[test]
fn usage_is_asked_for_where_a_stream_can_tell_it() {
    for (api, body, options) in [
        (Api::Chat, json!({"stream": true}), json!({"include_usage": true})),
        (Api::Completions, json!({"stream": true, "stream_options": null}), json!({"include_usage": true})),
        (
            Api::Chat,
            json!({"stream": true, "stream_options": {"include_usage": false, "x": 1}}),
            json!({"include_usage": true, "x": 1}),
        ),
        (Api::Chat, json!({"stream": false}), Value::Null),
        (Api::Messages, json!({"stream": true}), Value::Null),
    ] {
        let mut body = body;
        ask_for_usage(&mut body, api);
        assert_eq!(body.get("stream_options").cloned().unwrap_or_default(), options);
    }
}
