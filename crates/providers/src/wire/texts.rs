//! Where people's words stand in bodies and events: what a detector of personal data reads, and where pseudonyms are
//! put back.
//!
//! In bodies every string is shown but those that only programs read (ids, types, names of tools, encoded files), so a
//! field that nobody here knows is shown as well. Keys of objects and numbers are not.

use serde_json::{Map, Value};

use super::Api;
use super::thinking::{is_signed, unseal};

/// A body or an event of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A client's request.
    Request(Api),
    /// A whole answer.
    Answer(Api),
    /// The JSON of one event of a streamed answer.
    Event(Api),
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Instructions of the application.
    System,
    /// What the user says.
    User,
    /// What the model says.
    Assistant,
    /// What the model thinks.
    Reasoning,
    /// Thoughts that their server signed and wants back as they are: for reading only.
    SignedReasoning,
    /// A string inside a tool call's arguments.
    ToolArguments,
    /// What a tool answered.
    ToolResult,
    /// The description of a tool or of a field in a schema.
    Description,
    /// A name or an id of a person, or what the application noted about the request.
    Identity,
    /// The address of an image or a file: for reading only.
    Url,
    /// Any other string.
    Other,
}

/// How much of a text is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// All of it.
    Whole,
    /// A piece of a stream; the next piece of the same kind and slot goes on where it ends.
    Delta,
    /// A piece of a stream of JSON text: what is put in must be escaped as in a JSON string.
    JsonDelta,
}

/// One text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// What it is.
    pub kind: Kind,
    /// How much of it.
    pub extent: Extent,
    /// In a stream, which of its texts: pieces with the same kind and slot belong together.
    pub slot: u64,
}

type Visit<'a> = dyn FnMut(Place, &mut String) + 'a;

/// Shows every text of a body or an event, in order, for reading or changing.
pub fn for_each_text(value: &mut Value, part: Part, visit: &mut dyn FnMut(Place, &mut String)) {
    match part {
        Part::Request(_) => walk(value, Kind::Other, visit),
        Part::Answer(_) => walk(value, Kind::Assistant, visit),
        Part::Event(Api::Messages) => messages_event(value, visit),
        Part::Event(Api::Responses) => responses_event(value, visit),
        Part::Event(_) => chat_event(value, visit),
    }
}

fn whole(kind: Kind) -> Place {
    Place { kind, extent: Extent::Whole, slot: 0 }
}

/// Strings under these keys are for programs.
const FOR_PROGRAMS: [&str; 24] = [
    "call_id",
    "data",
    "detail",
    "effort",
    "embedding",
    "encoding_format",
    "encrypted_content",
    "file_data",
    "file_id",
    "finish_reason",
    "id",
    "item_id",
    "media_type",
    "mode",
    "model",
    "name",
    "object",
    "role",
    "service_tier",
    "signature",
    "status",
    "tool_call_id",
    "tool_use_id",
    "type",
];

fn walk(value: &mut Value, kind: Kind, visit: &mut Visit) {
    match value {
        Value::String(text) => visit(whole(kind), text),
        Value::Array(list) => list.iter_mut().for_each(|value| walk(value, kind, visit)),
        Value::Object(object) => walk_object(object, kind, visit),
        _ => {}
    }
}

fn walk_object(object: &mut Map<String, Value>, kind: Kind, visit: &mut Visit) {
    let own = own_kind(object).unwrap_or(kind);
    let is_message = object.contains_key("role");
    let object_type = object.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    for (key, value) in object.iter_mut() {
        match (key.as_str(), value) {
            ("logprobs" | "tool_choice" | "include" | "stream_options", _) => {}
            ("name", Value::String(name)) if is_message => visit(whole(Kind::Identity), name),
            // A plain text document.
            ("data", Value::String(text)) if object_type == "text" => visit(whole(own), text),
            ("url" | "image_url" | "file_url", Value::String(url)) => {
                if !url.starts_with("data:") {
                    visit(whole(Kind::Url), url);
                }
            }
            ("arguments", Value::String(json)) => arguments(json, visit),
            ("input", value) if object_type == "tool_use" => leaves(value, Kind::ToolArguments, visit),
            ("parameters" | "input_schema" | "schema" | "output_schema", schema @ Value::Object(_)) => {
                descriptions(schema, visit);
            }
            (key, Value::String(_)) if FOR_PROGRAMS.contains(&key) => {}
            (key, value) => walk(value, kind_of_key(key).unwrap_or(own), visit),
        }
    }
}

