//! OpenAI's chat as Anthropic's messages.

use serde_json::{Map, Value, json};

use super::parts::{block_content, data_url, text, text_of};
use crate::wire::WireError;
use crate::wire::fields::{Fields, objects};
use crate::wire::thinking::is_signed;

/// What Anthropic's required `max_tokens` is for a chat request that has none.
pub const DEFAULT_MAX_TOKENS: u64 = 4096;

pub(super) fn translate(body: Value) -> Result<Value, WireError> {
    let mut body = Fields::body(body)?;
    let mut out = Map::new();
    body.keep(&["model"], &mut out);
    let mut turns = Turns::default();
    for one in body.required_objects("messages")? {
        turns.add(one)?;
    }
    if !turns.system.is_empty() {
        out.insert("system".into(), block_content(turns.system));
    }
    out.insert("messages".into(), turns.messages.into());
    let newer = body.number("max_completion_tokens")?;
    let older = body.number("max_tokens")?;
    let limit = newer.or(older).map_or(Value::from(DEFAULT_MAX_TOKENS), Value::Number);
    out.insert("max_tokens".into(), limit);
    sampling(&mut body, &mut out)?;
    tools(&mut body, &mut out)?;
    effort_and_format(&mut body, &mut out)?;
    let user = body.text("safety_identifier")?;
    if let Some(user) = user.or(body.text("user")?) {
        out.insert("metadata".into(), json!({"user_id": user}));
    }
    match body.text("service_tier")?.as_deref() {
        Some("default") => insert(&mut out, "service_tier", "standard_only"),
        Some("auto" | "priority") => insert(&mut out, "service_tier", "auto"),
        _ => {}
    }
    refuse_and_drop(&mut body)?;
    body.keep(&["stream"], &mut out);
    body.pass_rest(&mut out);
    Ok(out.into())
}

fn insert(out: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    out.insert(key.to_owned(), value.into());
}

fn sampling(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    if let Some(temperature) = body.number("temperature")? {
        if temperature.as_f64().is_some_and(|t| t > 1.0) {
            return Err(body.unsupported("temperature", "Anthropic's servers take 0 to 1"));
        }
        out.insert("temperature".into(), temperature.into());
    }
    body.keep(&["top_p", "top_k"], out);
    match body.take("stop") {
        None => {}
        Some(one @ Value::String(_)) => insert(out, "stop_sequences", json!([one])),
        Some(list @ Value::Array(_)) => insert(out, "stop_sequences", list),
        Some(_) => return Err(body.invalid("stop", "expected a string or an array of strings")),
    }
    Ok(())
}

fn refuse_and_drop(body: &mut Fields) -> Result<(), WireError> {
    const NONE: &str = "Anthropic's servers have nothing like it; leave it out";
    for (key, idle) in [
        ("n", json!(1)),
        ("presence_penalty", json!(0)),
        ("frequency_penalty", json!(0)),
        ("logit_bias", json!({})),
        ("logprobs", json!(false)),
        ("top_logprobs", json!(0)),
        ("modalities", json!(["text"])),
        ("store", json!(false)),
    ] {
        body.refuse_unless(key, &idle, NONE)?;
    }
    for key in ["audio", "web_search_options", "moderation"] {
        body.refuse(key, NONE)?;
    }
    for (key, instead) in [("functions", "tools"), ("function_call", "tool_choice")] {
        body.refuse(key, &format!("use '{instead}', its newer name"))?;
    }
    body.drop(&[
        "metadata",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "seed",
        "stream_options",
        "verbosity",
    ]);
    Ok(())
}

/// The conversation so far.
#[derive(Default)]
struct Turns {
    system: Vec<Value>,
    messages: Vec<Value>,
    /// The last message holds tool results and may take what the user says after them.
    open: bool,
}

impl Turns {
    fn add(&mut self, mut message: Fields) -> Result<(), WireError> {
        let role = message.required_text("role")?;
        match role.as_str() {
            "system" | "developer" => {
                let blocks = blocks(&mut message, "content")?;
                if self.messages.is_empty() {
                    self.system.extend(blocks);
                } else {
                    self.push("system", block_content(blocks));
                }
            }
            "user" => {
                let blocks = blocks(&mut message, "content")?;
                match self.results() {
                    Some(results) => {
                        results.extend(blocks);
                        self.open = false;
                    }
                    None => self.push("user", block_content(blocks)),
                }
            }
            "tool" => {
                let result = tool_result(message)?;
                match self.results() {
                    Some(results) => results.push(result),
                    None => {
                        self.push("user", json!([result]));
                        self.open = true;
                    }
                }
            }
            "assistant" => {
                let content = assistant(message)?;
                if !content.is_empty() {
                    self.push("assistant", block_content(content));
                }
            }
            "function" => {
                return Err(message.unsupported("role", "use role 'tool' with 'tool_call_id', its newer form"));
            }
            other => {
                return Err(message
                    .invalid("role", format!("expected system, developer, user, assistant or tool, found '{other}'")));
            }
        }
        Ok(())
    }

