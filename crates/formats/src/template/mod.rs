//! Chat templates: the text that a model was trained to see for a list of messages, rendered as Hugging Face does.
//!
//! A template is a Jinja program that travels in the model file. It is evaluated here with the meaning that
//! `transformers` gives it (Jinja's immutable sandbox with `trim_blocks`, `lstrip_blocks`, loop controls, its own
//! `tojson`, `raise_exception`, `strftime_now`, and Python's values: `None`, `True`, `str.split`, slices).
//!
//! The evaluator is our own. General Jinja engines for Rust limit the number of instructions, but not what one of them
//! does: a dozen lines of `x ~ x` or `list + list` take all memory or never end, and deep values overflow the stack
//! when they are dropped. Here every step and byte is paid for from a budget (see [`TemplateLimits`]), nesting is
//! limited everywhere, and what cannot be had is a typed error.
//!
//! ```
//! use bantam_formats::template::{ChatInput, ChatTemplate, TemplateTokens};
//!
//! let source = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}";
//! let template = ChatTemplate::new(source, TemplateTokens::default())?;
//! let messages = [serde_json::json!({"role": "user", "content": " hi "})];
//! assert_eq!(template.render(&ChatInput { messages: &messages, ..ChatInput::default() })?, "<user>hi\n");
//! # Ok::<(), bantam_formats::template::TemplateError>(())
//! ```

mod args;
mod ast;
mod budget;
mod call;
mod error;
mod expression;
mod filters;
mod interpreter;
mod json;
mod lexer;
mod methods;
mod ops;
mod parser;
mod percent;
mod predicates;
mod sequences;
mod text;
mod value;

use std::collections::BTreeMap;

use chrono::NaiveDateTime;
use serde_json::{Map, Value as Json};

pub use budget::TemplateLimits;
pub use error::TemplateError;

use crate::gguf::Gguf;
use crate::tokenizer::Tokenizer;
use ast::Program;
use budget::{Budget, Eval, Fault};
use interpreter::Interpreter;
use value::Value;

/// Name of the template that is used when none is asked for.
const DEFAULT_NAME: &str = "default";
/// Name of the template that is used, when there is one, for conversations with tools.
const TOOL_USE_NAME: &str = "tool_use";
const GGUF_KEY: &str = "tokenizer.chat_template";

/// The chat templates of a model: one for most conversations, and possibly others by name.
#[derive(Debug)]
pub struct ChatTemplate {
    sources: BTreeMap<String, String>,
    programs: BTreeMap<String, Program>,
    tokens: TemplateTokens,
    limits: TemplateLimits,
}

/// The special tokens that a template can print. An absent one is undefined in the template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// `bos_token`
    pub bos: Option<String>,
    /// `eos_token`
    pub eos: Option<String>,
    /// `pad_token`
    pub pad: Option<String>,
    /// `unk_token`
    pub unk: Option<String>,
}

/// What is rendered.
#[derive(Debug, Clone, Default)]
pub struct ChatInput<'a> {
    /// The conversation: objects with `role`, `content` and whatever else the template knows.
    pub messages: &'a [Json],
    /// Descriptions of the tools that the model may call, in OpenAI's form.
    pub tools: Option<&'a [Json]>,
    /// Documents to answer from, for templates that know them.
    pub documents: Option<&'a [Json]>,
    /// Whether to end with what opens the assistant's answer.
    pub add_generation_prompt: bool,
    /// Further variables; they win over all others.
    pub extra: Map<String, Json>,
    /// Which template, for models with several; by default `tool_use` when there are tools and the model has one.
    pub name: Option<&'a str>,
    /// What `strftime_now` takes for now; `None` is the local clock.
    pub now: Option<NaiveDateTime>,
}

