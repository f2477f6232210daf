//! `bantam run`: one answer, or a chat.

use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use bantam_engine::{Event, FinishReason, GenerateRequest, SamplingParams, Timings, Usage};
use bantam_formats::{ChatInput, EncodeOptions};
use clap::Args;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::cmd::chat;
use crate::cmd::grammar::{AnswerCut, GrammarArgs};
use crate::load::{EngineArgs, Loaded};
use crate::{interrupt, output};

/// Arguments of `bantam run`.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub(crate) struct RunArgs {
    /// Catalogue name, path of a .gguf file, or hf:org/repo/file.gguf
    model: String,
    /// What to say; without it, a chat begins (or the prompt is read from standard input, if that is not a terminal)
    prompt: Option<String>,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Continue the prompt as it is, without the model's chat template
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    form: GrammarArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    engine: EngineArgs,
}

/// How the next token is drawn.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// Most tokens to generate [default: up to the end of the context]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// 0 always takes the most likely token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Draw only from the K most likely tokens (0: all)
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw only from the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Draw only from tokens at least this likely relative to the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Above 1 makes tokens that already occurred less likely
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Makes the draws repeatable [default: drawn, and printed at the end]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// End the answer before this text (may be given several times)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl SamplingArgs {
    pub(crate) fn request(&self, prompt: Vec<u32>) -> GenerateRequest {
        let sampling = SamplingParams {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            ..SamplingParams::default()
        };
        GenerateRequest {
            max_tokens: self.max_tokens,
            sampling,
            stop: self.stop.clone(),
            ..GenerateRequest::new(prompt)
        }
    }
}

pub(crate) fn run(args: &RunArgs, globals: &Globals) -> anyhow::Result<()> {
    let prompt = match &args.prompt {
        Some(prompt) => Some(prompt.clone()),
        None if io::stdin().is_terminal() => None,
        None => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("cannot read the prompt from standard input")?;
            Some(text)
        }
    };
    if prompt.is_none() && (args.raw || globals.json) {
        bail!("--raw and --json need a prompt");
    }
    if prompt.is_none() && args.form.is_some() {
        bail!("a chat has no form; give a prompt");
    }
    if prompt.as_ref().is_some_and(|prompt| prompt.trim().is_empty()) {
        bail!("the prompt is empty");
    }
    let loaded = Loaded::open(&args.model, &args.engine, globals)?;
    let Some(prompt) = prompt else { return chat::run(&loaded, args, globals) };

    let ids = if args.raw {
        encode(&loaded, &prompt, EncodeOptions { add_special: true, parse_special: true })?
    } else {
        let mut messages = Vec::new();
        if let Some(system) = &args.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.push(json!({"role": "user", "content": prompt}));
        chat_prompt(&loaded, &messages)?
    };
    let request = GenerateRequest { grammar: args.form.compile(&loaded)?, ..args.sampling.request(ids) };
    let answer = generate(&loaded, request, Show { text: !globals.json })?;
    if globals.json {
        output::print_json(&answer.to_json(&loaded))?;
    } else if !globals.quiet {
        eprintln!("{}", answer.summary());
    }
    if answer.interrupted {
        std::process::exit(interrupt::EXIT_CODE);
    }
    if args.form.is_some() && answer.finish == Some(FinishReason::Length) {
        return Err(AnswerCut.into());
    }
    Ok(())
}

/// Token ids of a conversation, ready for the answer.
pub(crate) fn chat_prompt(loaded: &Loaded, messages: &[Value]) -> anyhow::Result<Vec<u32>> {
    let Some(template) = &loaded.template else {
        bail!("{} has no chat template: it is a base model; continue a text with --raw", loaded.id);
    };
    let text = template.render(&ChatInput::new(messages)).context("the model's chat template failed")?;
    // The template has written BOS itself if it wants one.
    encode(loaded, &text, EncodeOptions { add_special: false, parse_special: true })
}

fn encode(loaded: &Loaded, text: &str, options: EncodeOptions) -> anyhow::Result<Vec<u32>> {
    Ok(loaded.tokenizer.encode(text, options)?)
}

/// Whether the answer is printed as it comes.
pub(crate) struct Show {
    pub(crate) text: bool,
}

/// An answer and what it took.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) interrupted: bool,
    finish: Option<FinishReason>,
    usage: Usage,
    timings: Timings,
    seed: u64,
}

/// Generates one answer; Ctrl-C ends it.
pub(crate) fn generate(loaded: &Loaded, request: GenerateRequest, show: Show) -> anyhow::Result<Answer> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let _guard = interrupt::catch(move || flag.store(true, Ordering::Relaxed))?;

    let mut answer = Answer {
        text: String::new(),
        interrupted: false,
        finish: None,
        usage: Usage { prompt_tokens: request.prompt.len(), ..Usage::default() },
        timings: Timings::default(),
        seed: request.sampling.seed.unwrap_or_default(),
    };
    let mut generation = loaded.engine.generate(request)?;
    let mut out = io::stdout().lock();
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Token { text, .. } => {
                answer.usage.completion_tokens += 1;
                if show.text {
                    output::written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))?;
                }
                answer.text.push_str(&text);
            }
            Event::Done { finish, usage, timings, seed, .. } => {
                answer.finish = Some(finish);
                answer.usage = usage;
                answer.timings = timings;
                answer.seed = seed;
            }
            Event::Error(error) => return Err(error.into()),
        }
        if stop.load(Ordering::Relaxed) {
            answer.interrupted = true;
            break;
        }
    }
    if show.text {
        output::written(writeln!(out))?;
    }
    Ok(answer)
}

impl Answer {
    /// One line: counts, rates and the seed.
    pub(crate) fn summary(&self) -> String {
        if self.interrupted {
            return format!("[stopped after {} tokens]", self.usage.completion_tokens);
        }
        let computed = self.usage.prompt_tokens - self.usage.cached_tokens.min(self.usage.prompt_tokens);
        let mut line = format!("[prompt {} tokens", self.usage.prompt_tokens);
        if self.usage.cached_tokens > 0 {
            line += &format!(" ({} cached)", self.usage.cached_tokens);
        }
        let prefill = self.timings.prefill.as_secs_f64();
        if prefill > 0.0 {
            line += &format!(", {:.0} tokens/s", computed as f64 / prefill);
        }
        line += &format!("; answer {} tokens", self.usage.completion_tokens);
        if let Some(rate) = self.timings.decode_rate(self.usage.completion_tokens) {
            line += &format!(", {rate:.1} tokens/s");
        }
        if self.finish == Some(FinishReason::Length) {
            line += "; cut by the token limit";
        }
        line + &format!("; seed {}]", self.seed)
    }

    fn to_json(&self, loaded: &Loaded) -> Value {
        json!({
            "model": loaded.id,
            "text": self.text,
            "finish_reason": self.finish.map(|f| match f { FinishReason::Stop => "stop", FinishReason::Length => "length" }),
            "interrupted": self.interrupted,
            "seed": self.seed,
            "usage": {
                "prompt_tokens": self.usage.prompt_tokens,
                "cached_tokens": self.usage.cached_tokens,
                "completion_tokens": self.usage.completion_tokens,
            },
            "timings": {
                "prefill_seconds": self.timings.prefill.as_secs_f64(),
                "decode_seconds": self.timings.decode.as_secs_f64(),
                "decode_tokens_per_second": self.timings.decode_rate(self.usage.completion_tokens),
            },
        })
    }
}
