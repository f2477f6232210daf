//! `/v1/embeddings`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Request, State};
use axum::{Extension, Json};
use bantam_engine::TooLong;
use bantam_types::openai::{
    EmbeddingObject, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage, EmbeddingVector, Prompt, parse_fields,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::app::App;
use crate::body;
use crate::error::ApiError;
use crate::model::ServedEncoder;
use crate::observe::Trace;
use crate::prepare::token_ids;

/// How vectors are written.
#[derive(Clone, Copy)]
enum Encoding {
    Float,
    Base64,
}

/// A request that is ready for the encoder.
struct Prepared {
    encoder: Arc<ServedEncoder>,
    texts: Vec<Vec<u32>>,
    encoding: Encoding,
    dimensions: usize,
}

pub(super) async fn embeddings(
    State(app): State<Arc<App>>,
    Extension(trace): Extension<Arc<Trace>>,
    request: Request,
) -> Result<Json<EmbeddingResponse>, ApiError> {
    let mut bounds = app.bounds();
    // Held to the end.
    let (_place, request) = body::unless_refused(&app, request, app.admit()).await?;
    let work = async {
        let body = body::read(&app, request).await?;
        let (inner, trace) = (Arc::clone(&app), Arc::clone(&trace));
        app.cpu_task(body.bytes.len(), move || {
            let request: EmbeddingRequest = parse_fields(&body.bytes)?;
            let encoder = inner.encoder(request.model.as_deref())?;
            // Nobody else sets it.
            let _ = trace.model.set(encoder.id.clone());
            prepare(Arc::clone(encoder), request, inner.config.limits.texts)
        })
        .await
    };
    let Prepared { encoder, texts, encoding, dimensions } = bounds.run(work).await??;
    let tokens = texts.iter().map(Vec::len).sum();
    trace.prompt_tokens.fetch_add(tokens, Ordering::Relaxed);
    let context = encoder.embedder.context_length();
    let handle = encoder.embedder.embed(texts).map_err(|e| ApiError::submit(e, "input", context))?;
    let vectors = bounds.run(handle.wait()).await??.truncated(dimensions);
    let data = vectors.rows().enumerate().map(|(index, row)| EmbeddingObject {
        object: "embedding".into(),
        index,
        embedding: match encoding {
            Encoding::Float => EmbeddingVector::Float(row.to_vec()),
            Encoding::Base64 => {
                EmbeddingVector::Base64(STANDARD.encode(row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()))
            }
        },
    });
    let usage = EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens };
    Ok(Json(EmbeddingResponse { object: "list".into(), data: data.collect(), model: encoder.id.clone(), usage }))
}

fn prepare(encoder: Arc<ServedEncoder>, request: EmbeddingRequest, most: usize) -> Result<Prepared, ApiError> {
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
    Ok(Prepared { encoder, texts, encoding, dimensions })
}
