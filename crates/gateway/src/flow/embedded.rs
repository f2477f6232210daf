//! Vectors of encoders in this process.

use std::sync::Arc;

use bantam_engine::TooLong;
use bantam_providers::wire::Api;
use bantam_types::openai::{
    EmbeddingObject, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector, Prompt, read_fields,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::account::{Account, Answerer};
use super::{Answered, Scope};
use crate::error::ApiError;
use crate::model::ServedEncoder;
use crate::prepare::token_ids;
use crate::reply::{Noted, Reply};

/// How vectors are written.
#[derive(Clone, Copy)]
enum Encoding {
    Float,
    Base64,
}

/// A request that is ready for the encoder.
struct Prepared {
    texts: Vec<Vec<u32>>,
    encoding: Encoding,
    dimensions: usize,
}

impl Scope {
    pub(super) async fn embedded(
        &mut self,
        encoder: &Arc<ServedEncoder>,
        account: &mut Account,
    ) -> Result<Answered, ApiError> {
        if self.asked.api != Api::Embeddings {
            let (model, kind, fix) = (encoder.id.clone(), "an encoder", "/v1/embeddings");
            return Err(ApiError::WrongModelKind { model, kind, fix });
        }
        let (asked, app, of) = (Arc::clone(&self.asked), Arc::clone(&self.app), Arc::clone(encoder));
        let prepared = app.cpu_task(asked.bytes.len(), {
            let most = app.config.limits.texts;
            move || prepare(&of, read_fields(&asked.body)?, most)
        });
        let Prepared { texts, encoding, dimensions } = self.bounds.run(prepared).await??;
        let tokens = texts.iter().map(Vec::len).sum();
        let by = Answerer::Encoder(encoder.id.clone());
        account.answers(by.clone());
        self.trace.set_tokens(tokens as u64, 0, 0);
        account.durable().await?;
        let context = encoder.embedder.context_length();
        let handle = encoder.embedder.embed(texts).map_err(|e| ApiError::submit(e, "input", context))?;
        let vectors = self.bounds.run(handle.wait()).await??.truncated(dimensions);
        let data = vectors.rows().enumerate().map(|(index, row)| EmbeddingObject {
            object: "embedding".into(),
            index,
            embedding: match encoding {
                Encoding::Float => EmbeddingVector::Float(row.to_vec()),
                Encoding::Base64 => EmbeddingVector::Base64(
                    STANDARD.encode(row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()),
                ),
            },
        });
        let usage = EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens };
        let response =
            EmbeddingResponse { object: "list".into(), data: data.collect(), model: encoder.id.clone(), usage };
        let body = serde_json::to_vec(&response).map_err(|e| ApiError::internal(&e))?.into();
        let noted = Noted { prompt_tokens: tokens as u64, ..Noted::default() };
        Ok(Answered { reply: Reply::Whole { body, noted }, api: Api::Embeddings, by, target: None, pseudonyms: None })
    }
}

fn prepare(encoder: &ServedEncoder, request: EmbeddingRequest, most: usize) -> Result<Prepared, ApiError> {
    let encoding = match request.encoding_format.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            return Err(ApiError::field("encoding_format", format!("'{other}' is neither float nor base64")));
        }
    };
    let all = encoder.embedder.dimensions();
    let dimensions = match request.dimensions {
        None => all,
        Some(n) => usize::try_from(n).ok().filter(|n| (1..=all).contains(n)).ok_or_else(|| {
            ApiError::field("dimensions", format!("must be between 1 and the {all} of this encoder, is {n}"))
        })?,
    };
    let count = match &request.input {
        Prompt::Text(_) | Prompt::Tokens(_) => 1,
        Prompt::Texts(list) => list.len(),
        Prompt::TokenLists(list) => list.len(),
    };
    if count == 0 || count > most {
        return Err(ApiError::field("input", format!("must hold between 1 and {most} texts, holds {count}")));
    }
    let context = encoder.embedder.context_length();
    let encode = |path: String, text: &str| {
        if text.is_empty() {
            return Err(ApiError::field(path, "must not be empty"));
        }
        let ids = encoder.embedder.tokens(text, TooLong::Refuse)?;
        if ids.len() > context {
            return Err(ApiError::field(
                path,
                format!("has {} tokens, and {context} are the most this encoder takes", ids.len()),
            ));
        }
        Ok(ids)
    };
    let texts = match &request.input {
        Prompt::Text(text) => vec![encode("input".into(), text)?],
        Prompt::Texts(list) => {
            let texts = list.iter().enumerate();
            texts.map(|(i, text)| encode(format!("input[{i}]"), text)).collect::<Result<_, _>>()?
        }
        Prompt::Tokens(ids) => vec![token_ids(ids, |i| format!("input[{i}]"))?],
        Prompt::TokenLists(lists) => {
            let lists = lists.iter().enumerate();
            lists.map(|(j, ids)| token_ids(ids, |i| format!("input[{j}][{i}]"))).collect::<Result<_, _>>()?
        }
    };
    Ok(Prepared { texts, encoding, dimensions })
}