fn own_kind(object: &Map<String, Value>) -> Option<Kind> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    match text("type") {
        Some("tool_result" | "function_call_output" | "custom_tool_call_output") => return Some(Kind::ToolResult),
        Some("thinking") => {
            let signed = text("signature").is_some_and(|s| !s.is_empty());
            return Some(if signed { Kind::SignedReasoning } else { Kind::Reasoning });
        }
        Some("reasoning") => {
            let signed = text("encrypted_content").is_some_and(|e| unseal("", e).is_some_and(|b| is_signed(&b)));
            return Some(if signed { Kind::SignedReasoning } else { Kind::Reasoning });
        }
        _ => {}
    }
    match text("role") {
        Some("system" | "developer") => Some(Kind::System),
        Some("user") => Some(Kind::User),
        Some("assistant") => Some(Kind::Assistant),
        Some("tool" | "function") => Some(Kind::ToolResult),
        _ => None,
    }
}

fn kind_of_key(key: &str) -> Option<Kind> {
    Some(match key {
        "system" | "instructions" => Kind::System,
        "input" | "prompt" => Kind::User,
        "reasoning_content" | "reasoning" => Kind::Reasoning,
        "description" => Kind::Description,
        "user" | "safety_identifier" | "user_id" | "metadata" => Kind::Identity,
        _ => return None,
    })
}

/// Every string of a value that only has data.
fn leaves(value: &mut Value, kind: Kind, visit: &mut Visit) {
    match value {
        Value::String(text) => visit(whole(kind), text),
        Value::Array(list) => list.iter_mut().for_each(|value| leaves(value, kind, visit)),
        Value::Object(object) => object.values_mut().for_each(|value| leaves(value, kind, visit)),
        _ => {}
    }
}

/// The words of a schema; the rest of it is for programs.
fn descriptions(schema: &mut Value, visit: &mut Visit) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(|value| descriptions(value, visit)),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                match (key.as_str(), value) {
                    ("description" | "title" | "$comment", Value::String(text)) => {
                        visit(whole(Kind::Description), text);
                    }
                    ("default" | "example" | "examples", value) => leaves(value, Kind::Description, visit),
                    (_, value) => descriptions(value, visit),
                }
            }
        }
        _ => {}
    }
}

/// Arguments written as text: the strings inside them, so that what is put in is escaped.
fn arguments(json: &mut String, visit: &mut Visit) {
    let Ok(mut value) = serde_json::from_str::<Value>(json) else {
        visit(whole(Kind::ToolArguments), json);
        return;
    };
    let before = value.clone();
    leaves(&mut value, Kind::ToolArguments, visit);
    if value != before {
        *json = value.to_string();
    }
}

fn delta(value: Option<&mut Value>, kind: Kind, slot: u64, visit: &mut Visit) {
    if let Some(Value::String(text)) = value {
        let extent = if kind == Kind::ToolArguments { Extent::JsonDelta } else { Extent::Delta };
        visit(Place { kind, extent, slot }, text);
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn chat_event(event: &mut Value, visit: &mut Visit) {
    for choice in event.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
        let index = number(choice, "index");
        delta(choice.get_mut("text"), Kind::Assistant, index, visit);
        let Some(message) = choice.get_mut("delta") else { continue };
        for key in ["reasoning_content", "reasoning"] {
            delta(message.get_mut(key), Kind::Reasoning, index, visit);
        }
        for key in ["content", "refusal"] {
            delta(message.get_mut(key), Kind::Assistant, index, visit);
        }
        if let Some(blocks) = message.get_mut("thinking_blocks") {
            walk(blocks, Kind::Reasoning, visit);
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let slot = index << 32 | number(call, "index");
            delta(call.pointer_mut("/function/arguments"), Kind::ToolArguments, slot, visit);
        }
    }
}

fn messages_event(event: &mut Value, visit: &mut Visit) {
    let slot = number(event, "index");
    if let Some(block) = event.get_mut("content_block") {
        delta(block.get_mut("text"), Kind::Assistant, slot, visit);
        delta(block.get_mut("thinking"), Kind::Reasoning, slot, visit);
        if let Some(input) = block.get_mut("input") {
            leaves(input, Kind::ToolArguments, visit);
        }
    }
    if let Some(change) = event.get_mut("delta") {
        delta(change.get_mut("text"), Kind::Assistant, slot, visit);
        delta(change.get_mut("thinking"), Kind::Reasoning, slot, visit);
        delta(change.get_mut("partial_json"), Kind::ToolArguments, slot, visit);
    }
}

fn responses_event(event: &mut Value, visit: &mut Visit) {
    let slot = number(event, "output_index") << 32 | number(event, "content_index") | number(event, "summary_index");
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let kind = match kind.strip_suffix(".delta") {
        Some("response.function_call_arguments") => Kind::ToolArguments,
        Some(name) if name.starts_with("response.reasoning") => Kind::Reasoning,
        Some(_) => Kind::Assistant,
        None => {
            // A text, an item or a response that is whole.
            let kind = if kind.starts_with("response.reasoning") { Kind::Reasoning } else { Kind::Assistant };
            walk(event, kind, visit);
            return;
        }
    };
    delta(event.get_mut("delta"), kind, slot, visit);
}
