//! `/v1/chat/completions`: checks the fields, renders the template, tokenises.

use std::sync::Arc;

use bantam_engine::MAX_LOGPROBS;
use bantam_formats::{ChatInput, EncodeOptions, TemplateError};
use bantam_types::openai::{ChatFields, ChatRequest, Content, ContentPart, Message};
use serde_json::{Map, Value};

use super::sampling::{Shared, alternatives, choices, max_tokens, shared};
use super::structured::response_format;
use super::tools::{self, Tools};
use super::{Prepared, PromptTokens};
use crate::answer::CallStyle;
use crate::error::ApiError;
use crate::model::ServedModel;

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

pub(crate) fn chat(model: Arc<ServedModel>, request: ChatRequest, max_choices: usize) -> Result<Prepared, ApiError> {
    refuse_unsupported(&request.own)?;
    let Shared { n, mut options, delivery, structured } = shared(request.common)?;
    choices(1, n, max_choices)?;
    let own = request.own;
    if let Some(n) = own.max_completion_tokens {
        options.max_tokens = Some(max_tokens("max_completion_tokens", n)?);
    }
    options.logprobs = match (own.logprobs.unwrap_or_default(), own.top_logprobs) {
        (true, n) => Some(alternatives("top_logprobs", n.unwrap_or_default(), MAX_LOGPROBS as i64)?),
        (false, None | Some(0)) => None,
        (false, Some(_)) => return Err(ApiError::field("top_logprobs", "needs 'logprobs' to be true")),
    };
    let tools = tools::tools(own.tools, own.tool_choice)?;
    let wanted = [response_format(own.response_format)?, structured].into_iter().flatten().collect();
    let wanted = tools::only_one(wanted, tools.as_ref())?;
    let ids = prompt(&model, own.messages, tools.as_ref())?;
    options.grammar = match (&tools, wanted) {
        (Some(tools), _) => Some(tools.grammar(&model)?),
        (None, wanted) => wanted.map(|wanted| wanted.compile(&model)).transpose()?,
    };
    let calls = tools.map_or(CallStyle::None, |tools| tools.style());
    let prompts = vec![PromptTokens { ids, echo: None }];
    let shows_logprobs = options.logprobs.is_some();
    Ok(Prepared { shows_logprobs, model, input: "messages", prompts, n, options, delivery, calls })
}

/// Features that change the answer and that this server does not have are refused, never ignored.
fn refuse_unsupported(own: &ChatFields) -> Result<(), ApiError> {
    let none = |v: &Value| v.as_str() == Some("none");
    let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty);
    let only_text = |v: &Value| v.as_array().is_some_and(|a| a.iter().all(|m| m == "text"));
    type Harmless<'a> = &'a dyn Fn(&Value) -> bool;
    let fields: [(&str, &Option<Value>, Harmless<'_>, &str); 5] = [
        ("functions", &own.functions, &empty, "use 'tools'"),
        ("function_call", &own.function_call, &none, "use 'tool_choice'"),
        ("modalities", &own.modalities, &only_text, "this server answers only with text"),
        ("audio", &own.audio, &|_| false, "this server answers only with text"),
        ("web_search_options", &own.web_search_options, &|_| false, "this server does not search the web"),
    ];
    for (name, value, harmless, why) in fields {
        if value.as_ref().is_some_and(|v| !harmless(v)) {
            return Err(ApiError::unsupported(name, why));
        }
    }
    Ok(())
}

fn prompt(model: &ServedModel, messages: Vec<Message>, tools: Option<&Tools>) -> Result<Vec<u32>, ApiError> {
    let Some(template) = &model.template else { return Err(ApiError::NoChatTemplate { model: model.id.clone() }) };
    if messages.is_empty() {
        return Err(ApiError::field("messages", "must hold at least one message"));
    }
    let form = if tools::knows_calls(template) { tools::with_objects } else { tools::as_text };
    let messages = messages.into_iter().enumerate().map(|(i, m)| template_message(i, m).map(form));
    let mut messages = messages.collect::<Result<Vec<_>, _>>()?;
    let shown = tools.and_then(|tools| tools.shown_by(template));
    let render = |messages: &[Value]| {
        template.render(&ChatInput { messages, tools: shown, add_generation_prompt: true, ..ChatInput::default() })
    };
    let text = match (tools, shown) {
        (Some(tools), None) => {
            let (mut with_system, instruction) = (messages.clone(), tools.instruction());
            tools::instruct(&mut with_system, &instruction);
            match render(&with_system) {
                Err(TemplateError::Raised { .. }) => {
                    tools::instruct_user(&mut messages, &instruction);
                    render(&messages)?
                }
                rendered => rendered?,
            }
        }
        _ => render(&messages)?,
    };
    // The template writes the special tokens itself, the one at the beginning included.
    Ok(model.tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true })?)
}

/// A message as chat templates expect it: an object whose content is one string.
fn template_message(i: usize, message: Message) -> Result<Value, ApiError> {
    let Message { role, content, extra } = message;
    if !ROLES.contains(&role.as_str()) {
        let why = format!("'{role}' is none of {}", ROLES.join(", "));
        return Err(ApiError::field(format!("messages[{i}].role"), why));
    }
    let content = match content {
        Some(Content::Text(text)) => Value::String(text),
        Some(Content::Parts(parts)) => Value::String(join(i, parts)?),
        None if role == "assistant" => Value::Null,
        None => return Err(ApiError::field(format!("messages[{i}].content"), "must be a string or an array of parts")),
    };
    // Templates know the older name of this role.
    let role = if role == "developer" { "system".to_string() } else { role };
    let mut object = Map::new();
    object.insert("role".into(), Value::String(role));
    object.insert("content".into(), content);
    object.extend(extra.into_iter().filter(|(key, _)| key != "role" && key != "content"));
    Ok(Value::Object(object))
}

fn join(i: usize, parts: Vec<ContentPart>) -> Result<String, ApiError> {
    let text_of = |(j, part): (usize, ContentPart)| match (part.kind.as_str(), part.text) {
        ("text", Some(text)) => Ok(text),
        ("text", None) => Err(ApiError::field(format!("messages[{i}].content[{j}].text"), "a text part needs it")),
        (kind, _) => Err(ApiError::unsupported(
            format!("messages[{i}].content[{j}].type"),
            format!("this server reads only text parts, not '{kind}'"),
        )),
    };
    parts.into_iter().enumerate().map(text_of).collect()
}
