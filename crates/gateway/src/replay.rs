//! Computing a local answer again, to compare it with what was answered.

use bantam_engine::{Engine, GenerateRequest, GrammarSource, SamplingParams};
use serde::{Deserialize, Serialize};

use crate::prepare::Prepared;

/// Version of [`Replay`]'s form.
const VERSION: u32 = 1;

/// Everything that a local answer was computed from, and what was drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    v: u32,
    /// The model by the name it was served under.
    pub model: String,
    /// SHA-256 of its file in hex.
    pub digest: Option<String>,
    /// Version of the arithmetic.
    pub numerics: u32,
    prompts: Vec<Vec<u32>>,
    n: usize,
    max_tokens: Option<usize>,
    sampling: SamplingParams,
    stop: Vec<String>,
    stop_tokens: Vec<u32>,
    ignore_eos: bool,
    grammar: Option<GrammarSource>,
    /// What was drawn, choice by choice.
    pub(crate) drawn: Vec<Drawn>,
}

/// The tokens of one choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drawn {
    pub(crate) seed: u64,
    pub(crate) tokens: Vec<u32>,
}

/// What came of computing an answer again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Replayed {
    /// The same tokens.
    Same {
        /// How many.
        tokens: usize,
    },
    /// Other tokens.
    Differs {
        /// In which choice.
        choice: usize,
        /// From which token on.
        token: usize,
    },
}

/// An answer that cannot be computed again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The record is not what this program writes.
    #[error("the record of the answer cannot be read: {why}")]
    Record {
        /// What is wrong.
        why: String,
    },
    /// Another arithmetic computes other answers.
    #[error(
        "the answer was computed with numerics {was}, and this program has {have}; use the version of bantam that answered"
    )]
    Numerics {
        /// The answer's.
        was: u32,
        /// Ours.
        have: u32,
    },
    /// The engine does not take the request.
    #[error("the model here does not take the request: {why}")]
    Engine {
        /// What it says.
        why: String,
    },
}

impl Replay {
    pub(crate) fn of(prepared: &Prepared) -> Self {
        let (model, options) = (&prepared.model, &prepared.options);
        Self {
            v: VERSION,
            model: model.id.clone(),
            digest: model.digest.clone(),
            numerics: model.numerics,
            prompts: prepared.prompts.iter().map(|prompt| prompt.ids.clone()).collect(),
            n: prepared.n,
            max_tokens: options.max_tokens,
            sampling: options.sampling.clone(),
            stop: options.stop.clone(),
            stop_tokens: options.stop_tokens.clone(),
            ignore_eos: options.ignore_eos,
            grammar: options.grammar.as_ref().map(|grammar| grammar.source().clone()),
            drawn: Vec::new(),
        }
    }

    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    /// Reads what the ledger kept.
    ///
    /// # Errors
    /// [`ReplayError::Record`].
    pub fn read(bytes: &[u8]) -> Result<Self, ReplayError> {
        let replay: Self = serde_json::from_slice(bytes).map_err(|e| ReplayError::Record { why: e.to_string() })?;
        match replay.v {
            VERSION => Ok(replay),
            v => Err(ReplayError::Record { why: format!("it has version {v}, and {VERSION} is known") }),
        }
    }

    /// Computes the answer again, on an engine of the same model; blocks.
    ///
    /// # Errors
    /// [`ReplayError::Numerics`], [`ReplayError::Engine`].
    pub fn run(&self, engine: &Engine, numerics: u32) -> Result<Replayed, ReplayError> {
        if self.numerics != numerics {
            return Err(ReplayError::Numerics { was: self.numerics, have: numerics });
        }
        let failed = |why: &dyn std::fmt::Display| ReplayError::Engine { why: why.to_string() };
        let grammar = self.grammar.as_ref().map(|source| engine.compile_grammar(source)).transpose();
        let grammar = grammar.map_err(|e| failed(&e))?;
        let mut tokens = 0;
        let choices = self.prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt, self.n).enumerate());
        for (index, ((choice, prompt), drawn)) in choices.zip(&self.drawn).enumerate() {
            let request = GenerateRequest {
                max_tokens: self.max_tokens,
                sampling: SamplingParams { seed: Some(drawn.seed), ..self.sampling.clone() },
                stop: self.stop.clone(),
                stop_tokens: self.stop_tokens.clone(),
                ignore_eos: self.ignore_eos,
                choice_index: u32::try_from(choice).unwrap_or(u32::MAX),
                grammar: grammar.clone(),
                ..GenerateRequest::new(prompt.clone())
            };
            let completion = engine.generate(request).map_err(|e| failed(&e))?.blocking_collect();
            let again = completion.map_err(|e| failed(&e))?.tokens;
            if again != drawn.tokens {
                let token = again.iter().zip(&drawn.tokens).take_while(|(a, b)| a == b).count();
                return Ok(Replayed::Differs { choice: index, token });
            }
            tokens += again.len();
        }
        Ok(Replayed::Same { tokens })
    }
}
