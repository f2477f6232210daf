//! Answers that follow a schema or another grammar, and calls of tools.

use bantam_formats::{ChatTemplate, TemplateTokens};
use serde_json::{Value, json};

use crate::answers::{chat, completion};
use crate::client::Client;
use crate::server::{Options, start, start_with};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// Descriptions of tools take many of the toy's tokens.
fn roomy() -> Options {
    Options { context_length: 4096, ..Options::default() }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "pattern": "^[a-z]{2,6}$" },
            "age": { "type": "integer", "minimum": 0, "maximum": 99 },
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    })
}

fn tool(name: &str, parameters: Value) -> Value {
    json!({ "type": "function", "function": { "name": name, "description": "does it", "parameters": parameters } })
}

fn with_schema(schema: Value) -> Value {
    json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "person", "strict": true, "schema": schema } },
        "max_tokens": 100 })
}

fn tools(choice: Value) -> Value {
    let place = json!({ "$defs": { "city": { "type": "string", "pattern": "^[A-Z][a-z]{1,4}$" } },
        "type": "object", "properties": { "city": { "$ref": "#/$defs/city" } }, "required": ["city"],
        "additionalProperties": false });
    json!({ "tools": [tool("weather", place), tool("person", schema()), tool("now", json!(null))],
        "tool_choice": choice, "max_tokens": 150, "temperature": 1 })
}

async fn ask(client: &mut Client, path: &str, body: Value) -> Value {
    let reply = client.post(path, &body).await;
    assert_eq!(reply.status, 200, "{body}: {}", reply.body);
    reply.json()
}

fn is_person(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), ["name", "age"]);
    assert!(value["age"].as_u64().unwrap() < 100 && value["name"].as_str().unwrap().len() <= 6);
}

