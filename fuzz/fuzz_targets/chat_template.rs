//! Arbitrary templates over a fixed conversation, and arbitrary conversations through fixed templates: a text within
//! the limits, the same one each time, or a typed error.
#![no_main]

use std::sync::LazyLock;

use bantam_formats::template::{ChatInput, ChatTemplate, TemplateLimits, TemplateTokens};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const LIMITS: TemplateLimits = TemplateLimits { max_steps: 100_000, max_bytes: 4 << 20 };

/// The templates and conversations that the tests use.
static FIXTURE: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../crates/formats/tests/fixtures/templates.json")).expect("valid JSON")
});

fuzz_target!(|data: &[u8]| {
    let Some((selector, rest)) = data.split_first() else { return };
    match selector.checked_sub(b'0') {
        // A template.
        None | Some(0) => {
            let source = String::from_utf8_lossy(rest);
            let variables = &FIXTURE["snippet_variables"];
            let tools = [json!({"type": "function", "function": {"name": "f", "parameters": {}}})];
            render(&source, &variables["messages"], Some(&tools), variables);
        }
        // A conversation, through the template that the selector names.
        Some(n) => {
            let Ok(conversation) = serde_json::from_slice::<Value>(rest) else { return };
            let templates = FIXTURE["templates"].as_object().expect("an object");
            let source = templates.values().nth(usize::from(n - 1) % templates.len()).and_then(Value::as_str);
            let tools = conversation.get("tools").and_then(Value::as_array).map(Vec::as_slice);
            let messages = conversation.get("messages").unwrap_or(&conversation);
            render(source.expect("a template"), messages, tools, &conversation);
        }
    }
});

fn render(source: &str, messages: &Value, tools: Option<&[Value]>, variables: &Value) {
    let tokens = TemplateTokens { bos: Some("<s>".into()), eos: Some("</s>".into()), ..TemplateTokens::default() };
    let template = match ChatTemplate::new(source, tokens) {
        Ok(template) => template.with_limits(LIMITS),
        Err(error) => {
            let _ = (error.to_string(), error.hint());
            return;
        }
    };
    let mut extra = variables.as_object().cloned().unwrap_or_default();
    extra.remove("messages");
    extra.remove("tools");
    let input = ChatInput {
        messages: messages.as_array().map(Vec::as_slice).unwrap_or_default(),
        tools,
        extra,
        now: "2024-07-26T09:05:03".parse().ok(),
        ..ChatInput::default()
    };
    let first = template.render(&input).map_err(|error| error.to_string());
    let second = template.render(&input).map_err(|error| error.to_string());
    assert_eq!(first, second);
}