    fn push(&mut self, role: &str, content: Value) {
        self.open = false;
        self.messages.push(json!({"role": role, "content": content}));
    }

    /// The content of the last message, if it holds tool results and is open.
    fn results(&mut self) -> Option<&mut Vec<Value>> {
        self.messages.last_mut().filter(|_| self.open)?.get_mut("content")?.as_array_mut()
    }
}

/// Content as a list of blocks. Anthropic takes no empty texts, so they are left out of lists.
fn blocks(message: &mut Fields, key: &str) -> Result<Vec<Value>, WireError> {
    match message.take(key) {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![text(one)]),
        Some(Value::Array(list)) => {
            let parts = objects(&message.path(key), list)?;
            parts.into_iter().map(block).filter(|b| !b.as_ref().is_ok_and(is_empty_text)).collect()
        }
        Some(_) => Err(message.invalid(key, "expected a string or an array of content parts")),
    }
}

fn is_empty_text(block: &Value) -> bool {
    block.get("text").and_then(Value::as_str) == Some("")
}

fn block(mut part: Fields) -> Result<Value, WireError> {
    part.drop(&["prompt_cache_breakpoint"]);
    let kind = part.required_text("type")?;
    match kind.as_str() {
        "text" => text_of(part),
        "refusal" => Ok(text(part.required_text("refusal")?)),
        "image_url" => image(part),
        "file" => file(part),
        other => {
            Err(part
                .unsupported("type", format!("Anthropic's servers take no '{other}'; send text, images or PDF files")))
        }
    }
}

fn image(mut part: Fields) -> Result<Value, WireError> {
    let (place, url) = match part.required("image_url")? {
        Value::String(url) => (part.path("image_url"), url),
        object => {
            let mut image = Fields::at(part.path("image_url"), object)?;
            (image.path("url"), image.required_text("url")?)
        }
    };
    let source = if let Some((media_type, data)) = data_url(&url) {
        json!({"type": "base64", "media_type": media_type, "data": data})
    } else if url.starts_with("https://") || url.starts_with("http://") {
        json!({"type": "url", "url": url})
    } else {
        return Err(WireError::field(place, "expected an http(s) URL or a data URL in base64"));
    };
    let mut out = Map::new();
    out.insert("type".into(), "image".into());
    out.insert("source".into(), source);
    part.pass_rest(&mut out);
    Ok(out.into())
}

fn file(mut part: Fields) -> Result<Value, WireError> {
    let mut file = part.required_object("file")?;
    file.refuse("file_id", "the file is at another server; send it as 'file_data'")?;
    let data = file.required_text("file_data")?;
    let Some(("application/pdf", data)) = data_url(&data) else {
        return Err(file.unsupported("file_data", "Anthropic's servers take PDF files, as a data URL in base64"));
    };
    let mut out = Map::new();
    out.insert("type".into(), "document".into());
    out.insert("source".into(), json!({"type": "base64", "media_type": "application/pdf", "data": data}));
    file.rename("filename", "title", &mut out);
    part.pass_rest(&mut out);
    Ok(out.into())
}

fn tool_result(mut message: Fields) -> Result<Value, WireError> {
    let mut out = Map::new();
    out.insert("type".into(), "tool_result".into());
    out.insert("tool_use_id".into(), tool_id(&message.required_text("tool_call_id")?).into());
    out.insert("content".into(), block_content(blocks(&mut message, "content")?));
    message.drop(&["name"]);
    message.pass_rest(&mut out);
    Ok(out.into())
}

fn assistant(mut message: Fields) -> Result<Vec<Value>, WireError> {
    message.refuse("audio", "Anthropic's servers have no speech; send the text")?;
    message.refuse("function_call", "use 'tool_calls', its newer name")?;
    let mut out: Vec<Value> = message.list("thinking_blocks")?.unwrap_or_default();
    out.retain(is_signed);
    out.extend(blocks(&mut message, "content")?.into_iter().filter(|b| !is_empty_text(b)));
    if let Some(refusal) = message.text("refusal")?.filter(|r| !r.is_empty()) {
        out.push(text(refusal));
    }
    for mut call in message.objects("tool_calls")?.unwrap_or_default() {
        if let Some(kind) = call.text("type")?.filter(|kind| kind != "function") {
            return Err(call.unsupported("type", format!("Anthropic's servers have no '{kind}' tools; use functions")));
        }
        let id = call.required_text("id")?;
        let mut function = call.required_object("function")?;
        let name = function.required_text("name")?;
        let arguments = function.text("arguments")?.unwrap_or_default();
        let input = parse_arguments(&arguments)
            .ok_or_else(|| function.invalid("arguments", "expected a JSON object as text"))?;
        out.push(json!({"type": "tool_use", "id": tool_id(&id), "name": name, "input": input}));
    }
    Ok(out)
}

