//! One sequence on its way through the model: its tokens, its pages, and what is to become of its logits.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bantam_kernels::{Cpu, attention::PAGE_TOKENS};
use bantam_models::{LogitsWanted, RopeSet, SeqChunk};
use tokio::sync::mpsc;

use crate::{
    backend::{Backend, TextDecoder},
    draft::Drafter,
    engine::{Answer, EngineConfig, GenerateJob, JumpForward, Speculation},
    grammar::{GrammarFault, GrammarMatcher, MaskTimes, Next, TokenSet},
    labels::{LabelJob, LabelSearch},
    pages::{Namespace, PageKey, Pages, Parent},
    request::{
        Event, FinishReason, GenerateError, GenerateRequest, LogprobsOf, ModelLimits, Timings, TokenLogprob, Usage,
    },
    rng,
    sampling::{self, DrawKey, History, Scratch},
    stop::StopMatcher,
};

/// Most tokens that are taken at once because a grammar forces them; the rest of a longer run comes a step later.
const MAX_FORCED: usize = 64;

/// A sequence and the pages it holds. All its full pages are in the prefix tree.
pub(crate) struct Sequence {
    /// Prompt, then what was drawn (or, to be scored, what was given).
    pub(crate) tokens: Vec<u32>,
    /// Positions whose keys and values are in `pages`.
    pub(crate) computed: usize,
    pub(crate) pages: Vec<u32>,
    pub(crate) task: Task,
    namespace: Arc<Namespace>,
    prompt_len: usize,
    /// Prompt tokens that were found in the prefix cache and not computed.
    pub(crate) cached: usize,
    /// Has lost its pages once: what it finds in the cache from then on, it may have computed itself.
    preempted: bool,
}

/// What the logits are for.
pub(crate) enum Task {
    Generate(Box<Generating>),
    Score(Scoring),
    Label(Box<LabelSearch>),
}

/// The answer so far.
pub(crate) struct Generating {
    request: GenerateRequest,
    events: mpsc::Sender<Event>,
    decoder: Box<dyn TextDecoder>,
    stops: StopMatcher,
    history: History,
    seed: u64,
    limit: usize,
    drawn: usize,
    drafter: Option<Drafter>,
    /// The last token and the draft that follows it, while a step verifies them.
    verify: Vec<u32>,
    /// How far the answer is in its grammar. It takes each token when it is drawn, beside those of other sequences,
    /// and finds out at once what may follow.
    grammar: Option<Mutex<GrammarMatcher>>,
    jump_forward: JumpForward,
    /// Tokens at the end of the sequence that the last step gave and that are to be computed together.
    fresh: usize,
    submitted: Instant,
    taken_up: Instant,
    first_token: Option<Instant>,
}

/// One continuation of a score request.
pub(crate) struct Scoring {
    pub(crate) group: u64,
    pub(crate) index: usize,
    /// Continuation tokens whose log-probability is known.
    pub(crate) scored: usize,
}

/// What a step's logits led to; made in parallel, applied in order.
pub(crate) enum Outcome {
    /// No logits were wanted yet.
    Computed,
    /// The next tokens.
    Drawn(Draws),
    /// Log-probability and likeliest token per row.
    Scored(Vec<(f32, u32)>),
    /// Log-probabilities of the labels' tokens that may follow; `None` where they are no numbers.
    Branched(Option<Vec<f64>>),
    /// The hidden state became NaN or infinite here.
    NonFinite(usize),
}

/// The next tokens of an answer: one, one more for each token of the draft that it was drawn like, and those that the
/// grammar forces after them.
#[derive(Default)]
pub(crate) struct Draws {
    pub(crate) tokens: Vec<(u32, Option<TokenLogprob>)>,
    /// How many of the draft's tokens were drawn: so many of `tokens` have been through the model.
    pub(crate) accepted: usize,
    /// How many of the last of them no row of logits was looked at for.
    pub(crate) forced: usize,
    pub(crate) end: Option<End>,
}

