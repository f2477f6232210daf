//! `tools` and `tool_choice`: which functions the model may call, how it is told of them, and what grammar bounds its
//! calls.
//!
//! A call is written `{"name": ..., "arguments": ...}`. Where the model may also answer in text, the call stands between
//! `<tool_call>` and `</tool_call>`, the form that most templates with tools know. A template that does not know it is
//! helped: the tools are described in the system message, and calls and their results become text.

use std::collections::HashSet;

use bantam_engine::GrammarSource;
use bantam_formats::ChatTemplate;
use serde_json::{Map, Value, json};

use super::structured::{NAME, Wanted, fault, is_name};
use crate::answer::{CLOSE, CallStyle, OPEN};
use crate::error::ApiError;
use crate::model::ServedModel;

/// Most tools of a request, as OpenAI has it.
const MAX_TOOLS: usize = 128;

/// Functions that may be called, and how.
pub(super) struct Tools {
    /// As the client described them.
    list: Vec<Value>,
    choice: Choice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Text, or a call of any.
    Auto,
    /// A call of any.
    Required,
    /// A call of this one.
    Named(usize),
}

/// Reads both fields; `None` where nothing may be called.
pub(super) fn tools(list: Option<Value>, choice: Option<Value>) -> Result<Option<Tools>, ApiError> {
    let list = match list {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(ApiError::field("tools", "must be an array of functions")),
    };
    if list.len() > MAX_TOOLS {
        return Err(ApiError::field(
            "tools",
            format!("at most {MAX_TOOLS} tools are allowed, there are {}", list.len()),
        ));
    }
    let mut names = Vec::new();
    for (i, tool) in list.iter().enumerate() {
        names.push(check(i, tool)?);
    }
    let mut seen = HashSet::new();
    if let Some(i) = names.iter().position(|name| !seen.insert(*name)) {
        let why = format!("'{}' is the name of another tool too", names[i]);
        return Err(ApiError::field(format!("tools[{i}].function.name"), why));
    }
    let choice = match &choice {
        None if names.is_empty() => return Ok(None),
        None => Choice::Auto,
        Some(Value::String(word)) if word == "none" => return Ok(None),
        Some(_) if names.is_empty() => return Err(ApiError::field("tool_choice", "needs 'tools'")),
        Some(Value::String(word)) if word == "auto" => Choice::Auto,
        Some(Value::String(word)) if word == "required" => Choice::Required,
        Some(Value::Object(object)) => Choice::Named(named(object, &names)?),
        Some(_) => return Err(ApiError::field("tool_choice", "must be none, auto, required or a function")),
    };
    Ok(Some(Tools { list, choice }))
}

fn check(i: usize, tool: &Value) -> Result<&str, ApiError> {
    let at = |rest: &str| format!("tools[{i}]{rest}");
    let Some(tool) = tool.as_object() else { return Err(ApiError::field(at(""), "must be an object")) };
    match tool.get("type").and_then(Value::as_str) {
        Some("function") => {}
        Some(other) => {
            return Err(ApiError::unsupported(at(".type"), format!("this server calls only functions, not '{other}'")));
        }
        None => return Err(ApiError::field(at(".type"), "must be function")),
    }
    let Some(function) = tool.get("function").and_then(Value::as_object) else {
        return Err(ApiError::field(at(".function"), "must be an object with 'name' and 'parameters'"));
    };
    if !matches!(function.get("parameters"), None | Some(Value::Null | Value::Object(_))) {
        return Err(ApiError::field(at(".function.parameters"), "must be a JSON Schema, which is an object"));
    }
    match function.get("name").and_then(Value::as_str) {
        Some(name) if is_name(name) => Ok(name),
        _ => Err(ApiError::field(at(".function.name"), NAME)),
    }
}

fn named(choice: &Map<String, Value>, names: &[&str]) -> Result<usize, ApiError> {
    match choice.get("type").and_then(Value::as_str) {
        Some("function") => {}
        Some(other) => {
            let why = format!("this server knows only 'function' here, not '{other}'");
            return Err(ApiError::unsupported("tool_choice.type", why));
        }
        None => return Err(ApiError::field("tool_choice.type", "must be function")),
    }
    let name = choice.get("function").and_then(|f| f.get("name")).and_then(Value::as_str);
    let Some(name) = name else { return Err(ApiError::field("tool_choice.function.name", NAME)) };
    let place = names.iter().position(|known| *known == name);
    place.ok_or_else(|| {
        ApiError::field("tool_choice.function.name", format!("'{name}' is none of the tools: {}", names.join(", ")))
    })
}

impl Tools {
    pub(super) fn style(&self) -> CallStyle {
        match self.choice {
            Choice::Auto => CallStyle::Marked,
            Choice::Required | Choice::Named(_) => CallStyle::Bare,
        }
    }

    /// Compiles what bounds the answer.
    pub(super) fn grammar(&self, model: &ServedModel) -> Result<bantam_engine::Grammar, ApiError> {
        let schema = self.schema();
        let source = match self.style() {
            CallStyle::Marked => GrammarSource::TextOrJson { open: OPEN.into(), close: CLOSE.into(), schema },
            _ => GrammarSource::JsonSchema(schema),
        };
        model.engine.compile_grammar(&source).map_err(|error| {
            // The path begins where the schema of a tool was put.
            let rest = error.path().strip_prefix("$defs.").unwrap_or_default();
            let (index, rest) = rest.split_once('.').unwrap_or((rest, ""));
            match index.parse::<usize>() {
                Ok(i) => {
                    let dot = if rest.is_empty() { "" } else { "." };
                    ApiError::field(format!("tools[{i}].function.parameters{dot}{rest}"), error.why())
                }
                Err(_) => fault(&error, "tools"),
            }
        })
    }

