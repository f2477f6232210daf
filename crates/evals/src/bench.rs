//! Speed through the engine, as its callers get it: each figure is a median over runs, and a share of a ceiling that the
//! machine was seen to reach.

use std::time::{Duration, Instant};

use bantam_engine::{Completion, Engine, GenerateError, GenerateRequest, PAGE_TOKENS, SamplingParams, SubmitError};
use bantam_kernels::Ceilings;
use bantam_models::ModelSummary;
use serde::Serialize;

/// Prompt of a stream, in tokens.
pub const STREAM_PROMPT: usize = 128;
/// Shared part of the prompts of [`Work::Classify`].
pub const SHARED_PROMPT: usize = 800;
/// What each request of [`Work::Classify`] adds.
pub const OWN_PROMPT: usize = 60;
/// Requests of [`Work::Classify`] under way at one time.
pub const CLASSIFY_CLIENTS: usize = 8;

/// Most streams at one time: each is waited for by a thread.
pub const MAX_STREAMS: usize = 1024;
/// Most requests of [`Work::Classify`]: their prompts are made before the clock starts.
pub const MAX_REQUESTS: usize = 10_000;

/// Something to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "work", rename_all = "snake_case")]
pub enum Work {
    /// One prompt, until its first token: prompt tokens per second.
    Prefill {
        /// Tokens of the prompt.
        prompt: usize,
    },
    /// One stream after its first token: generated tokens per second.
    Decode {
        /// Tokens generated.
        answer: usize,
    },
    /// Several streams that begin together, each with a prompt of [`STREAM_PROMPT`] tokens of its own: generated tokens
    /// of all over the time until the last is done.
    Streams {
        /// How many.
        streams: usize,
        /// Tokens that each generates.
        answer: usize,
    },
    /// Requests of [`SHARED_PROMPT`] equal and [`OWN_PROMPT`] different prompt tokens with an answer of one token, from
    /// [`CLASSIFY_CLIENTS`] clients: requests per second, the computing of the shared part included.
    Classify {
        /// How many.
        requests: usize,
    },
}

impl Work {
    /// What it is, in a few words.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            Work::Prefill { prompt } => format!("prefill {prompt}"),
            Work::Decode { answer } => format!("decode {answer}"),
            Work::Streams { streams, answer } => format!("{streams} streams, {STREAM_PROMPT} + {answer}"),
            Work::Classify { requests } => format!("{requests} requests, {SHARED_PROMPT} shared + {OWN_PROMPT}"),
        }
    }

    /// What is counted per second.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self {
            Work::Classify { .. } => "requests/s",
            _ => "tokens/s",
        }
    }

    /// Tokens of the longest sequence.
    fn longest(&self) -> usize {
        match *self {
            Work::Prefill { prompt } => prompt.saturating_add(1),
            Work::Decode { answer } => answer.saturating_add(DECODE_PROMPT),
            Work::Streams { answer, .. } => answer.saturating_add(STREAM_PROMPT),
            Work::Classify { .. } => SHARED_PROMPT + OWN_PROMPT + 1,
        }
    }
}

const DECODE_PROMPT: usize = 16;

/// A million tokens: what needs more is longer than any context.
const MAX_PAGES: usize = 1 << 16;

/// KV pages that hold any one of these works. A pool of no more is full after the first run, as that of a server is that
/// has answered for a while: no run is measured while the system still hands out the memory.
#[must_use]
pub fn kv_pages(works: &[Work]) -> usize {
    let pages = |work: &Work| {
        let sequences = match *work {
            Work::Prefill { .. } | Work::Decode { .. } => 1,
            Work::Streams { streams, .. } => streams.min(MAX_STREAMS),
            Work::Classify { .. } => CLASSIFY_CLIENTS,
        };
        work.longest().div_ceil(PAGE_TOKENS).saturating_add(1).saturating_mul(sequences)
    };
    works.iter().map(pages).max().unwrap_or(1).min(MAX_PAGES)
}

