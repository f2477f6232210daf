//! OpenAI's responses as chat. Nothing is kept between requests, so whatever refers to an earlier one is refused.

use serde_json::{Map, Value, json};

use super::parts::{chat_content, text, text_of};
use crate::wire::WireError;
use crate::wire::fields::{Fields, objects};
use crate::wire::thinking;

/// What becomes of thoughts of earlier turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reasoning {
    /// The server that made them wants them back.
    Keep,
    /// A chat server takes none.
    Drop,
}

pub(super) fn translate(body: Value, reasoning: Reasoning) -> Result<Value, WireError> {
    let mut body = Fields::body(body)?;
    refuse_state(&mut body)?;
    let mut out = Map::new();
    body.keep(&["model"], &mut out);
    let mut turns = Turns { messages: Vec::new(), assistant: Assistant::default(), reasoning };
    if let Some(instructions) = body.text("instructions")? {
        turns.messages.push(json!({"role": "system", "content": instructions}));
    }
    match body.required("input")? {
        Value::String(input) => turns.messages.push(json!({"role": "user", "content": input})),
        Value::Array(items) => {
            for item in objects("input", items)? {
                turns.add(item)?;
            }
        }
        _ => return Err(body.invalid("input", "expected a string or an array of items")),
    }
    turns.flush();
    out.insert("messages".into(), turns.messages.into());
    body.rename("max_output_tokens", "max_tokens", &mut out);
    body.keep(&["temperature", "top_p", "parallel_tool_calls", "stream", "user", "safety_identifier"], &mut out);
    stream_options(&mut body, &mut out)?;
    tools(&mut body, &mut out)?;
    text_and_reasoning(&mut body, &mut out)?;
    logprobs(&mut body, &mut out)?;
    body.drop(&["max_tool_calls", "metadata", "prompt_cache_options"]);
    body.pass_rest(&mut out);
    Ok(out.into())
}

/// In a request that went through chat, the names of chat's fields as the client knows them.
pub(super) fn name_fields(error: WireError) -> WireError {
    let rename = |path: String| {
        for (chat, responses) in [
            ("messages", "input"),
            ("max_tokens", "max_output_tokens"),
            ("response_format", "text.format"),
            ("reasoning_effort", "reasoning.effort"),
            ("logprobs", "top_logprobs"),
        ] {
            if path == chat || path.strip_prefix(chat).is_some_and(|rest| rest.starts_with(['.', '['])) {
                return responses.to_owned();
            }
        }
        path
    };
    match error {
        WireError::Field { path, why } => WireError::Field { path: rename(path), why },
        WireError::Unsupported { path, why } => WireError::Unsupported { path: rename(path), why },
        other => other,
    }
}

fn refuse_state(body: &mut Fields) -> Result<(), WireError> {
    const SEND_ALL: &str = "nothing is kept between requests; send the whole conversation as 'input'";
    for key in ["previous_response_id", "conversation"] {
        body.refuse(key, SEND_ALL)?;
    }
    body.refuse_unless("store", &json!(false), "answers are not stored; leave it out or send false")?;
    body.refuse_unless("background", &json!(false), "answers come at once or as a stream; leave it out")?;
    body.refuse("background_options", "answers come at once or as a stream; leave it out")?;
    body.refuse("prompt", "prompts are not stored; send its text as 'instructions'")?;
    body.refuse("context_management", "the conversation goes to the model as it is sent; leave it out")?;
    body.refuse_unless("truncation", &"disabled".into(), "the conversation goes to the model as it is sent; shorten it")
}

fn stream_options(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    let options = body.object("stream_options")?;
    if out.get("stream") == Some(&Value::Bool(true)) {
        let mut chat = Map::new();
        if let Some(options) = options {
            options.pass_rest(&mut chat);
        }
        // The last event of a Responses stream always tells the usage.
        chat.insert("include_usage".into(), true.into());
        out.insert("stream_options".into(), chat.into());
    }
    Ok(())
}

/// What the model said in one turn, which chat has in one message.
#[derive(Default)]
struct Assistant {
    parts: Vec<Value>,
    calls: Vec<Value>,
    thinking: Vec<Value>,
}

struct Turns {
    messages: Vec<Value>,
    assistant: Assistant,
    reasoning: Reasoning,
}

