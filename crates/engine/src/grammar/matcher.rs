//! One text on its way through a grammar.

use std::{collections::VecDeque, time::Instant};

use llguidance::{
    Matcher,
    toktrie::{SimpleVob, TokenId},
};

use super::{error::plain, times::MaskTimes};

/// The tokens that may come next.
#[derive(Debug, Clone)]
pub struct TokenSet(SimpleVob);

impl TokenSet {
    /// Whether `id` is among them.
    pub fn contains(&self, id: u32) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }

    /// Makes all others impossible: their logits become minus infinity.
    pub(crate) fn mask(&self, logits: &mut [f32]) {
        let words = self.0.as_slice();
        for (word, logits) in logits.chunks_mut(32).enumerate() {
            match words.get(word).copied().unwrap_or_default() {
                u32::MAX => {}
                0 => logits.fill(f32::NEG_INFINITY),
                bits => {
                    let forbidden = logits.iter_mut().enumerate().filter(|(bit, _)| bits >> bit & 1 == 0);
                    forbidden.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
                }
            }
        }
    }

    /// The only one, if there is only one.
    fn single(&self) -> Option<u32> {
        let mut words = self.0.as_slice().iter().enumerate().filter(|(_, bits)| **bits != 0);
        let (word, bits) = words.next()?;
        (bits.count_ones() == 1 && words.next().is_none()).then(|| word as u32 * 32 + bits.trailing_zeros())
    }
}

/// What may come next.
#[derive(Debug, Clone)]
pub enum Next {
    /// Nothing: the text is complete.
    Complete,
    /// This token and no other.
    Forced(u32),
    /// One of several. An end-of-generation token is among them exactly where the text may end.
    AnyOf(TokenSet),
}

/// The grammar cannot be followed any further: it would take more work or memory than is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the grammar cannot be followed any further: {why}")]
pub struct GrammarFault {
    /// What the grammar engine said.
    pub why: String,
}

/// Follows one text through a grammar, token by token.
///
/// What may come next is a function of the tokens so far and nothing else. Where the grammar leaves only one text, that
/// is cut into tokens as the model's own tokenizer would, and each of them in turn is the only one allowed. Whether such
/// tokens are taken at once or a model is asked before each makes no difference.
pub struct GrammarMatcher {
    matcher: Matcher,
    next: Option<Next>,
    /// What the grammar leaves no choice about, in the model's own tokens, until there is one again.
    forced: VecDeque<TokenId>,
    times: MaskTimes,
}

impl std::fmt::Debug for GrammarMatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarMatcher").field("next", &self.next).finish_non_exhaustive()
    }
}

impl GrammarMatcher {
    pub(super) fn new(matcher: Matcher) -> Self {
        GrammarMatcher { matcher, next: None, forced: VecDeque::new(), times: MaskTimes::default() }
    }

    /// The same text, followed independently of this one from here on.
    pub(super) fn fork(&self) -> Self {
        GrammarMatcher {
            matcher: self.matcher.deep_clone(),
            next: self.next.clone(),
            forced: self.forced.clone(),
            times: MaskTimes::default(),
        }
    }

    /// What may come next; computed once per token.
    ///
    /// # Errors
    /// [`GrammarFault`] when finding out exceeds a limit.
    pub fn allowed(&mut self) -> Result<&Next, GrammarFault> {
        let next = match (self.next.take(), self.forced.front()) {
            (Some(next), _) => next,
            (None, Some(&id)) => Next::Forced(id),
            (None, None) => {
                let start = Instant::now();
                let next = self.compute()?;
                self.times.add(start.elapsed());
                next
            }
        };
        Ok(self.next.insert(next))
    }

    fn compute(&mut self) -> Result<Next, GrammarFault> {
        if self.is_complete() {
            return Ok(Next::Complete);
        }
        self.forced = self.matcher.compute_ff_tokens().into();
        if let Some(&id) = self.forced.front() {
            return Ok(Next::Forced(id));
        }
        let set = TokenSet(self.matcher.compute_mask().map_err(|error| fault(&error))?);
        Ok(set.single().map_or(Next::AnyOf(set), Next::Forced))
    }

    /// Goes on with a token.
    ///
    /// # Errors
    /// [`GrammarFault`] when it may not come next, or when going on exceeds a limit.
    pub fn take(&mut self, id: TokenId) -> Result<(), GrammarFault> {
        self.next = None;
        if self.forced.pop_front().is_some_and(|forced| forced != id) {
            return Err(GrammarFault { why: format!("token {id} came where another was forced") });
        }
        self.matcher.consume_token(id).map_err(|error| fault(&error))
    }

    /// Whether nothing more can come.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }

    /// How long it took to find out what may come next, since this was last asked.
    pub fn take_times(&mut self) -> MaskTimes {
        std::mem::take(&mut self.times)
    }
}

fn fault(error: &dyn std::fmt::Display) -> GrammarFault {
    GrammarFault { why: plain(&error.to_string()) }
}