/// The rates of some runs of one work.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// What was done.
    #[serde(flatten)]
    pub work: Work,
    /// What `rate` counts per second.
    pub unit: &'static str,
    /// The median over the runs.
    pub rate: f64,
    /// The slowest run.
    pub min: f64,
    /// The fastest run.
    pub max: f64,
    /// The part of a ceiling that `rate` is, where one applies.
    pub share: Option<Share>,
}

/// A part of what the machine can do.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Which ceiling: `int8`, `f32` or `memory`.
    pub ceiling: &'static str,
    /// 1 is all of it.
    pub share: f64,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The context cannot hold it.
    #[error("{work} needs a context of {needed} tokens, but this model has {context_length}; leave it out")]
    TooLong {
        /// What was asked for.
        work: String,
        /// Its longest sequence.
        needed: usize,
        /// What the engine can hold.
        context_length: usize,
    },
    /// A number that measures nothing.
    #[error("{param}: must be at least {least}")]
    TooFew {
        /// Which number.
        param: &'static str,
        /// What is allowed.
        least: usize,
    },
    /// A number that takes too many threads or too much memory.
    #[error("{param}: must be at most {most}")]
    TooMany {
        /// Which number.
        param: &'static str,
        /// What is allowed.
        most: usize,
    },
    /// The engine did not take a request.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine could not finish one.
    #[error(transparent)]
    Engine(#[from] GenerateError),
}

/// Measures works on an engine.
#[derive(Debug)]
pub struct Bench<'a> {
    engine: &'a Engine,
    summary: &'a ModelSummary,
    ceilings: &'a Ceilings,
    /// The state of a small generator: no two prompts are alike, so that none is in the cache.
    random: u64,
}

impl<'a> Bench<'a> {
    /// Over an engine that does nothing else meanwhile; `summary` tells of its model, `ceilings` of the machine.
    #[must_use]
    pub fn new(engine: &'a Engine, summary: &'a ModelSummary, ceilings: &'a Ceilings) -> Self {
        Bench { engine, summary, ceilings, random: 0x9e37_79b9_7f4a_7c15 }
    }

    /// Whether a work can be measured here.
    ///
    /// # Errors
    /// [`BenchError::TooLong`], [`BenchError::TooFew`], [`BenchError::TooMany`].
    pub fn check(&self, work: &Work) -> Result<(), BenchError> {
        let few = match *work {
            Work::Prefill { prompt: 0 } => Some(("prompt", 1)),
            Work::Decode { answer: 0..2 } | Work::Streams { answer: 0..2, .. } => Some(("answer", 2)),
            Work::Streams { streams: 0, .. } => Some(("streams", 1)),
            Work::Classify { requests: 0 } => Some(("requests", 1)),
            _ => None,
        };
        if let Some((param, least)) = few {
            return Err(BenchError::TooFew { param, least });
        }
        match *work {
            Work::Streams { streams, .. } if streams > MAX_STREAMS => {
                return Err(BenchError::TooMany { param: "streams", most: MAX_STREAMS });
            }
            Work::Classify { requests } if requests > MAX_REQUESTS => {
                return Err(BenchError::TooMany { param: "classify", most: MAX_REQUESTS });
            }
            _ => {}
        }
        let (needed, context_length) = (work.longest(), self.engine.context_length());
        if needed > context_length {
            return Err(BenchError::TooLong { work: work.label(), needed, context_length });
        }
        Ok(())
    }

    /// Runs a work `repeats` times, after one run that does not count. `progress` hears of each run.
    ///
    /// # Errors
    /// See [`BenchError`].
    pub fn measure(&mut self, work: Work, repeats: usize, mut progress: impl FnMut()) -> Result<Measured, BenchError> {
        self.check(&work)?;
        if repeats == 0 {
            return Err(BenchError::TooFew { param: "repeat", least: 1 });
        }
        let mut rates = Vec::with_capacity(repeats);
        for run in 0..=repeats {
            let rate = self.run(work)?;
            if run > 0 {
                rates.push(rate);
            }
            progress();
        }
        rates.sort_by(f64::total_cmp);
        let rate = (rates[(rates.len() - 1) / 2] + rates[rates.len() / 2]) / 2.0;
        let (min, max) = (rates[0], rates[rates.len() - 1]);
        Ok(Measured { work, unit: work.unit(), rate, min, max, share: self.share(work, rate) })
    }