impl Turns {
    fn flush(&mut self) {
        let Assistant { parts, calls, thinking } = std::mem::take(&mut self.assistant);
        if parts.is_empty() && calls.is_empty() {
            return;
        }
        let mut message = Map::new();
        message.insert("role".into(), "assistant".into());
        message.insert("content".into(), if parts.is_empty() { Value::Null } else { chat_content(parts) });
        if !calls.is_empty() {
            message.insert("tool_calls".into(), calls.into());
        }
        if !thinking.is_empty() && self.reasoning == Reasoning::Keep {
            message.insert("thinking_blocks".into(), thinking.into());
        }
        self.messages.push(message.into());
    }

    fn add(&mut self, mut item: Fields) -> Result<(), WireError> {
        let kind = item.text("type")?.unwrap_or_else(|| "message".into());
        match kind.as_str() {
            "message" => self.message(item),
            "function_call" => {
                item.refuse("namespace", "chat has no namespaces of tools; leave it out")?;
                self.assistant.calls.push(json!({
                    "id": item.required_text("call_id")?,
                    "type": "function",
                    "function": {"name": item.required_text("name")?, "arguments": item.required_text("arguments")?},
                }));
                Ok(())
            }
            "function_call_output" => {
                self.flush();
                let id = item.required_text("call_id")?;
                let output = content(&mut item, "output")?;
                self.messages.push(json!({"role": "tool", "tool_call_id": id, "content": output}));
                Ok(())
            }
            "reasoning" => self.reasoning(item),
            "item_reference" => Err(item.unsupported("type", "nothing is kept between requests; send the item itself")),
            other => Err(item.unsupported("type", format!("only OpenAI's servers have '{other}' items"))),
        }
    }

    fn message(&mut self, mut item: Fields) -> Result<(), WireError> {
        let role = item.required_text("role")?;
        match role.as_str() {
            "assistant" => match content(&mut item, "content")? {
                Value::Array(parts) => self.assistant.parts.extend(parts),
                one => self.assistant.parts.push(text(one.as_str().unwrap_or_default())),
            },
            "user" | "system" | "developer" => {
                self.flush();
                // The older name of the role is known to more servers.
                let role = if role == "developer" { "system" } else { &role };
                let content = content(&mut item, "content")?;
                self.messages.push(json!({"role": role, "content": content}));
            }
            other => {
                return Err(
                    item.invalid("role", format!("expected user, assistant, system or developer, found '{other}'"))
                );
            }
        }
        Ok(())
    }

    fn reasoning(&mut self, mut item: Fields) -> Result<(), WireError> {
        let Some(encrypted) = item.text("encrypted_content")? else { return Ok(()) };
        let mut said = String::new();
        for key in ["summary", "content"] {
            for mut part in item.objects(key)?.unwrap_or_default() {
                said.push_str(&part.text("text")?.unwrap_or_default());
            }
        }
        self.assistant.thinking.extend(thinking::unseal(&said, &encrypted));
        Ok(())
    }
}

/// A text, or a list of parts, as chat has it.
fn content(item: &mut Fields, key: &str) -> Result<Value, WireError> {
    match item.required(key)? {
        Value::String(text) => Ok(text.into()),
        Value::Array(list) => {
            let parts = objects(&item.path(key), list)?;
            Ok(chat_content(parts.into_iter().map(part).collect::<Result<_, _>>()?))
        }
        _ => Err(item.invalid(key, "expected a string or an array of content parts")),
    }
}

fn part(mut part: Fields) -> Result<Value, WireError> {
    let kind = part.required_text("type")?;
    match kind.as_str() {
        "input_text" | "text" => text_of(part),
        "output_text" => {
            part.drop(&["annotations", "logprobs"]);
            text_of(part)
        }
        "refusal" => Ok(json!({"type": "refusal", "refusal": part.required_text("refusal")?})),
        "input_image" => {
            part.refuse("file_id", "the file is at another server; send the image as a URL or a data URL")?;
            let mut image = Map::new();
            image.insert("url".into(), part.required_text("image_url")?.into());
            part.keep(&["detail"], &mut image);
            Ok(json!({"type": "image_url", "image_url": image}))
        }
        "input_file" => {
            part.refuse("file_url", "chat takes no URL of a file; send it as 'file_data'")?;
            let mut file = Map::new();
            part.keep(&["file_data", "file_id", "filename"], &mut file);
            Ok(json!({"type": "file", "file": file}))
        }
        other => Err(part.unsupported("type", format!("chat has nothing like a '{other}' part"))),
    }
}