/// A token on its way into its sequence.
pub(crate) struct Drawn {
    pub(crate) id: u32,
    pub(crate) logprob: Option<TokenLogprob>,
    /// The grammar allows nothing after it.
    pub(crate) is_complete: bool,
}

/// Why nothing comes after some tokens.
pub(crate) enum End {
    /// The grammar allows nothing more.
    Complete,
    /// The grammar cannot be followed.
    Fault(GrammarFault),
    /// No token had a finite logit.
    NonFinite,
}

/// A finished generation.
pub(crate) struct Finished {
    /// What its client has yet to hear.
    pub(crate) answer: Answer,
    pub(crate) timings: Timings,
    pub(crate) in_batch: Duration,
}

/// What a forced token is among those allowed.
const CERTAIN: TokenLogprob = TokenLogprob { logprob: 0.0, top: Vec::new() };

impl Generating {
    /// Draws the token at `position` from the first row, and the one after it from the next as long as what was drawn
    /// is what was drafted: each from what it would have been drawn from without a draft.
    fn draw<'a>(
        &self,
        cpu: &Cpu,
        position: usize,
        rows: impl Iterator<Item = &'a [f32]>,
        scratch: &mut Scratch,
    ) -> Draws {
        let GenerateRequest { sampling, logprobs, logprobs_of, choice_index, .. } = &self.request;
        let among_allowed = *logprobs_of == LogprobsOf::Allowed;
        let mut grammar = self.grammar();
        let mut history = Cow::Borrowed(&self.history);
        let mut draws = Draws::default();
        let mut rows = rows.enumerate().peekable();
        while let Some((i, row)) = rows.next() {
            let key = DrawKey { seed: self.seed, choice_index: *choice_index, position: position + i };
            let draw = |allowed, scratch: &mut Scratch| {
                sampling::draw(cpu, row, sampling, &history, key, allowed, scratch).ok_or(End::NonFinite)
            };
            let logprob = |id, allowed: Option<&TokenSet>, scratch: &mut Scratch| {
                let allowed = allowed.filter(|_| among_allowed);
                (id, logprobs.map(|n| sampling::logprob(cpu, row, id, n, allowed, scratch)))
            };
            let drawn = match grammar.as_deref_mut().map(GrammarMatcher::allowed) {
                None => draw(None, scratch).map(|id| logprob(id, None, scratch)),
                Some(Ok(Next::AnyOf(allowed))) => {
                    draw(Some(allowed), scratch).map(|id| logprob(id, Some(allowed), scratch))
                }
                Some(Ok(Next::Forced(id))) if among_allowed => Ok((*id, logprobs.map(|_| CERTAIN))),
                Some(Ok(Next::Forced(id))) => Ok(logprob(*id, None, scratch)),
                Some(Ok(Next::Complete)) => Err(End::Complete),
                Some(Err(fault)) => Err(End::Fault(fault)),
            };
            let (id, logprob) = match drawn {
                Ok(drawn) => drawn,
                Err(end) => {
                    draws.end = Some(end);
                    return draws;
                }
            };
            draws.tokens.push((id, logprob));
            if let Some(grammar) = &mut grammar
                && let Err(end) = follow(grammar, id)
            {
                draws.end = Some(end);
                return draws;
            }
            match rows.peek() {
                Some(_) if self.verify.get(i + 1) == Some(&id) => {
                    draws.accepted += 1;
                    history.to_mut().push(sampling, id);
                }
                _ => break,
            }
        }
        if let Some(grammar) = &mut grammar {
            self.jump(grammar, &mut draws);
        }
        draws
    }

    /// Takes the tokens that the grammar forces next, and finds out what may come after them.
    fn jump(&self, grammar: &mut GrammarMatcher, draws: &mut Draws) {
        // A log-probability among all tokens needs the row of logits before its token.
        let GenerateRequest { logprobs, logprobs_of, .. } = &self.request;
        let is_known = logprobs.is_none() || *logprobs_of == LogprobsOf::Allowed;
        let most = if is_known && self.jump_forward == JumpForward::Forced { MAX_FORCED } else { 0 };
        while self.drawn + draws.tokens.len() < self.limit {
            match grammar.allowed() {
                Ok(Next::Forced(id)) if draws.forced < most => {
                    let id = *id;
                    draws.tokens.push((id, logprobs.map(|_| CERTAIN)));
                    draws.forced += 1;
                    if let Err(end) = follow(grammar, id) {
                        draws.end = Some(end);
                        return;
                    }
                }
                Ok(_) => return,
                Err(fault) => {
                    draws.end = Some(End::Fault(fault));
                    return;
                }
            }
        }
    }

    fn grammar(&self) -> Option<MutexGuard<'_, GrammarMatcher>> {
        self.grammar.as_ref().map(|grammar| grammar.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Goes on with a token; an error is an end.
fn follow(grammar: &mut GrammarMatcher, id: u32) -> Result<(), End> {
    grammar.take(id).map_err(End::Fault)?;
    if grammar.is_complete() { Err(End::Complete) } else { Ok(()) }
}

impl Sequence {
    pub(crate) fn generate(
        job: GenerateJob,
        backend: &dyn Backend,
        limits: &ModelLimits,
        config: &EngineConfig,
    ) -> Self {
        let GenerateJob { mut request, grammar, events, submitted } = job;
        let tokens = std::mem::take(&mut request.prompt);
        let limit = request.max_tokens.unwrap_or(usize::MAX).min(limits.context_length.saturating_sub(tokens.len()));
        let rope = backend.rope_set(tokens.len() + limit);
        let namespace = Arc::new(Namespace { salt: request.cache_salt.take(), rope });
        let generating = Generating {
            decoder: backend.text_decoder(&tokens),
            stops: StopMatcher::new(&request.stop),
            history: History::new(&request.sampling, &tokens),
            seed: request.sampling.seed.unwrap_or_else(rng::fresh_seed),
            limit,
            drawn: 0,
            drafter: match config.speculation {
                Speculation::Off => None,
                Speculation::Lookup => Some(Drafter::new(tokens.len().saturating_add(limit))),
            },
            verify: Vec::new(),
            grammar: grammar.map(|matcher| Mutex::new(*matcher)),
            jump_forward: config.jump_forward,
            fresh: 1,
            submitted,
            taken_up: Instant::now(),
            first_token: None,
            request,
            events,
        };
        Self::new(tokens.len(), tokens, namespace, Task::Generate(Box::new(generating)))
    }

    pub(crate) fn score(prompt: &[u32], continuation: &[u32], namespace: Arc<Namespace>, scoring: Scoring) -> Self {
        let tokens = [prompt, continuation].concat();
        Self::new(prompt.len(), tokens, namespace, Task::Score(scoring))
    }

    pub(crate) fn label(job: LabelJob, backend: &dyn Backend) -> Self {
        let prompt = job.request.prompt.clone();
        let rope = backend.rope_set(prompt.len() + job.request.labels.depth());
        let namespace = Arc::new(Namespace { salt: job.request.cache_salt.clone(), rope });
        let (search, path) = LabelSearch::new(job);
        Self::new(prompt.len(), [prompt, path].concat(), namespace, Task::Label(Box::new(search)))
    }

    fn new(prompt_len: usize, tokens: Vec<u32>, namespace: Arc<Namespace>, task: Task) -> Self {
        Sequence { tokens, computed: 0, pages: Vec::new(), task, namespace, prompt_len, cached: 0, preempted: false }
    }

    /// Nobody waits for the answer. Scores are asked for through their group.
    pub(crate) fn is_cancelled(&self) -> bool {
        match &self.task {
            Task::Generate(g) => g.events.is_closed(),
            Task::Label(search) => search.is_cancelled(),
            Task::Score(_) => false,
        }
    }

    pub(crate) fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// Tokens that must go through the model before anything new is known. The last token of a continuation is only
    /// looked up in the row before it.
    pub(crate) fn to_compute(&self) -> usize {
        match &self.task {
            Task::Generate(_) | Task::Label(_) => self.tokens.len(),
            Task::Score(_) => self.tokens.len() - 1,
        }
    }

    /// First position whose row of logits is wanted: it must be computed even if its page is cached.
    fn first_wanted(&self) -> usize {
        match &self.task {
            Task::Generate(_) => self.tokens.len() - 1,
            // A search goes back to the end of its prompt: what follows is its own.
            Task::Label(_) => self.prompt_len - 1,
            Task::Score(s) => self.prompt_len - 1 + s.scored,
        }
    }

    /// Only what the last step gave is missing: the token drawn last, and perhaps some that it forced.
    pub(crate) fn is_decoding(&self) -> bool {
        matches!(&self.task, Task::Generate(g) if self.computed + g.fresh >= self.tokens.len())
    }

    /// Pages it needs beyond those it holds until everything known is computed.
    pub(crate) fn pages_missing(&self) -> usize {
        self.to_compute().div_ceil(PAGE_TOKENS).saturating_sub(self.pages.len())
    }

    /// Content of page `n`, if its tokens are known; the pages before it must be computed.
    fn page_key(&self, n: usize) -> Option<PageKey> {
        let tokens = self.tokens.get(n * PAGE_TOKENS..(n + 1) * PAGE_TOKENS)?.try_into().ok()?;
        let parent = match n.checked_sub(1) {
            None => Parent::Root(Arc::clone(&self.namespace)),
            Some(before) => Parent::Page(*self.pages.get(before)?),
        };
        Some(PageKey { parent, tokens })
    }

    /// Content of the page that is being filled, if all of it is known.
    pub(crate) fn current_page_key(&self) -> Option<PageKey> {
        self.page_key(self.computed / PAGE_TOKENS)
    }

    /// The next page's content, if somebody else's page could stand in for it: nothing of it is computed yet, and no
    /// logits are wanted from it.
    pub(crate) fn shareable_page_key(&self) -> Option<PageKey> {
        let is_open = self.computed.is_multiple_of(PAGE_TOKENS) && self.computed + PAGE_TOKENS <= self.first_wanted();
        is_open.then(|| self.current_page_key()).flatten()
    }

    /// Takes over every page of the prefix that is in the tree by now.
    pub(crate) fn take_cached(&mut self, pages: &mut Pages) {
        // A page taken for filling and not begun is given back first.
        if self.shareable_page_key().is_some_and(|key| pages.contains(&key)) {
            while self.pages.len() > self.computed / PAGE_TOKENS {
                self.pages.pop().into_iter().for_each(|page| pages.release(page));
            }
        }
        while let Some(key) = self.shareable_page_key() {
            let Some(page) = pages.acquire(&key) else { return };
            self.pages.push(page);
            self.computed += PAGE_TOKENS;
            if !self.preempted {
                self.cached += PAGE_TOKENS;
            }
        }
    }

    /// Puts pages that have become full into the tree.
    fn publish(&mut self, before: usize, pages: &mut Pages) {
        let last = match &self.task {
            Task::Label(_) => self.computed.min(self.prompt_len),
            Task::Generate(_) | Task::Score(_) => self.computed,
        };
        for n in before / PAGE_TOKENS..last / PAGE_TOKENS {
            if let Some(key) = self.page_key(n) {
                self.pages[n] = pages.publish(self.pages[n], key);
                if self.namespace.salt.is_none() {
                    pages.pin(self.pages[n], &self.tokens[..(n + 1) * PAGE_TOKENS]);
                }
            }
        }
    }

    /// Lets go of all pages; everything would have to be computed again.
    pub(crate) fn release(&mut self, pages: &mut Pages) {
        while let Some(page) = self.pages.pop() {
            pages.release(page);
        }
        self.computed = 0;
    }

    /// Puts back what [`Sequence::take_cached`] took, as if it had never been.
    pub(crate) fn give_back(&mut self, pages: &mut Pages) {
        self.release(pages);
        if !self.preempted {
            self.cached = 0;
        }
    }

    /// Gives up its pages for an older sequence.
    pub(crate) fn preempt(&mut self, pages: &mut Pages) {
        self.release(pages);
        self.preempted = true;
    }

    /// Forgets pages whose content is lost.
    pub(crate) fn forget_pages(&mut self) {
        self.pages.clear();
        self.computed = 0;
        self.preempted = true;
    }

    /// The next piece that may go through the model with `rows` rows, of which `score_rows` may have logits to score.
    /// The range may be empty.
    pub(crate) fn next_range(&self, rows: usize, score_rows: usize) -> (Range<usize>, LogitsWanted) {
        let start = self.computed;
        let end = (start + rows).min(self.to_compute());
        match &self.task {
            Task::Generate(_) | Task::Label(_) if end == self.tokens.len() => (start..end, LogitsWanted::Last),
            Task::Generate(_) | Task::Label(_) => (start..end, LogitsWanted::None),
            Task::Score(_) if start < self.first_wanted() => (start..end.min(self.first_wanted()), LogitsWanted::None),
            Task::Score(_) => (start..end.min(start + score_rows), LogitsWanted::All),
        }
    }

    /// Drafts up to `most` tokens for the next step, no more than may be drawn after its own and no more than fit its
    /// pages and free ones; gives their number. A grammar is not asked beforehand: it sees drawn tokens only, so that
    /// what it computes is the same with drafts and without.
    pub(crate) fn draft(&mut self, most: usize, pages: &mut Pages) -> usize {
        let Task::Generate(g) = &mut self.task else { return 0 };
        if self.computed + 1 < self.tokens.len() {
            return 0;
        }
        let (Some(drafter), Some(&last)) = (&mut g.drafter, self.tokens.last()) else { return 0 };
        let draft = drafter.draft(&self.tokens);
        let n = draft.len().min(most).min(g.limit - g.drawn - 1);
        while self.pages.len() * PAGE_TOKENS < self.tokens.len() + n {
            let Some(page) = pages.alloc() else { break };
            self.pages.push(page);
        }
        let n = n.min(self.pages.len() * PAGE_TOKENS - self.tokens.len());
        g.verify.clear();
        g.verify.push(last);
        g.verify.extend_from_slice(&draft[..n]);
        n
    }

    /// Drafts no more.
    pub(crate) fn stop_drafting(&mut self) {
        if let Task::Generate(g) = &mut self.task {
            g.drafter = None;
        }
    }

    /// A piece of the sequence for the model; if it reaches past what is known, the last token and its draft.
    pub(crate) fn chunk(&self, range: Range<usize>, logits: LogitsWanted) -> SeqChunk<'_> {
        let tokens = match &self.task {
            Task::Generate(g) if range.end > self.tokens.len() => &g.verify,
            _ => &self.tokens[range.clone()],
        };
        SeqChunk { first_pos: range.start, tokens, pages: &self.pages, rope: self.rope(), logits }
    }

    fn rope(&self) -> RopeSet {
        self.namespace.rope
    }

    /// Turns the logits of a chunk into what they are for; changes nothing but how far the grammar has been followed.
    pub(crate) fn evaluate(
        &self,
        cpu: &Cpu,
        first: usize,
        rows: &[f32],
        vocab: usize,
        scratch: &mut Scratch,
    ) -> Outcome {
        if rows.is_empty() {
            return Outcome::Computed;
        }
        match &self.task {
            Task::Generate(g) => Outcome::Drawn(g.draw(cpu, self.tokens.len(), rows.chunks_exact(vocab), scratch)),
            Task::Label(search) => Outcome::Branched(search.branches(rows)),
            Task::Score(_) => {
                let targets = self.tokens[first + 1..].iter();
                let scores = rows.chunks_exact(vocab).zip(targets);
                Outcome::Scored(scores.map(|(row, &id)| sampling::score(cpu, row, id, scratch)).collect())
            }
        }
    }

    /// Takes note that everything up to `end` is computed: tokens that are known, never a draft.
    pub(crate) fn advance(&mut self, end: usize, pages: &mut Pages) {
        let before = self.computed;
        self.computed = end;
        self.publish(before, pages);
    }

    /// How long the grammar took since this was last asked.
    pub(crate) fn take_mask_times(&mut self) -> Option<MaskTimes> {
        let Task::Generate(g) = &mut self.task else { return None };
        let grammar = g.grammar.as_mut()?.get_mut().unwrap_or_else(PoisonError::into_inner);
        Some(grammar.take_times())
    }

    /// Tokens of the answer so far.
    pub(crate) fn n_drawn(&self) -> usize {
        self.tokens.len() - self.prompt_len
    }

    /// All that is not computed is to be computed at once.
    pub(crate) fn note_fresh(&mut self) {
        if let Task::Generate(g) = &mut self.task {
            g.fresh = self.tokens.len() - self.computed;
        }
    }

    /// Takes a drawn token and tells the client; `Some` if it was the last, as it is where it completes the grammar.
    pub(crate) fn push(&mut self, drawn: Drawn, eog: &[u32]) -> Option<Finished> {
        let Drawn { id, logprob, is_complete } = drawn;
        let Task::Generate(g) = &mut self.task else { return None };
        let now = Instant::now();
        let first_token = *g.first_token.get_or_insert(now);
        self.tokens.push(id);
        g.drawn += 1;
        g.history.push(&g.request.sampling, id);

        let is_eog = eog.contains(&id) && (is_complete || !g.request.ignore_eos);
        let end = is_eog || g.request.stop_tokens.contains(&id);
        let mut passed = g.stops.push(&if end { g.decoder.finish() } else { g.decoder.push(id) });
        let at_limit = g.drawn >= g.limit;
        let is_last = at_limit || is_complete;
        if passed.stop.is_none() && is_last && !end {
            let rest = g.stops.push(&g.decoder.finish());
            passed.text.push_str(&rest.text);
            passed.stop = rest.stop;
        }
        if passed.stop.is_none() && (end || is_last) {
            passed.text.push_str(&g.stops.finish());
        }
        let finish = match passed.stop {
            Some(_) => Some(FinishReason::Stop),
            None if end || is_complete => Some(FinishReason::Stop),
            None => at_limit.then_some(FinishReason::Length),
        };
        // The channel has room for every event, so a send only fails when the client is gone; the next sweep sees that.
        g.events.try_send(Event::Token { id, text: passed.text, logprob, end }).ok();
        let finish = finish?;
        let timings = Timings {
            queued: g.taken_up.duration_since(g.submitted),
            prefill: first_token.duration_since(g.taken_up),
            decode: now.duration_since(first_token),
        };
        let done = Event::Done {
            finish,
            matched_stop: passed.stop.and_then(|s| g.request.stop.get(s).cloned()),
            usage: Usage { prompt_tokens: self.prompt_len, cached_tokens: self.cached, completion_tokens: g.drawn },
            timings,
            seed: g.seed,
        };
        let answer = Answer::Event(g.events.clone(), done);
        Some(Finished { answer, timings, in_batch: now.duration_since(g.taken_up) })
    }

    /// Takes a label search's row; `Some` if it was the last.
    pub(crate) fn branch(&mut self, branches: &[f64]) -> Option<Finished> {
        let Task::Label(search) = &mut self.task else { return None };
        let Some(path) = search.take(branches) else {
            let (scores, in_batch) = search.finish(self.prompt_len, self.cached);
            let timings = scores.timings;
            return Some(Finished { answer: Answer::Labels(search.take_answer()?, Ok(scores)), timings, in_batch });
        };
        // What this path has in common with the last one is computed already.
        let common = self.tokens[self.prompt_len..].iter().zip(&path).take_while(|(a, b)| a == b).count();
        self.tokens.truncate(self.prompt_len + common);
        self.tokens.extend_from_slice(&path[common..]);
        self.computed = self.computed.min(self.prompt_len + common).min(self.tokens.len() - 1);
        search.count(path.len() - common);
        None
    }

    /// What the client of a generation that failed is to hear. Scores are answered through their group.
    pub(crate) fn failure(&mut self, error: GenerateError) -> Option<Answer> {
        match &mut self.task {
            Task::Label(search) => search.take_answer().map(|answer| Answer::Labels(answer, Err(error))),
            Task::Generate(g) => Some(Answer::Event(g.events.clone(), Event::Error(error))),
            Task::Score(_) => None,
        }
    }
}
