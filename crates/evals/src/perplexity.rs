//! Perplexity by the rule of llama.cpp's `perplexity` tool, so that the two figures can be compared: consecutive windows
//! that do not overlap, the first half of each is context, every token after it is scored.

use bantam_engine::{Engine, GenerateError, ScoreHandle, ScoreRequest, SubmitError};

/// How the text is cut.
#[derive(Debug, Clone, Copy)]
pub struct PerplexityConfig {
    /// Tokens per window, and the stride from one window to the next.
    pub window: usize,
    /// Replaces the first token of every window, for models whose tokenizer begins each text with BOS.
    pub bos: Option<u32>,
}

/// What came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Perplexity {
    /// `exp` of the mean negative log-likelihood per scored token.
    pub perplexity: f64,
    /// Standard error of `perplexity`, from the spread of the log-likelihoods.
    pub standard_error: f64,
    /// Mean negative log-likelihood, in nats per token.
    pub nll: f64,
    /// Tokens that were scored.
    pub scored_tokens: usize,
    /// Windows that were used; what is left of the text after the last whole one is not.
    pub windows: usize,
    /// The most likely token at each scored position.
    #[serde(skip)]
    pub top1: Vec<u32>,
    /// The log-probability of the text's own token at each scored position.
    #[serde(skip)]
    pub logprobs: Vec<f32>,
}

/// Why no perplexity came out.
#[derive(Debug, thiserror::Error)]
pub enum PerplexityError {
    /// The window cannot be halved into context and scored tokens.
    #[error("window: {window} is too small, it must be at least 4 tokens")]
    WindowTooSmall {
        /// What was asked for.
        window: usize,
    },
    /// The window does not fit the model.
    #[error(
        "window: {window} tokens do not fit the context of {context_length}; choose a smaller window or a larger context"
    )]
    WindowTooLarge {
        /// What was asked for.
        window: usize,
        /// What the engine can hold.
        context_length: usize,
    },
    /// Not one whole window.
    #[error("the text has {tokens} tokens, less than one window of {window}; give a longer text or a smaller window")]
    TextTooShort {
        /// Tokens of the text.
        tokens: usize,
        /// What was asked for.
        window: usize,
    },
    /// The engine did not take the request.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine could not finish it.
    #[error(transparent)]
    Engine(#[from] GenerateError),
}

/// Scores `ids`, a whole text, window by window. `progress` hears of (windows done, windows in all).
///
/// # Errors
/// See [`PerplexityError`].
pub fn perplexity(
    engine: &Engine,
    ids: &[u32],
    config: &PerplexityConfig,
    mut progress: impl FnMut(usize, usize),
) -> Result<Perplexity, PerplexityError> {
    let window = config.window;
    if window < 4 {
        return Err(PerplexityError::WindowTooSmall { window });
    }
    let context_length = engine.context_length();
    if window > context_length {
        return Err(PerplexityError::WindowTooLarge { window, context_length });
    }
    let windows = ids.len() / window;
    if windows == 0 {
        return Err(PerplexityError::TextTooShort { tokens: ids.len(), window });
    }

    // One window is always under way while the next waits, so that the engine never idles.
    let submit = |w: usize| -> Result<ScoreHandle, PerplexityError> {
        let mut tokens = ids[w * window..(w + 1) * window].to_vec();
        if let Some(bos) = config.bos {
            tokens[0] = bos;
        }
        let scored = tokens.split_off(window / 2 + 1);
        Ok(engine.score(ScoreRequest::new(tokens, vec![scored]))?)
    };
    let (mut top1, mut logprobs) = (Vec::new(), Vec::new());
    let mut next = Some(submit(0)?);
    for w in 0..windows {
        let Some(handle) = next.take() else { break };
        if w + 1 < windows {
            next = Some(submit(w + 1)?);
        }
        for continuation in handle.blocking_wait()?.continuations {
            top1.extend(continuation.argmax);
            logprobs.extend(continuation.logprobs);
        }
        progress(w + 1, windows);
    }

    let n = logprobs.len() as f64;
    let nll = -logprobs.iter().map(|&l| f64::from(l)).sum::<f64>() / n;
    let variance = logprobs.iter().map(|&l| (-f64::from(l) - nll).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    Ok(Perplexity {
        perplexity: nll.exp(),
        standard_error: nll.exp() * (variance / n).sqrt(),
        nll,
        scored_tokens: logprobs.len(),
        windows,
        top1,
        logprobs,
    })
}