    fn run(&mut self, work: Work) -> Result<f64, BenchError> {
        match work {
            Work::Prefill { prompt } => {
                let prompt = self.tokens(prompt);
                let answer = self.engine.generate(request(&prompt, 1))?.blocking_collect()?;
                Ok(per_second(prompt.len(), answer.timings.prefill))
            }
            Work::Decode { answer } => {
                let prompt = self.tokens(DECODE_PROMPT);
                let timings = self.engine.generate(request(&prompt, answer))?.blocking_collect()?.timings;
                Ok(per_second(answer - 1, timings.decode))
            }
            Work::Streams { streams, answer } => {
                let prompts: Vec<_> = (0..streams).map(|_| self.tokens(STREAM_PROMPT)).collect();
                let start = Instant::now();
                self.all(&prompts, answer, streams)?;
                Ok(per_second(streams * answer, start.elapsed()))
            }
            Work::Classify { requests } => {
                let shared = self.tokens(SHARED_PROMPT);
                let prompts: Vec<_> = (0..requests).map(|_| [&shared[..], &self.tokens(OWN_PROMPT)].concat()).collect();
                let start = Instant::now();
                self.all(&prompts, 1, CLASSIFY_CLIENTS)?;
                Ok(per_second(requests, start.elapsed()))
            }
        }
    }

    /// Answers all prompts, `clients` at a time: whoever has an answer asks for the next.
    fn all(&self, prompts: &[Vec<u32>], answer: usize, clients: usize) -> Result<(), BenchError> {
        let next = std::sync::Mutex::new(prompts.iter());
        let client = || -> Result<(), BenchError> {
            loop {
                let Some(prompt) = next.lock().unwrap_or_else(|e| e.into_inner()).next() else { return Ok(()) };
                let _: Completion = self.engine.generate(request(prompt, answer))?.blocking_collect()?;
            }
        };
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..clients.min(prompts.len())).map(|_| scope.spawn(client)).collect();
            clients.into_iter().try_for_each(|client| match client.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn tokens(&mut self, n: usize) -> Vec<u32> {
        let vocab_size = self.engine.limits().vocab_size as u64;
        let mut token = || {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.random >> 33) % vocab_size) as u32
        };
        (0..n).map(|_| token()).collect()
    }

    /// Prefill computes: the matrix products of the layers against the arithmetic. Decoding reads: every weight once per
    /// token against the memory.
    fn share(&self, work: Work, rate: f64) -> Option<Share> {
        let summary = self.summary;
        match work {
            Work::Prefill { .. } => {
                let is_float = summary.formats.first().is_some_and(|f| matches!(&*f.format, "F32" | "F16" | "BF16"));
                let (ceiling, ops) =
                    if is_float { ("f32", self.ceilings.f32_ops) } else { ("int8", self.ceilings.int8_ops) };
                Some(Share { ceiling, share: rate * 2.0 * summary.layers.n_parameters as f64 / ops })
            }
            Work::Decode { .. } => {
                let bytes = summary.layers.n_bytes + summary.head.n_bytes;
                Some(Share { ceiling: "memory", share: rate * bytes as f64 / self.ceilings.read_bandwidth })
            }
            Work::Streams { .. } | Work::Classify { .. } => None,
        }
    }
}

fn request(prompt: &[u32], answer: usize) -> GenerateRequest {
    GenerateRequest {
        max_tokens: Some(answer),
        sampling: SamplingParams::greedy(),
        ignore_eos: true,
        ..GenerateRequest::new(prompt.to_vec())
    }
}

fn per_second(n: usize, time: Duration) -> f64 {
    n as f64 / time.as_secs_f64().max(1e-9)
}