#[tokio::test]
async fn answers_follow_the_format() {
    let server = start().await;
    let mut client = server.client().await;
    for seed in 0..5 {
        let mut body = chat(with_schema(schema()));
        (body["seed"], body["temperature"]) = (json!(seed), json!(1));
        let answer = ask(&mut client, CHAT, body.clone()).await;
        let choice = &answer["choices"][0];
        assert_eq!(choice["finish_reason"], "stop");
        let text = choice["message"]["content"].as_str().unwrap();
        is_person(text);
        assert!(choice["message"].get("tool_calls").is_none());
        body["stream"] = json!(true);
        let streamed: String = client.events(CHAT, body).await.iter().filter_map(content).collect();
        assert_eq!(streamed, text);
    }
    let object = json!({ "response_format": { "type": "json_object" }, "max_tokens": 60 });
    let answer = ask(&mut client, CHAT, chat(object)).await;
    let choice = &answer["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(text.starts_with('{'), "{text}");
    assert_eq!(serde_json::from_str::<Value>(text).is_ok(), choice["finish_reason"] == "stop", "{text}");
    let plain = ask(&mut client, CHAT, chat(json!({ "response_format": { "type": "text" } }))).await;
    assert_eq!(plain["choices"], ask(&mut client, CHAT, chat(json!({}))).await["choices"]);
    server.idle().await;
}

fn content(event: &Value) -> Option<String> {
    event["choices"][0]["delta"]["content"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn an_answer_that_was_cut_says_so() {
    let server = start_with(roomy()).await;
    let mut body = chat(with_schema(schema()));
    body["max_tokens"] = json!(10);
    let answer = ask(&mut server.client().await, CHAT, body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let mut body = chat(tools(json!("required")));
    body["max_tokens"] = json!(30);
    let answer = ask(&mut server.client().await, CHAT, body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test]
async fn structured_outputs_of_both_endpoints() {
    let server = start().await;
    let mut client = server.client().await;
    type Check = fn(&str) -> bool;
    let cases: [(Value, Check); 5] = [
        (json!({ "regex": "[0-9]{3}-[a-f]+" }), |t| t.len() > 4 && t.as_bytes()[3] == b'-'),
        (json!({ "choice": ["positive", "negative"] }), |t| t == "positive" || t == "negative"),
        (json!({ "grammar": "start: \"yes\" | \"no\" /[!?]/" }), |t| ["yes", "no!", "no?"].contains(&t)),
        (json!({ "json": { "enum": [1, 2] } }), |t| t == "1" || t == "2"),
        (json!({ "json": "{\"type\": \"boolean\"}", "regex": null }), |t| t == "true" || t == "false"),
    ];
    for (wanted, check) in cases {
        let extra = json!({ "structured_outputs": wanted, "max_tokens": 60 });
        let answer = ask(&mut client, CHAT, chat(extra.clone())).await;
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(check(text), "{wanted}: {text}");
        let answer = ask(&mut client, COMPLETIONS, completion(extra)).await;
        let text = answer["choices"][0]["text"].as_str().unwrap();
        assert!(check(text), "{wanted}: {text}");
    }
}

#[tokio::test]
async fn calls_come_back_as_calls() {
    let server = start_with(roomy()).await;
    let mut client = server.client().await;
    let mut names = Vec::new();
    for seed in 0..12 {
        let choice = if seed % 2 == 0 {
            json!("required")
        } else {
            json!({ "type": "function", "function": { "name": "weather" } })
        };
        let mut body = chat(tools(choice));
        (body["seed"], body["parallel_tool_calls"]) = (json!(seed), json!(true));
        let answer = ask(&mut client, CHAT, body.clone()).await;
        let choice = &answer["choices"][0];
        assert_eq!((&choice["finish_reason"], &choice["message"]["content"]), (&json!("tool_calls"), &Value::Null));
        let call = &choice["message"]["tool_calls"][0];
        assert_eq!(call["type"], "function");
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        let (name, arguments) = check_call(&call["function"]);
        assert!(seed % 2 == 0 || name == "weather");

        body["stream"] = json!(true);
        let events = client.events(CHAT, body).await;
        assert!(events.iter().filter_map(content).all(|text| text.is_empty()));
        let deltas: Vec<_> = events.iter().map(|e| &e["choices"][0]["delta"]["tool_calls"][0]).collect();
        let first = deltas.iter().position(|d| d["id"].is_string()).unwrap();
        assert_eq!((&deltas[first]["function"]["name"], &deltas[first]["type"]), (&json!(name), &json!("function")));
        assert_eq!(deltas.iter().filter(|d| d["id"].is_string()).count(), 1);
        let streamed: String = deltas.iter().filter_map(|d| d["function"]["arguments"].as_str()).collect();
        assert_eq!(streamed, arguments);
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        names.push(name);
    }
    names.sort();
    names.dedup();
    assert!(names.len() > 1, "{names:?}");
    server.idle().await;
}

fn check_call(function: &Value) -> (String, String) {
    let (name, text) = (function["name"].as_str().unwrap(), function["arguments"].as_str().unwrap());
    let arguments: Value = serde_json::from_str(text).unwrap();
    match name {
        "weather" => assert!((2..=5).contains(&arguments["city"].as_str().unwrap().len())),
        "person" => is_person(text),
        "now" => assert_eq!(arguments, json!({})),
        other => panic!("{other}"),
    }
    (name.to_owned(), text.to_owned())
}

#[tokio::test]
async fn the_model_may_call_or_not() {
    let server = start_with(Options { habit: "<tool_call>\n", ..roomy() }).await;
    let mut client = server.client().await;
    let (mut calls, mut texts) = (0, 0);
    for seed in 0..12 {
        let mut body = chat(tools(json!("auto")));
        // The text before the mark ends at some of these.
        (body["seed"], body["max_tokens"], body["stop"]) = (json!(seed), json!(200), json!(["qu", "zz", "x "]));
        let answer = ask(&mut client, CHAT, body.clone()).await;
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap_or_default();
        body["stream"] = json!(true);
        let events = client.events(CHAT, body).await;
        assert_eq!(events.iter().filter_map(content).collect::<String>(), text);
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], choice["finish_reason"]);
        match choice["message"]["tool_calls"].as_array() {
            Some(all) if choice["finish_reason"] == "tool_calls" => {
                assert_eq!(all.len(), 1);
                check_call(&all[0]["function"]);
                assert!(!text.contains('<'), "{text}");
                calls += 1;
            }
            other => {
                assert_eq!((other.is_none(), &choice["finish_reason"]), (true, &json!("stop")), "{answer}");
                texts += 1;
            }
        }
    }
    assert!(calls > 0 && texts > 0, "{calls} calls, {texts} texts");
    let server = start().await;
    let mut client = server.client().await;
    let none =
        ask(&mut client, CHAT, chat(json!({ "tools": tools(json!("none"))["tools"], "tool_choice": "none" }))).await;
    assert_eq!(none["choices"], ask(&mut client, CHAT, chat(json!({}))).await["choices"]);
}

#[tokio::test]
async fn calls_and_results_are_read() {
    let server = start_with(roomy()).await;
    let call = json!({ "id": "call_1", "type": "function",
        "function": { "name": "weather", "arguments": "{\"city\": \"Rome\"}" } });
    let mut body = chat(tools(json!("auto")));
    body["messages"] = json!([
        { "role": "user", "content": "How is it in Rome?" },
        { "role": "assistant", "content": null, "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "call_1", "content": "sunny" },
    ]);
    let asked = |body: &Value| ["Rome", "sunny"].map(|word| body.to_string().contains(word));
    assert_eq!(asked(&body), [true, true]);
    let with = ask(&mut server.client().await, CHAT, body.clone()).await["usage"]["prompt_tokens"].as_u64().unwrap();
    body["messages"][1] = json!({ "role": "assistant", "content": "" });
    let without = ask(&mut server.client().await, CHAT, body).await["usage"]["prompt_tokens"].as_u64().unwrap();
    let text = "<tool_call>\n{\"name\":\"weather\",\"arguments\":{\"city\":\"Rome\"}}\n</tool_call>";
    assert_eq!(with - without, text.len() as u64);
}

/// Shows tools and calls in its own way.
fn template_with_tools() -> ChatTemplate {
    let source = "{% if tools %}<tool_call>{% for t in tools %}{{ t.function.name }},{% endfor %}{% endif %}\
        {% for m in messages %}{{ m.role }}:{{ m.content or '' }}\
        {% for c in m.tool_calls or [] %}{{ c.function.arguments.city }}{% endfor %};{% endfor %}";
    ChatTemplate::new(source, TemplateTokens::default()).unwrap()
}

/// Knows neither tools nor system messages.
fn template_without_system() -> ChatTemplate {
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
        {{ m.content }}\n{% endfor %}";
    ChatTemplate::new(source, TemplateTokens::default()).unwrap()
}

#[tokio::test]
async fn every_template_learns_of_the_tools() {
    let messages = json!([
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "1", "type": "function",
            "function": { "name": "weather", "arguments": "{\"city\": \"Rome\"}" } }] },
        { "role": "tool", "tool_call_id": "1", "content": "sunny" },
    ]);
    let own = "<tool_call>weather,person,now,user:hi;assistant:Rome;tool:sunny;";
    for (template, expected) in [(template_with_tools as fn() -> _, Some(own.len())), (template_without_system, None)] {
        let server = start_with(Options { template, ..roomy() }).await;
        let mut body = chat(tools(json!("auto")));
        body["messages"] = messages.clone();
        let read = ask(&mut server.client().await, CHAT, body).await["usage"]["prompt_tokens"].as_u64().unwrap();
        match expected {
            // A token is a byte here.
            Some(expected) => assert_eq!(read, expected as u64),
            None => assert!(read > 500, "the tools are described: {read}"),
        }
    }
}

#[tokio::test]
async fn bad_formats_and_tools_name_their_field() {
    let server = start_with(roomy()).await;
    let mut client = server.client().await;
    let format = |value: Value| json!({ "response_format": value });
    let named = |name: &str, schema: Value| {
        format(json!({ "type": "json_schema", "json_schema": { "name": name, "schema": schema } }))
    };
    let schema_at = "response_format.json_schema.schema";
    let listed = |list: Value| json!({ "tools": list });
    let choose = |choice: Value| json!({ "tools": [tool("f", json!({}))], "tool_choice": choice });
    let large = json!({ "enum": (0..40_000).map(|i| format!("value {i}")).collect::<Vec<_>>() });
    for (extra, param, part) in [
        (format(json!({})), "response_format.type", "json_schema"),
        (format(json!({ "type": "xml" })), "response_format.type", "'xml'"),
        (format(json!({ "type": "json_schema" })), "response_format.json_schema", "'name'"),
        (named("", json!({})), "response_format.json_schema.name", "64"),
        (named("a b", json!({})), "response_format.json_schema.name", "64"),
        (named("x", json!(5)), schema_at, "an object"),
        (named("x", json!([])), schema_at, "an object"),
        (
            named("x", json!({ "properties": { "x": { "uniqueItems": true } } })),
            "response_format.json_schema.schema.properties.x",
            "the keyword 'uniqueItems' is not supported",
        ),
        (named("x", json!({ "$ref": "https://example.com/a.json" })), schema_at, "outside the schema"),
        (named("x", json!({ "$ref": "#" })), schema_at, "nothing can be written"),
        (named("x", json!({ "type": "integer", "minimum": 3, "maximum": 2 })), schema_at, "minimum"),
        (named("x", large), schema_at, "more than the 262144"),
        (json!({ "structured_outputs": 3 }), "structured_outputs", "object"),
        (json!({ "structured_outputs": {} }), "structured_outputs", "only one"),
        (json!({ "structured_outputs": { "regex": "a", "choice": ["a"] } }), "structured_outputs", "only one"),
        (json!({ "structured_outputs": { "regex": "(" } }), "structured_outputs.regex", "unclosed"),
        (json!({ "structured_outputs": { "regex": 5 } }), "structured_outputs.regex", "string"),
        (json!({ "structured_outputs": { "choice": ["a", 5] } }), "structured_outputs.choice[1]", "string"),
        (json!({ "structured_outputs": { "choice": [] } }), "structured_outputs.choice", "at least one"),
        (json!({ "structured_outputs": { "grammar": "x" } }), "structured_outputs.grammar", ""),
        (json!({ "structured_outputs": { "json": "{" } }), "structured_outputs.json", "not JSON"),
        (json!({ "structured_outputs": { "structural_tag": "x" } }), "structured_outputs.structural_tag", "knows"),
        (
            json!({ "structured_outputs": { "regex": "a" }, "response_format": { "type": "json_object" } }),
            "structured_outputs",
            "combined",
        ),
        (listed(json!(5)), "tools", "array"),
        (listed(json!([5])), "tools[0]", "object"),
        (listed(json!([{ "type": "retrieval" }])), "tools[0].type", "retrieval"),
        (listed(json!([tool("a b", json!({}))])), "tools[0].function.name", "64"),
        (listed(json!([tool("f", json!({})), tool("f", json!({}))])), "tools[1].function.name", "another"),
        (listed(json!([tool("f", json!([]))])), "tools[0].function.parameters", "object"),
        (listed(json!(vec![tool("f", json!({})); 129])), "tools", "128"),
        (
            listed(json!([tool("f", json!({})), tool("g", json!({ "properties": { "x": { "not": {} } } }))])),
            "tools[1].function.parameters.properties.x",
            "'not'",
        ),
        (
            listed(json!([tool("f", json!({ "$ref": "#/$defs/a", "$defs": { "a": { "if": {} } } }))])),
            "tools[0].function.parameters.$defs.a",
            "'if'",
        ),
        (choose(json!("maybe")), "tool_choice", "required"),
        (choose(json!({ "type": "custom" })), "tool_choice.type", "custom"),
        (choose(json!({ "type": "function" })), "tool_choice.function.name", "64"),
        (choose(json!({ "type": "function", "function": { "name": "g" } })), "tool_choice.function.name", "'g'"),
        (
            json!({ "tools": [tool("f", json!({}))], "response_format": { "type": "json_object" } }),
            "response_format",
            "tools",
        ),
    ] {
        let body = chat(extra);
        let (status, _, got_param, message) = client.post(CHAT, &body).await.error();
        let shown: String = body.to_string().chars().take(300).collect();
        assert_eq!((status, got_param.as_deref()), (400, Some(param)), "{shown}: {message}");
        assert!(message.contains(part) && message.len() < 700, "{shown}: {message}");
    }
    let huge = named("x", json!({ "const": "x".repeat(5_000_000) }));
    let reply = client.post(CHAT, chat(huge)).await;
    assert!([400, 413].contains(&reply.error().0));
    server.idle().await;
    assert_eq!(client.post(CHAT, chat(json!({}))).await.status, 200);
}
