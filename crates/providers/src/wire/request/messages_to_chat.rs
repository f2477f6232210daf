//! Anthropic's messages as OpenAI's chat.

use serde_json::{Map, Value, json};

use super::parts::{chat_content, text, text_of};
use crate::wire::WireError;
use crate::wire::fields::{Fields, objects};

pub(super) fn translate(body: Value) -> Result<Value, WireError> {
    let mut body = Fields::body(body)?;
    let mut out = Map::new();
    body.keep(&["model"], &mut out);
    let mut messages = Vec::new();
    if body.has("system") {
        let content = content(&mut body, "system")?;
        messages.push(json!({"role": "system", "content": content}));
    }
    for one in body.required_objects("messages")? {
        message(one, &mut messages)?;
    }
    out.insert("messages".into(), messages.into());
    body.keep(&["max_tokens", "temperature", "top_p", "top_k", "stream"], &mut out);
    body.rename("stop_sequences", "stop", &mut out);
    if out.get("stream") == Some(&Value::Bool(true)) {
        // Anthropic's streams always tell the usage.
        out.insert("stream_options".into(), json!({"include_usage": true}));
    }
    tools(&mut body, &mut out)?;
    effort_and_format(&mut body, &mut out)?;
    if let Some(mut metadata) = body.object("metadata")? {
        metadata.rename("user_id", "user", &mut out);
        let mut rest = Map::new();
        metadata.pass_rest(&mut rest);
        if !rest.is_empty() {
            out.insert("metadata".into(), rest.into());
        }
    }
    if let Some(tier) = body.text("service_tier")? {
        out.insert("service_tier".into(), if tier == "standard_only" { "default".into() } else { tier.into() });
    }
    body.refuse_unless("speed", &"standard".into(), "only Anthropic's servers have it; leave it out")?;
    for key in ["container", "mcp_servers", "context_management", "inference_geo", "user_profile_id", "workspace_id"] {
        body.refuse(key, "only Anthropic's servers have it; leave it out or choose one of their models")?;
    }
    body.drop(&["cache_control", "diagnostics", "betas"]);
    body.pass_rest(&mut out);
    Ok(out.into())
}

/// A text, or a list of blocks, as chat has it.
fn content(holder: &mut Fields, key: &str) -> Result<Value, WireError> {
    match holder.take(key) {
        None => Ok(Value::String(String::new())),
        Some(Value::String(text)) => Ok(text.into()),
        Some(Value::Array(list)) => {
            let blocks = objects(&holder.path(key), list)?;
            Ok(chat_content(blocks.into_iter().map(part).collect::<Result<_, _>>()?))
        }
        Some(_) => Err(holder.invalid(key, "expected a string or an array of content blocks")),
    }
}

fn message(mut message: Fields, out: &mut Vec<Value>) -> Result<(), WireError> {
    let role = message.required_text("role")?;
    match role.as_str() {
        "system" => out.push(json!({"role": "system", "content": content(&mut message, "content")?})),
        "user" => user(message, out)?,
        "assistant" => out.push(assistant(message)?),
        other => {
            return Err(message.invalid("role", format!("expected user, assistant or system, found '{other}'")));
        }
    }
    Ok(())
}

/// Tool results become messages of their own, before the rest of what the user says: chat wants them right after the
/// calls, and Anthropic wants them first as well.
fn user(mut message: Fields, out: &mut Vec<Value>) -> Result<(), WireError> {
    let list = match message.required("content")? {
        Value::Array(list) => list,
        Value::String(text) => {
            out.push(json!({"role": "user", "content": text}));
            return Ok(());
        }
        _ => return Err(message.invalid("content", "expected a string or an array of content blocks")),
    };
    let mut parts = Vec::new();
    let mut results = false;
    for mut block in objects(&message.path("content"), list)? {
        if block.kind() != Some("tool_result") {
            parts.push(block);
            continue;
        }
        results = true;
        let id = block.required_text("tool_use_id")?;
        block.refuse("toolset_name", "chat has no toolsets; leave it out")?;
        let content = content(&mut block, "content")?;
        out.push(json!({"role": "tool", "tool_call_id": id, "content": content}));
    }
    if !parts.is_empty() || !results {
        let parts = parts.into_iter().map(part).collect::<Result<_, _>>()?;
        out.push(json!({"role": "user", "content": chat_content(parts)}));
    }
    Ok(())
}

