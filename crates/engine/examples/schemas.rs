//! JSON Schemas by the thousand: which are taken, what they let through, how long masks take, and whether answers are
//! valid. `bench/schemas.py` runs it over jsonschemabench and checks its answers.
//!
//! `cargo run --release -p bantam-engine --example schemas -- masks MODEL.gguf MASKBENCH.jsonl`
//!
//! `cargo run --release -p bantam-engine --example schemas -- answers MODEL.gguf SCHEMAS.jsonl MAX_TOKENS STREAMS`
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    io::{BufRead, BufReader},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bantam_engine::{
    Completion, Engine, EngineConfig, EngineParts, FinishReason, GenerateRequest, Grammar, GrammarError, GrammarSource,
    Next, SamplingParams, Vocabulary,
};
use bantam_formats::{ChatInput, ChatTemplate, EncodeOptions, Gguf, Tokenizer};
use bantam_kernels::{Cpu, CpuConfig};
use bantam_models::Model;
use serde_json::{Value, json};

type Failure = Box<dyn Error>;

struct Bench {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["masks", model, data] => masks(&Bench::open(model)?, &read(data)?),
        ["answers", model, data, max_tokens, streams] => {
            answers(&Bench::open(model)?, &read(data)?, max_tokens.parse()?, streams.parse()?)
        }
        _ => Err("usage: schemas masks MODEL DATA, or schemas answers MODEL DATA MAX_TOKENS STREAMS".into()),
    }
}

impl Bench {
    fn open(path: &str) -> Result<Self, Failure> {
        let gguf = Gguf::open(Path::new(path))?;
        let cpu = Cpu::new(CpuConfig::default())?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(&gguf)?);
        let template = ChatTemplate::from_gguf(&gguf, &tokenizer)?;
        let model = Arc::new(Model::load_gguf(&cpu, &gguf)?);
        let parts = EngineParts { model, tokenizer: Arc::clone(&tokenizer), cpu };
        let engine = Engine::start(parts, EngineConfig::default())?;
        Ok(Bench { engine, tokenizer, template })
    }

    fn compile(&self, schema: &Value) -> Result<Grammar, GrammarError> {
        self.engine.compile_grammar(&GrammarSource::JsonSchema(schema.clone()))
    }
}

/// One object a line.
fn read(path: &str) -> Result<Vec<Value>, Failure> {
    let lines = BufReader::new(std::fs::File::open(path)?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// What a refusal is about, without what differs from schema to schema.
fn kind(error: &GrammarError) -> String {
    match error {
        GrammarError::UnsupportedKeyword { keyword, .. } => keyword.clone(),
        GrammarError::RemoteRef { .. } => "$ref out of the schema".into(),
        GrammarError::DanglingRef { .. } => "$ref to nothing".into(),
        other => {
            let text = other.to_string();
            text.split(['"', '\'', '/', '(', ':']).next().unwrap_or(&text).trim().chars().take(70).collect()
        }
    }
}

/// Compiles every schema and takes its examples through it, valid ones and others.
fn masks(bench: &Bench, data: &[Value]) -> Result<(), Failure> {
    let start = Instant::now();
    bench.engine.compile_grammar(&GrammarSource::JsonObject)?;
    println!("vocabulary of {} indexed in {:.0} ms", bench.tokenizer.len(), start.elapsed().as_secs_f64() * 1e3);
    let by_text: HashMap<&[u8], u32> =
        (0..bench.tokenizer.len() as u32).filter_map(|id| bench.tokenizer.text(id).map(|text| (text, id))).collect();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut times = Vec::new();
    let (mut n_accepted, mut wrong) = (0, Vec::new());
    let mut counts: BTreeMap<(bool, bool), usize> = BTreeMap::new();
    let mut slowest_compile = Duration::ZERO;
    for entry in data {
        let start = Instant::now();
        let grammar = match bench.compile(&entry["schema"]) {
            Ok(grammar) => grammar,
            Err(error) => {
                if std::env::var_os("SHOW").is_some() {
                    eprintln!("{}: {error}", entry["id"]);
                }
                *refused.entry(kind(&error)).or_default() += 1;
                slowest_compile = slowest_compile.max(start.elapsed());
                continue;
            }
        };
        slowest_compile = slowest_compile.max(start.elapsed());
        n_accepted += 1;
        for test in entry["tests"].as_array().into_iter().flatten() {
            let expected = test["valid"] == true;
            let text = spelled(&test["data"]);
            let found = follow(bench, &grammar, &text, &by_text, &mut times);
            *counts.entry((expected, found.is_ok())).or_default() += 1;
            if expected != found.is_ok() {
                wrong.push(format!("{} ({}): {found:?}", entry["id"], if expected { "valid" } else { "invalid" }));
            }
        }
    }
    println!("{n_accepted} of {} schemas accepted, slowest compilation {slowest_compile:.1?}", data.len());
    for (reason, n) in &refused {
        println!("  refused {n:4}  {reason}");
    }
    let count = |expected, accepted| counts.get(&(expected, accepted)).copied().unwrap_or(0);
    println!("valid examples: {} accepted, {} refused", count(true, true), count(true, false));
    println!("invalid examples: {} refused, {} accepted", count(false, false), count(false, true));
    for line in &wrong {
        println!("  {line}");
    }
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)));
    println!(
        "{} masks: p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, slowest {:.1?}",
        times.len(),
        at(0.5).copied().unwrap_or_default(),
        at(0.9).copied().unwrap_or_default(),
        at(0.99).copied().unwrap_or_default(),
        at(0.999).copied().unwrap_or_default(),
        at(1.0).copied().unwrap_or_default()
    );
    Ok(())
}