    /// A call of one of the tools. Their schemas stand side by side, each with a name of its own, so that references
    /// in them stay in them.
    fn schema(&self) -> Value {
        let callable = |i: &usize| !matches!(self.choice, Choice::Named(only) if only != *i);
        let (mut schemas, mut calls) = (Map::new(), Vec::new());
        for i in (0..self.list.len()).filter(callable) {
            let function = &self.list[i]["function"];
            let mut schema = Map::new();
            schema.insert("$id".into(), format!("tool-{i}").into());
            match function.get("parameters") {
                Some(Value::Object(parameters)) => {
                    let own = parameters.iter().filter(|(key, _)| *key != "$id");
                    schema.extend(own.map(|(key, value)| (key.clone(), value.clone())));
                    schema.entry("type").or_insert_with(|| "object".into());
                }
                _ => schema.extend([("type".into(), "object".into()), ("additionalProperties".into(), false.into())]),
            }
            schemas.insert(i.to_string(), Value::Object(schema));
            calls.push(json!({
                "type": "object",
                "properties": { "name": { "const": function["name"] }, "arguments": { "$ref": format!("#/$defs/{i}") } },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            }));
        }
        json!({ "anyOf": calls, "$defs": schemas })
    }

    /// The list, for a template that shows it in the form of our calls.
    pub(super) fn shown_by(&self, template: &ChatTemplate) -> Option<&[Value]> {
        knows_calls(template).then_some(&self.list)
    }

    /// What other templates are given in the system message.
    pub(super) fn instruction(&self) -> String {
        let list: String = self.list.iter().map(|tool| format!("{}\n", tool["function"])).collect();
        let call = r#"{"name": <function name>, "arguments": <arguments as a JSON object>}"#;
        match self.choice {
            Choice::Auto => format!(
                "You may call one of these functions, described in JSON:\n{list}To call one, answer with\n{OPEN}{call}{CLOSE}\n\
                 Otherwise answer in plain text."
            ),
            Choice::Required => format!("Call one of these functions, described in JSON:\n{list}Answer with\n{call}"),
            Choice::Named(i) => {
                let name = &self.list[i]["function"]["name"];
                format!(
                    "Call the function {name}, described in JSON:\n{}\nAnswer with\n{call}",
                    self.list[i]["function"]
                )
            }
        }
    }
}

/// Whether a template writes tools, calls and results in the form of ours.
pub(super) fn knows_calls(template: &ChatTemplate) -> bool {
    let source = template.source();
    source.contains("tools") && source.contains("<tool_call>")
}

/// A message as templates expect it: arguments as an object, not as text.
pub(super) fn with_objects(mut message: Value) -> Value {
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(arguments) = call.pointer_mut("/function/arguments")
            && let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok())
        {
            *arguments = object;
        }
    }
    message
}

/// A message of calls, or a result, as text.
pub(super) fn as_text(message: Value) -> Value {
    let mut message = with_objects(message);
    let content = message.get("content").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(object) = message.as_object_mut() else { return message };
    if object.get("role").is_some_and(|role| role == "tool") {
        object.insert("role".into(), "user".into());
        object.insert("content".into(), format!("<tool_response>\n{content}\n</tool_response>").into());
    } else if let Some(Value::Array(calls)) = object.shift_remove("tool_calls") {
        let call = |call: &Value| {
            let function = &call["function"];
            let call = json!({ "name": function["name"], "arguments": function["arguments"] });
            format!("{OPEN}{call}{CLOSE}")
        };
        let calls: Vec<String> = calls.iter().map(call).collect();
        let between = if content.is_empty() { "" } else { "\n" };
        object.insert("content".into(), format!("{content}{between}{}", calls.join("\n")).into());
    }
    message
}

/// Puts a text at the end of the system message, or makes one of it.
pub(super) fn instruct(messages: &mut Vec<Value>, text: &str) {
    match messages.first_mut() {
        Some(first) if first["role"] == "system" => {
            let content = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{content}\n\n{text}").into();
        }
        _ => messages.insert(0, json!({ "role": "system", "content": text })),
    }
}

/// Puts a text before the first message of the user, for templates that refuse a system message.
pub(super) fn instruct_user(messages: &mut [Value], text: &str) {
    if let Some(first) = messages.iter_mut().find(|message| message["role"] == "user") {
        let content = first["content"].as_str().unwrap_or_default();
        first["content"] = format!("{text}\n\n{content}").into();
    }
}

/// Only one field may say what the answer must follow.
pub(super) fn only_one(fields: Vec<Wanted>, tools: Option<&Tools>) -> Result<Option<Wanted>, ApiError> {
    let mut fields = fields;
    if let (Some(_), Some(wanted)) = (tools, fields.first()) {
        let why = "cannot be combined with 'tools'; set 'tool_choice' to none, or leave one of them out";
        return Err(ApiError::unsupported(wanted.param.clone(), why));
    }
    match fields.len() {
        0 | 1 => Ok(fields.pop()),
        _ => Err(ApiError::field(
            "structured_outputs",
            "cannot be combined with 'response_format'; leave one of them out",
        )),
    }
}