fn assistant(mut message: Fields) -> Result<Value, WireError> {
    let list = match message.required("content")? {
        Value::Array(list) => list,
        Value::String(text) => return Ok(json!({"role": "assistant", "content": text})),
        _ => return Err(message.invalid("content", "expected a string or an array of content blocks")),
    };
    let (mut parts, mut calls) = (Vec::new(), Vec::new());
    for mut block in objects(&message.path("content"), list)? {
        match block.text("type")?.as_deref() {
            // A chat server keeps no thoughts of earlier turns.
            Some("thinking" | "redacted_thinking") => {}
            Some("tool_use") => calls.push(call(block)?),
            Some("text") => {
                block.drop(&["cache_control", "citations"]);
                parts.push(text_of(block)?);
            }
            kind => return Err(unknown_block(&block, kind)),
        }
    }
    let mut out = Map::new();
    out.insert("role".into(), "assistant".into());
    let content = if parts.is_empty() && !calls.is_empty() { Value::Null } else { chat_content(parts) };
    out.insert("content".into(), content);
    if !calls.is_empty() {
        out.insert("tool_calls".into(), calls.into());
    }
    Ok(out.into())
}

fn call(mut block: Fields) -> Result<Value, WireError> {
    block.refuse("toolset_name", "chat has no toolsets; leave it out")?;
    block.refuse_unless("caller", &json!({"type": "direct"}), "chat's tools are called by the model alone")?;
    let input = block.required("input")?;
    if !input.is_object() {
        return Err(block.invalid("input", "expected an object"));
    }
    Ok(json!({
        "id": block.required_text("id")?,
        "type": "function",
        "function": {"name": block.required_text("name")?, "arguments": input.to_string()},
    }))
}

fn unknown_block(block: &Fields, kind: Option<&str>) -> WireError {
    match kind {
        None => block.invalid("type", "the field is missing"),
        Some(kind) => block.unsupported("type", format!("chat has nothing like a '{kind}' block here")),
    }
}

/// A block of text, an image or a document as a part of a chat message.
fn part(mut block: Fields) -> Result<Value, WireError> {
    block.drop(&["cache_control"]);
    match block.required_text("type")?.as_str() {
        "text" => {
            block.drop(&["citations"]);
            text_of(block)
        }
        "image" => {
            block.refuse("transformations", "chat has no such option; leave it out")?;
            let url = source(&mut block, "image")?;
            Ok(json!({"type": "image_url", "image_url": {"url": url}}))
        }
        "document" => document(block),
        other => Err(unknown_block(&block, Some(other))),
    }
}

/// Where an image or a file is, as a URL.
fn source(block: &mut Fields, what: &str) -> Result<String, WireError> {
    let mut source = block.required_object("source")?;
    match source.required_text("type")?.as_str() {
        "base64" => {
            Ok(format!("data:{};base64,{}", source.required_text("media_type")?, source.required_text("data")?))
        }
        "url" => source.required_text("url"),
        other => Err(source.unsupported(
            "type",
            format!("an {what} from a '{other}' source cannot go to a chat server; send it as base64"),
        )),
    }
}