/// Takes a text through a grammar, by the tokenizer's tokens where those are allowed.
fn follow(
    bench: &Bench,
    grammar: &Grammar,
    text: &str,
    by_text: &HashMap<&[u8], u32>,
    times: &mut Vec<Duration>,
) -> Result<(), String> {
    let mut matcher = grammar.matcher();
    let (mut at, mut chunk): (usize, Vec<u32>) = (0, Vec::new());
    loop {
        matcher.allowed().map_err(|e| e.to_string())?;
        // What is known already, in the middle of a forced run, is no mask.
        let time = matcher.take_times();
        times.extend((time.count > 0).then_some(time.total));
        let next = matcher.allowed().map_err(|e| e.to_string())?;
        let rest = &text.as_bytes()[at..];
        let refused = || Err(format!("refused after {:?}", String::from_utf8_lossy(&text.as_bytes()[..at])));
        let id = match next {
            Next::Complete => return if rest.is_empty() { Ok(()) } else { refused() },
            Next::Forced(id) => {
                chunk.clear();
                *id
            }
            Next::AnyOf(set) if rest.is_empty() => {
                return if bench.tokenizer.eog().iter().any(|&id| set.contains(id)) { Ok(()) } else { refused() };
            }
            Next::AnyOf(set) => {
                if chunk.is_empty() {
                    let whole = text.get(at..).unwrap_or_default();
                    let end = (0..=whole.len().min(48)).rev().find(|&n| whole.is_char_boundary(n)).unwrap_or(0);
                    chunk = bench.tokenizer.encode_continuation(&whole[..end]).unwrap_or_default();
                    chunk.reverse();
                }
                let usual = chunk.pop().filter(|&id| set.contains(id));
                let shorter = || {
                    let pieces = (1..=rest.len().min(32)).rev().filter_map(|n| by_text.get(&rest[..n]));
                    pieces.copied().find(|&id| set.contains(id))
                };
                match usual {
                    Some(id) => id,
                    None => {
                        chunk.clear();
                        match shorter() {
                            Some(id) => id,
                            None => return refused(),
                        }
                    }
                }
            }
        };
        let piece = bench.tokenizer.text(id).unwrap_or_default();
        if !rest.starts_with(piece) || bench.tokenizer.is_eog(id) {
            return if rest.is_empty() && bench.tokenizer.is_eog(id) { Ok(()) } else { refused() };
        }
        matcher.take(id).map_err(|e| e.to_string())?;
        at += piece.len();
    }
}