impl ChatTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] when the source is not a template, [`TemplateError::Limit`] when it is too long or
    /// nested too deeply.
    pub fn new(source: &str, tokens: TemplateTokens) -> Result<ChatTemplate, TemplateError> {
        ChatTemplate::with_names([(DEFAULT_NAME.to_owned(), source.to_owned())], tokens)
    }

    /// Reads several templates by name; the one named `default` serves when no other is asked for.
    ///
    /// # Errors
    /// As for [`ChatTemplate::new`].
    pub fn with_names(
        sources: impl IntoIterator<Item = (String, String)>,
        tokens: TemplateTokens,
    ) -> Result<ChatTemplate, TemplateError> {
        let sources: BTreeMap<String, String> = sources.into_iter().collect();
        let mut programs = BTreeMap::new();
        for (name, source) in &sources {
            programs.insert(name.clone(), parser::parse(source)?);
        }
        Ok(ChatTemplate { sources, programs, tokens, limits: TemplateLimits::default() })
    }

    /// The templates of a model file: `tokenizer.chat_template` and `tokenizer.chat_template.NAME`. `None` when it has
    /// none, as base models do; such a model can only continue texts.
    ///
    /// # Errors
    /// [`TemplateError::Gguf`] when the metadata has other types than it should, otherwise as for
    /// [`ChatTemplate::new`].
    pub fn from_gguf(gguf: &Gguf, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, TemplateError> {
        let mut sources = Vec::new();
        for (key, _) in gguf.metadata() {
            let Some(rest) = key.strip_prefix(GGUF_KEY) else { continue };
            let name = match rest.strip_prefix('.') {
                Some(name) => name,
                None if rest.is_empty() => DEFAULT_NAME,
                // `tokenizer.chat_templates` lists the names, which the keys give as well.
                None => continue,
            };
            sources.push((name.to_owned(), gguf.required::<&str>(key)?.to_owned()));
        }
        if sources.is_empty() {
            return Ok(None);
        }
        ChatTemplate::with_names(sources, TemplateTokens::of(tokenizer)).map(Some)
    }

    /// The templates that a Hugging Face `tokenizer_config.json` holds under `chat_template`: one text, or a list of
    /// objects with `name` and `template`. `None` when it has none. (Where a model has its template in
    /// `chat_template.jinja`, that file's text goes to [`ChatTemplate::new`].)
    ///
    /// # Errors
    /// [`TemplateError::Config`] when `chat_template` is something else, otherwise as for [`ChatTemplate::new`].
    pub fn from_hf_config(config: &Json, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>, TemplateError> {
        let named = |entry: &Json| {
            let text = |key: &str| entry.get(key).and_then(Json::as_str).map(str::to_owned);
            text("name").zip(text("template")).ok_or(TemplateError::Config)
        };
        let sources = match config.get("chat_template") {
            None | Some(Json::Null) => return Ok(None),
            Some(Json::String(source)) => vec![(DEFAULT_NAME.to_owned(), source.clone())],
            Some(Json::Array(entries)) => entries.iter().map(named).collect::<Result<_, _>>()?,
            Some(_) => return Err(TemplateError::Config),
        };
        ChatTemplate::with_names(sources, TemplateTokens::of(tokenizer)).map(Some)
    }

    /// Sets other limits than the default ones.
    pub fn with_limits(mut self, limits: TemplateLimits) -> ChatTemplate {
        self.limits = limits;
        self
    }

    /// The source of the template that serves when no other is asked for.
    pub fn source(&self) -> &str {
        let default = self.sources.get(DEFAULT_NAME).or_else(|| self.sources.values().next());
        default.map_or("", String::as_str)
    }

    /// Names of all templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The text for a conversation.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] when the template refuses the conversation, [`TemplateError::Failed`] when it is
    /// faulty, [`TemplateError::Limit`] when it takes too much time or memory, [`TemplateError::UnknownName`] when
    /// `input.name` is not one of [`ChatTemplate::names`].
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TemplateError> {
        let mut budget = Budget::new(self.limits);
        budget.grow(input.size());
        let mut interpreter = Interpreter::new(self.select(input)?, budget);
        interpreter.now = input.now;
        let rendered = self.bind(&mut interpreter, input).and_then(|()| interpreter.run());
        rendered.map_err(|fault| {
            let line = interpreter.line;
            match *fault {
                Fault::Raised(message) => TemplateError::Raised { message },
                Fault::Failed(message) => TemplateError::Failed { line, message },
                Fault::Limit { what, limit } => TemplateError::Limit { line, what, limit },
            }
        })
    }

    fn select(&self, input: &ChatInput<'_>) -> Result<&Program, TemplateError> {
        let name = match input.name {
            Some(name) => name,
            None if input.tools.is_some() && self.programs.contains_key(TOOL_USE_NAME) => TOOL_USE_NAME,
            None => DEFAULT_NAME,
        };
        let only = if self.programs.len() == 1 && input.name.is_none() { self.programs.values().next() } else { None };
        self.programs.get(name).or(only).ok_or_else(|| TemplateError::UnknownName {
            name: name.to_owned(),
            known: self.names().map(str::to_owned).collect(),
        })
    }

    fn bind(&self, interpreter: &mut Interpreter<'_>, input: &ChatInput<'_>) -> Eval<()> {
        let budget = &mut interpreter.budget;
        let messages = input.messages.iter().map(|message| json::from_json(budget, &with_reasoning(message)));
        let messages = messages.collect::<Eval<_>>()?;
        let mut variables = vec![("messages".to_owned(), budget.list(messages)?)];
        for (name, items) in [("tools", input.tools), ("documents", input.documents)] {
            let value = match items {
                Some(items) => {
                    let items = items.iter().map(|item| json::from_json(budget, item)).collect::<Eval<_>>()?;
                    budget.list(items)?
                }
                None => Value::None,
            };
            variables.push((name.to_owned(), value));
        }
        variables.push(("add_generation_prompt".to_owned(), Value::Bool(input.add_generation_prompt)));
        let TemplateTokens { bos, eos, pad, unk } = &self.tokens;
        for (name, token) in [("bos_token", bos), ("eos_token", eos), ("pad_token", pad), ("unk_token", unk)] {
            if let Some(token) = token {
                variables.push((name.to_owned(), budget.text(token)?));
            }
        }
        for (name, value) in &input.extra {
            let value = json::from_json(budget, value)?;
            variables.push((name.clone(), value));
        }
        variables.into_iter().try_for_each(|(name, value)| interpreter.set_variable(name.into(), value))
    }
}

impl<'a> ChatInput<'a> {
    /// A conversation that the assistant answers next, without tools.
    pub fn new(messages: &'a [Json]) -> ChatInput<'a> {
        ChatInput { messages, add_generation_prompt: true, ..ChatInput::default() }
    }

    /// Bytes of text in the conversation.
    fn size(&self) -> u64 {
        let lists = [Some(self.messages), self.tools, self.documents];
        let lists = lists.into_iter().flatten().flatten().map(json::json_size).sum::<u64>();
        lists + self.extra.iter().map(|(name, value)| name.len() as u64 + json::json_size(value)).sum::<u64>()
    }
}

impl TemplateTokens {
    /// The tokens of a model's tokenizer.
    pub fn of(tokenizer: &Tokenizer) -> TemplateTokens {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_str(id)).map(str::to_owned);
        TemplateTokens {
            bos: text(tokenizer.bos()),
            eos: text(tokenizer.eos()),
            pad: text(tokenizer.pad()),
            unk: text(tokenizer.unk()),
        }
    }
}

/// A message with its reasoning under every name that templates read it by, as Hugging Face passes it on.
fn with_reasoning(message: &Json) -> std::borrow::Cow<'_, Json> {
    let borrowed = std::borrow::Cow::Borrowed(message);
    let Json::Object(fields) = message else { return borrowed };
    let names = ["reasoning_content", "thinking", "reasoning"];
    let reasoning = names.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
    let Some(reasoning) = reasoning else { return borrowed };
    let mut completed = Map::new();
    completed.insert("thinking".to_owned(), reasoning.clone());
    for (name, value) in fields {
        completed.insert(name.clone(), value.clone());
    }
    completed.insert("reasoning_content".to_owned(), reasoning.clone());
    std::borrow::Cow::Owned(Json::Object(completed))
}