/// The object that a call's arguments are; none at all are an empty one.
pub(crate) fn parse_arguments(arguments: &str) -> Option<Value> {
    if arguments.trim().is_empty() {
        return Some(json!({}));
    }
    serde_json::from_str(arguments).ok().filter(Value::is_object)
}

/// Anthropic takes letters, digits, `_` and `-` in the ids of calls; other servers make up others.
fn tool_id(id: &str) -> String {
    id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

fn tools(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    let mut tools = Vec::new();
    for one in body.objects("tools")?.unwrap_or_default() {
        tools.push(tool(one)?);
    }
    let parallel = body.flag("parallel_tool_calls")?;
    let mut choice = match body.take("tool_choice") {
        None => None,
        Some(Value::String(mode)) => match mode.as_str() {
            "auto" | "none" => Some(json!({"type": mode})),
            "required" => Some(json!({"type": "any"})),
            _ => return Err(body.invalid("tool_choice", "expected auto, none, required or an object")),
        },
        Some(object) => Some(tool_choice(Fields::at(body.path("tool_choice"), object)?, &mut tools)?),
    };
    if !tools.is_empty() {
        out.insert("tools".into(), tools.into());
        if let Some(parallel) = parallel {
            let choice = choice.get_or_insert_with(|| json!({"type": "auto"}));
            if choice["type"] != "none" {
                choice["disable_parallel_tool_use"] = (!parallel).into();
            }
        }
    }
    if let Some(choice) = choice {
        out.insert("tool_choice".into(), choice);
    }
    Ok(())
}

fn tool(mut tool: Fields) -> Result<Value, WireError> {
    let kind = tool.required_text("type")?;
    if kind != "function" {
        return Err(tool.unsupported("type", format!("Anthropic's servers have no '{kind}' tools; use functions")));
    }
    let mut function = tool.required_object("function")?;
    let mut out = Map::new();
    out.insert("name".into(), function.required_text("name")?.into());
    function.keep(&["description"], &mut out);
    let schema = function.take("parameters").unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    out.insert("input_schema".into(), schema);
    function.pass_rest(&mut out);
    tool.pass_rest(&mut out);
    Ok(out.into())
}

/// A choice written as an object. A list of allowed tools means that the others are not offered.
fn tool_choice(mut choice: Fields, tools: &mut Vec<Value>) -> Result<Value, WireError> {
    match choice.required_text("type")?.as_str() {
        "function" => {
            let name = choice.required_object("function")?.required_text("name")?;
            Ok(json!({"type": "tool", "name": name}))
        }
        "allowed_tools" => {
            let mut allowed = choice.required_object("allowed_tools")?;
            let mode = allowed.required_text("mode")?;
            let mut names = Vec::new();
            for mut one in allowed.required_objects("tools")? {
                names.push(one.required_object("function")?.required_text("name")?);
            }
            tools.retain(|t| t["name"].as_str().is_some_and(|name| names.iter().any(|n| n == name)));
            Ok(json!({"type": if mode == "required" { "any" } else { "auto" }}))
        }
        other => Err(choice.unsupported("type", format!("Anthropic's servers cannot be held to '{other}'"))),
    }
}

/// How much to think and the shape of the answer, which Anthropic has in `output_config`.
fn effort_and_format(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    let mut config = match body.take("output_config") {
        Some(Value::Object(config)) => config,
        _ => Map::new(),
    };
    match body.text("reasoning_effort")?.as_deref() {
        Some("none") if body.has("thinking") => {}
        Some("none") => insert(out, "thinking", json!({"type": "disabled"})),
        Some("minimal") => insert(&mut config, "effort", "low"),
        Some(effort) => insert(&mut config, "effort", effort),
        None => {}
    }
    if let Some(mut format) = body.object("response_format")? {
        match format.required_text("type")?.as_str() {
            "text" => {}
            "json_schema" => {
                let schema = format.required_object("json_schema")?.required("schema")?;
                config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
            }
            "json_object" => {
                return Err(format.unsupported("type", "Anthropic's servers need a schema; use json_schema"));
            }
            other => return Err(format.unsupported("type", format!("expected text or json_schema, found '{other}'"))),
        }
    }
    if !config.is_empty() {
        out.insert("output_config".into(), config.into());
    }
    Ok(())
}
