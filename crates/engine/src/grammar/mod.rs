//! Grammars that answers must follow.
//!
//! A [`Grammar`] is compiled once, on the thread of whoever asks for it, against the vocabulary of one engine, and kept
//! in a small cache: a task that sends the same schema again and again pays once. The work is done by `llguidance` (an
//! Earley parser over a lexer of regular-expression derivatives) under limits on size, time and memory; what it cannot
//! hold an answer to is refused with a reason, never ignored.
//!
//! JSON is written with one space after each `,` and `:` and no other whitespace, as Python's `json.dumps` writes it:
//! models have seen most of their JSON so, nothing is left to be padded with blanks forever, and what stands between
//! two values is forced and costs no step of its own.

mod error;
mod matcher;
mod schema;
mod source;
mod times;
mod vocabulary;

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use llguidance::{
    Matcher, ParserFactory, api::ParserLimits, earley::SlicedBiasComputer, toktrie::InferenceCapabilities,
};

pub use error::GrammarError;
pub use matcher::{GrammarFault, GrammarMatcher, Next, TokenSet};
pub use source::{GrammarSource, MAX_CHOICES, MAX_GRAMMAR_BYTES, MAX_REGEX_BYTES, MAX_SCHEMA_BYTES};
pub use times::MaskTimes;
pub use vocabulary::Vocabulary;

/// Compiled grammars that are kept.
const CACHED: usize = 32;

/// Stack of the thread that compiles: parsers recurse as deeply as their input nests, which the limits on its size keep
/// well inside this. Only what is used of it takes memory.
const STACK_BYTES: usize = 256 << 20;

/// What a compilation and each mask after it may take. Work is counted in units of the grammar engine and not in
/// time, so that what fails does so on every machine.
fn limits() -> ParserLimits {
    ParserLimits { max_lexer_states: 50_000, verbose_errors: false, ..ParserLimits::default() }
}

/// A compiled grammar; clones are handles to the same one.
#[derive(Clone)]
pub struct Grammar {
    start: Arc<Mutex<GrammarMatcher>>,
    vocabulary: Arc<dyn Vocabulary>,
    source: Arc<GrammarSource>,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// A new text that follows it. What one text costs does not depend on those that went before: each begins with
    /// the lexer as it was compiled.
    pub fn matcher(&self) -> GrammarMatcher {
        self.start.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// What it was compiled from.
    #[must_use]
    pub fn source(&self) -> &GrammarSource {
        &self.source
    }

    pub(crate) fn is_over(&self, vocabulary: &Arc<dyn Vocabulary>) -> bool {
        Arc::ptr_eq(&self.vocabulary, vocabulary)
    }
}

/// Compiles grammars against one vocabulary.
pub(crate) struct Compiler {
    vocabulary: Arc<dyn Vocabulary>,
    factory: ParserFactory,
    /// Longest unused first, by what they were compiled from.
    cache: Mutex<Vec<(String, Grammar)>>,
}

impl Compiler {
    pub(crate) fn new(vocabulary: Arc<dyn Vocabulary>) -> Result<Self, GrammarError> {
        let env = vocabulary::token_env(&vocabulary)?;
        let capabilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let mut factory = ParserFactory::new(&env, capabilities, &SlicedBiasComputer::general_slices())
            .map_err(|error| GrammarError::invalid(&error))?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Compiler { vocabulary, factory, cache: Mutex::new(Vec::new()) })
    }

    pub(crate) fn compile(&self, source: &GrammarSource) -> Result<Grammar, GrammarError> {
        let key = source.key()?;
        let cached = {
            let mut cache = self.lock();
            let place = cache.iter().position(|(cached, _)| *cached == key);
            place.map(|place| {
                let entry = cache.remove(place);
                let grammar = entry.1.clone();
                cache.push(entry);
                grammar
            })
        };
        if let Some(grammar) = cached {
            return Ok(grammar);
        }
        let grammar = thread::scope(|scope| {
            let thread = thread::Builder::new().name("bantam-grammar".into()).stack_size(STACK_BYTES);
            let compiling = thread.spawn_scoped(scope, || self.build(source)).map_err(|e| GrammarError::invalid(&e))?;
            compiling.join().unwrap_or_else(|_| Err(GrammarError::invalid(&"the compiler panicked")))
        })?;
        let mut cache = self.lock();
        if cache.len() >= CACHED {
            cache.remove(0);
        }
        cache.push((key, grammar.clone()));
        Ok(grammar)
    }

    fn build(&self, source: &GrammarSource) -> Result<Grammar, GrammarError> {
        let parser = self.factory.create_parser(source.to_llguidance()?).map_err(|e| GrammarError::invalid(&e))?;
        let mut start = GrammarMatcher::new(Matcher::new(Ok(parser)));
        // What every answer begins with is found here and not on the engine's thread; it is also the dearest mask,
        // because the lexer is still empty.
        match start.allowed() {
            Ok(Next::Complete) => return Err(GrammarError::Empty),
            Ok(Next::Forced(id)) if self.vocabulary.eog().contains(id) => return Err(GrammarError::Empty),
            Ok(_) => {}
            Err(fault) => return Err(GrammarError::invalid(&fault.why)),
        }
        start.take_times();
        let (start, source) = (Arc::new(Mutex::new(start)), Arc::new(source.clone()));
        Ok(Grammar { start, vocabulary: Arc::clone(&self.vocabulary), source })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, Grammar)>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
