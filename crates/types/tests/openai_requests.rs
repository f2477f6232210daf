//! Requests are read tolerantly, and what is wrong is named by its path.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bantam_types::openai::{ChatRequest, CompletionRequest, Content, OneOrMany, ParseError, Prompt, parse};

fn chat(body: &str) -> ChatRequest {
    parse(body.as_bytes()).unwrap()
}

fn fault_path(result: Result<impl std::fmt::Debug, ParseError>) -> (String, String) {
    match result.unwrap_err() {
        ParseError::Field { path, message } => (path, message),
        ParseError::Syntax { message } => ("<syntax>".into(), message),
    }
}

#[test]
fn content_is_text_or_parts_and_tool_fields_are_kept() {
    let r = chat(
        r#"{"model":"m","messages":[
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]},
            {"role":"assistant","content":null,"tool_calls":[{"id":"1"}]},
            {"role":"tool","content":"42","tool_call_id":"1"}],
            "from_the_future":{"deep":[1,2,3]},"temperature":0}"#,
    );
    let Some(Content::Parts(parts)) = &r.own.messages[0].content else { panic!("parts expected") };
    assert_eq!(parts[0].text.as_deref(), Some("a"));
    assert_eq!(parts[1].kind, "image_url");
    assert_eq!(parts[1].extra["image_url"]["url"], "x");
    assert_eq!(r.own.messages[1].content, None);
    assert_eq!(r.own.messages[1].extra["tool_calls"][0]["id"], "1");
    assert_eq!(r.own.messages[2].extra["tool_call_id"], "1");
    assert_eq!(r.common.temperature, Some(0.0));
}

#[test]
fn null_is_the_same_as_absent() {
    let r = chat(r#"{"model":null,"messages":[],"stop":null,"seed":null,"tools":null,"logit_bias":null,"n":null}"#);
    assert_eq!(r, ChatRequest::default());
}

#[test]
fn stop_is_a_string_or_a_list() {
    assert_eq!(chat(r#"{"messages":[],"stop":"a"}"#).common.stop, Some(OneOrMany::One("a".into())));
    let many = chat(r#"{"messages":[],"stop":["a","b"]}"#).common.stop.unwrap();
    assert_eq!(many.into_vec(), ["a", "b"]);
}

#[test]
fn prompts_come_in_four_shapes() {
    let prompt = |p: &str| parse::<CompletionRequest>(format!(r#"{{"prompt":{p}}}"#).as_bytes()).map(|r| r.own.prompt);
    assert_eq!(prompt(r#""hi""#).unwrap(), Prompt::Text("hi".into()));
    assert_eq!(prompt(r#"["a","b"]"#).unwrap(), Prompt::Texts(vec!["a".into(), "b".into()]));
    assert_eq!(prompt("[1,2]").unwrap(), Prompt::Tokens(vec![1, 2]));
    assert_eq!(prompt("[[1],[2,3]]").unwrap(), Prompt::TokenLists(vec![vec![1], vec![2, 3]]));
    assert_eq!(prompt("[]").unwrap(), Prompt::Texts(vec![]));
    for bad in [r#"["a",1]"#, r#"[1,"a"]"#, "[[1],2]", "3", "{}", "[1.5]", "[18446744073709551615]", "[null]"] {
        let (path, _) = fault_path(prompt(bad));
        assert!(path.starts_with("prompt"), "{bad}: {path}");
    }
}

#[test]
fn a_wrong_type_is_named_by_its_path() {
    for (body, path) in [
        (r#"{"messages":"hi"}"#, "messages"),
        (r#"{"messages":[{"role":"user","content":5}]}"#, "messages[0].content"),
        (r#"{"messages":[{"role":"user","content":[{"type":"text","text":5}]}]}"#, "messages[0].content[0].text"),
        (r#"{"messages":[{"role":"user","content":["a"]}]}"#, "messages[0].content[0]"),
        (r#"{"messages":[{"role":7}]}"#, "messages[0].role"),
        (r#"{"messages":[{"content":"x"}]}"#, "messages[0].role"),
        (r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#, "messages[0].content[0].type"),
        (r#"{}"#, "messages"),
        (r#"{"messages":[],"temperature":"hot"}"#, "temperature"),
        (r#"{"messages":[],"n":1.5}"#, "n"),
        (r#"{"messages":[],"stop":[1]}"#, "stop[0]"),
        (r#"{"messages":[],"stop":{}}"#, "stop"),
        (r#"{"messages":[],"stream":"yes"}"#, "stream"),
        (r#"{"messages":[],"stream_options":{"include_usage":3}}"#, "stream_options.include_usage"),
        (r#"{"messages":[],"logit_bias":[1]}"#, "logit_bias"),
        (r#"{"messages":[],"seed":"x"}"#, "seed"),
        (r#"{"messages":[],"max_tokens":99999999999999999999}"#, "max_tokens"),
        (r#"[]"#, "."),
        (r#""x""#, "."),
    ] {
        assert_eq!(fault_path(parse::<ChatRequest>(body.as_bytes())).0, path, "{body}");
    }
}

#[test]
fn what_is_not_json_is_a_syntax_error_with_its_position() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!(r#"{{"messages":[],"x":{deep}}}"#);
    for body in ["", "{", r#"{"temperature":NaN}"#, r#"{"temperature":1e999}"#, "\u{feff}{}", &deep, &deep_field] {
        let (path, message) = fault_path(parse::<ChatRequest>(body.as_bytes()));
        assert_eq!(path, "<syntax>", "{}", &body[..body.len().min(40)]);
        assert!(message.contains("line 1 column"), "{message}");
    }
    assert_eq!(fault_path(parse::<ChatRequest>(b"{\"model\":\"\xff\xfe\"}")).0, "<syntax>");
}