fn document(mut block: Fields) -> Result<Value, WireError> {
    let title = block.text("title")?;
    block.refuse("context", "chat has no place for it; put it into a text block")?;
    if let Some(mut citations) = block.object("citations")? {
        citations.refuse_unless("enabled", &Value::Bool(false), "chat has no citations; leave it out")?;
    }
    let mut source = block.required_object("source")?;
    match source.required_text("type")?.as_str() {
        "text" => Ok(text(source.required_text("data")?)),
        "base64" => {
            let (media_type, data) = (source.required_text("media_type")?, source.required_text("data")?);
            Ok(json!({
                "type": "file",
                "file": {
                    "filename": title.unwrap_or_else(|| "document.pdf".into()),
                    "file_data": format!("data:{media_type};base64,{data}"),
                },
            }))
        }
        other => Err(source.unsupported(
            "type",
            format!("a document from a '{other}' source cannot go to a chat server; send it as base64 or text"),
        )),
    }
}

fn tools(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    if let Some(list) = body.objects("tools")? {
        let tools: Vec<Value> = list.into_iter().map(tool).collect::<Result<_, _>>()?;
        out.insert("tools".into(), tools.into());
    }
    let Some(mut choice) = body.object("tool_choice")? else { return Ok(()) };
    let kind = choice.required_text("type")?;
    let chosen = match kind.as_str() {
        "auto" | "none" => kind.into(),
        "any" => "required".into(),
        "tool" => json!({"type": "function", "function": {"name": choice.required_text("name")?}}),
        other => return Err(choice.invalid("type", format!("expected auto, any, tool or none, found '{other}'"))),
    };
    out.insert("tool_choice".into(), chosen);
    if let Some(disable) = choice.flag("disable_parallel_tool_use")? {
        out.insert("parallel_tool_calls".into(), (!disable).into());
    }
    Ok(())
}

fn tool(mut tool: Fields) -> Result<Value, WireError> {
    if let Some(kind) = tool.text("type")?.filter(|kind| kind != "custom") {
        return Err(tool.unsupported("type", format!("'{kind}' is run by Anthropic's servers; offer your own tools")));
    }
    tool.refuse_unless("defer_loading", &Value::Bool(false), "chat offers all tools at once; leave it out")?;
    tool.refuse_unless("allowed_callers", &json!(["direct"]), "chat's tools are called by the model alone")?;
    tool.drop(&["cache_control", "eager_input_streaming", "input_examples"]);
    let mut function = Map::new();
    function.insert("name".into(), tool.required_text("name")?.into());
    tool.keep(&["description"], &mut function);
    function.insert("parameters".into(), tool.required("input_schema")?);
    tool.pass_rest(&mut function);
    Ok(json!({"type": "function", "function": function}))
}

/// How much to think and the shape of the answer, which Anthropic has in `thinking` and `output_config`.
fn effort_and_format(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    let mut format = body.object("output_format")?;
    let mut effort = None;
    if let Some(mut config) = body.object("output_config")? {
        effort = config.text("effort")?;
        if let Some(inner) = config.object("format")? {
            format = Some(inner);
        }
    }
    if let Some(mut thinking) = body.object("thinking")? {
        let kind = thinking.required_text("type")?;
        let budget = thinking.number("budget_tokens")?.and_then(|n| n.as_u64());
        if let (None, "enabled", Some(budget)) = (&effort, kind.as_str(), budget) {
            effort = Some(effort_of(budget).into());
        }
    }
    if let Some(effort) = effort {
        out.insert("reasoning_effort".into(), effort.into());
    }
    let Some(mut format) = format else { return Ok(()) };
    match format.required_text("type")?.as_str() {
        "json_schema" => {
            let schema = format.required("schema")?;
            out.insert(
                "response_format".into(),
                json!({"type": "json_schema", "json_schema": {"name": "output", "schema": schema, "strict": true}}),
            );
            Ok(())
        }
        other => Err(format.unsupported("type", format!("expected json_schema, found '{other}'"))),
    }
}

/// Chat knows degrees where Anthropic's older models know tokens.
fn effort_of(budget: u64) -> &'static str {
    match budget {
        0..4096 => "low",
        4096..16384 => "medium",
        _ => "high",
    }
}
