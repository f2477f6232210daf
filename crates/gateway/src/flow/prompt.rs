//! What the router sees of a request, when it decides and when it learns.

use bantam_providers::wire::{self, Api};
use bantam_router::prompt::Asked;
use bantam_types::openai::{Message, read_fields};
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;

/// What the router sees of a request, whatever API it came by.
pub(super) fn prompt_of(body: &Value, api: Api) -> Result<Asked<'static>, ApiError> {
    #[derive(Deserialize)]
    struct Conversation {
        messages: Vec<Message>,
    }
    let translated;
    let chat = match api {
        Api::Chat => body,
        Api::Completions | Api::Embeddings => {
            let prompt = body.get("prompt").and_then(Value::as_str).unwrap_or_default();
            return Ok(Asked::prompt(prompt).into_owned());
        }
        Api::Responses | Api::Messages => {
            translated = wire::request(body.clone(), api, Api::Chat)?;
            &translated
        }
    };
    let mut asked = Asked::messages(&read_fields::<Conversation>(chat)?.messages).into_owned();
    asked.tools = body.get("tools").and_then(Value::as_array).map_or(0, Vec::len);
    let schema = ["response_format", "text", "output_config"].iter().find_map(|key| body.get(*key));
    asked.schema_chars = schema.map_or(0, |schema| schema.to_string().len());
    Ok(asked)
}

/// The same of a request as the ledger kept it: the API it came by, and its body. Nothing where it is no request that is routed.
#[must_use]
pub fn recorded_prompt(surface: &str, body: &[u8]) -> Option<Asked<'static>> {
    let api = Api::ALL.into_iter().find(|api| api.name() == surface && *api != Api::Embeddings)?;
    let asked = prompt_of(&serde_json::from_slice(body).ok()?, api).ok()?;
    (!asked.text.trim().is_empty()).then_some(asked)
}