/// JSON as grammars write it: a space after each comma and colon.
fn spelled(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(spelled).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", json!(key), spelled(value));
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Asks the model for an instance of each schema it takes, then for as much text without one; prints a line of JSON for
/// each answer, and what they took on standard error.
fn answers(bench: &Bench, data: &[Value], max_tokens: usize, streams: usize) -> Result<(), Failure> {
    let mut jobs = Vec::new();
    for entry in data {
        match bench.compile(&entry["schema"]) {
            Ok(grammar) => jobs.push((entry, grammar)),
            Err(error) => println!("{}", json!({ "id": entry["id"], "refused": error.to_string() })),
        }
    }
    let request = |entry: &Value, grammar: Option<&Grammar>, max_tokens| -> Result<GenerateRequest, Failure> {
        let schema: String = entry["schema"].to_string().chars().take(3000).collect();
        let text = format!("Write an example of JSON that is valid under this schema: {schema}");
        let text = match &bench.template {
            Some(template) => {
                let messages = [json!({ "role": "user", "content": text })];
                template.render(&ChatInput {
                    add_generation_prompt: true,
                    messages: &messages,
                    ..ChatInput::default()
                })?
            }
            None => text + "\n\n",
        };
        let prompt = bench.tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true })?;
        Ok(GenerateRequest {
            max_tokens: Some(max_tokens),
            sampling: SamplingParams { seed: Some(1), temperature: 0.7, ..SamplingParams::default() },
            ignore_eos: grammar.is_none(),
            grammar: grammar.cloned(),
            ..GenerateRequest::new(prompt)
        })
    };
    let mut totals = [(0, Duration::ZERO); 2];
    for chunk in jobs.chunks(streams.max(1)) {
        // Prompts are computed before the clock runs: they are the same with and without a grammar.
        let warm = chunk.iter().map(|(entry, _)| request(entry, None, 1)).collect::<Result<Vec<_>, _>>()?;
        run(&bench.engine, warm)?;
        let start = Instant::now();
        let asked = chunk.iter().map(|(entry, grammar)| request(entry, Some(grammar), max_tokens));
        let found = run(&bench.engine, asked.collect::<Result<Vec<_>, _>>()?)?;
        totals[0].1 += start.elapsed();
        let mut free = Vec::new();
        for ((entry, _), answer) in chunk.iter().zip(&found) {
            let line = match answer {
                Ok(answer) => {
                    totals[0].0 += answer.tokens.len();
                    free.push(request(entry, None, answer.tokens.len().max(1))?);
                    let cut = answer.finish == FinishReason::Length;
                    json!({ "id": entry["id"], "text": answer.text, "cut": cut, "tokens": answer.tokens.len() })
                }
                Err(error) => json!({ "id": entry["id"], "error": error }),
            };
            println!("{line}");
        }
        let start = Instant::now();
        let free = run(&bench.engine, free)?;
        totals[1].1 += start.elapsed();
        totals[1].0 += free.iter().flatten().map(|a| a.tokens.len()).sum::<usize>();
    }
    let per_token = totals.map(|(tokens, time)| time.as_secs_f64() * 1e3 / tokens.max(1) as f64);
    let stats = bench.engine.stats();
    eprintln!(
        "{streams} streams: {} tokens with a grammar at {:.3} ms each, {} without at {:.3} ms each, ratio {:.3}",
        totals[0].0,
        per_token[0],
        totals[1].0,
        per_token[1],
        per_token[0] / per_token[1]
    );
    eprintln!(
        "{} tokens were forced; {} masks: p50 {:.1?}, p99 {:.1?}, slowest {:.1?}, together {:.2?} of {:.2?}",
        stats.forced_tokens,
        stats.masks.count,
        stats.masks.quantile(0.5),
        stats.masks.quantile(0.99),
        stats.masks.max,
        stats.masks.total,
        totals[0].1
    );
    Ok(())
}

fn run(engine: &Engine, requests: Vec<GenerateRequest>) -> Result<Vec<Result<Completion, String>>, Failure> {
    let running: Vec<_> = requests.into_iter().map(|r| engine.generate(r)).collect::<Result<_, _>>()?;
    Ok(running.into_iter().map(|g| g.blocking_collect().map_err(|e| e.to_string())).collect())
}