fn tools(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    if let Some(list) = body.objects("tools")? {
        let tools: Vec<Value> = list.into_iter().map(tool).collect::<Result<_, _>>()?;
        if !tools.is_empty() {
            out.insert("tools".into(), tools.into());
        }
    }
    let choice = match body.take("tool_choice") {
        None => return Ok(()),
        Some(mode @ Value::String(_)) => mode,
        Some(object) => tool_choice(Fields::at(body.path("tool_choice"), object)?)?,
    };
    // Without tools every choice but being held to one is none.
    if out.contains_key("tools") || !matches!(choice.as_str(), Some("auto" | "none")) {
        out.insert("tool_choice".into(), choice);
    }
    Ok(())
}

fn tool(mut tool: Fields) -> Result<Value, WireError> {
    let kind = tool.required_text("type")?;
    if kind != "function" {
        return Err(tool.unsupported("type", format!("'{kind}' tools are run by OpenAI's servers; offer functions")));
    }
    const AT_ONCE: &str = "chat offers all tools at once and waits for each; leave it out";
    tool.refuse_unless("defer_loading", &json!(false), AT_ONCE)?;
    tool.refuse_unless("async", &json!(false), AT_ONCE)?;
    tool.refuse_unless("allowed_callers", &json!(["direct"]), "chat's tools are called by the model alone")?;
    tool.drop(&["output_schema"]);
    let mut function = Map::new();
    tool.keep(&["name", "description", "parameters"], &mut function);
    tool.pass_rest(&mut function);
    Ok(json!({"type": "function", "function": function}))
}

fn tool_choice(mut choice: Fields) -> Result<Value, WireError> {
    match choice.required_text("type")?.as_str() {
        "function" => Ok(json!({"type": "function", "function": {"name": choice.required_text("name")?}})),
        "allowed_tools" => {
            let mode = choice.required_text("mode")?;
            let mut tools = Vec::new();
            for mut one in choice.required_objects("tools")? {
                if one.kind() != Some("function") {
                    return Err(one.unsupported("type", "only functions can be offered"));
                }
                tools.push(json!({"type": "function", "function": {"name": one.required_text("name")?}}));
            }
            Ok(json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}))
        }
        other => Err(choice.unsupported("type", format!("'{other}' is run by OpenAI's servers; choose a function"))),
    }
}

fn text_and_reasoning(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    if let Some(mut text) = body.object("text")? {
        text.keep(&["verbosity"], out);
        if let Some(mut format) = text.object("format")? {
            let kind = format.required_text("type")?;
            let format = if kind == "json_schema" {
                let mut schema = Map::new();
                format.keep(&["name", "description", "schema", "strict"], &mut schema);
                json!({"type": kind, "json_schema": schema})
            } else {
                json!({"type": kind})
            };
            if kind != "text" {
                out.insert("response_format".into(), format);
            }
        }
    }
    if let Some(mut reasoning) = body.object("reasoning")? {
        reasoning.rename("effort", "reasoning_effort", out);
        reasoning.refuse_unless("mode", &"standard".into(), "only OpenAI's servers have it; leave it out")?;
    }
    Ok(())
}

fn logprobs(body: &mut Fields, out: &mut Map<String, Value>) -> Result<(), WireError> {
    let mut wanted = false;
    for (i, one) in body.list("include")?.unwrap_or_default().into_iter().enumerate() {
        match one.as_str() {
            Some("message.output_text.logprobs") => wanted = true,
            // Thoughts come sealed in any case, and images are the client's own.
            Some("reasoning.encrypted_content" | "message.input_image.image_url") => {}
            _ => return Err(WireError::unsupported(format!("include[{i}]"), "only OpenAI's servers have it")),
        }
    }
    if let Some(top) = body.number("top_logprobs")?
        && (wanted || top.as_u64() != Some(0))
    {
        wanted = true;
        out.insert("top_logprobs".into(), top.into());
    }
    if wanted {
        out.insert("logprobs".into(), true.into());
    }
    Ok(())
}
