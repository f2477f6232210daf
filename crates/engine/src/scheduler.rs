//! Decides what goes through the model next.
//!
//! A step takes one row of every sequence that is decoding, then rows of prompts, oldest sequence first, up to a
//! budget: streams that run are never held up by more than one step's worth of somebody's prompt. Sequences take pages
//! as they grow. When none is left, the youngest sequence gives up all of its own and is computed again later, which
//! changes nothing in its answer; the oldest is never made to wait, and fits the pool alone, so there is always one
//! that gets done. A sequence whose next page is just being computed by an older one waits for that page instead of
//! computing it too. What decoding leaves of [`DECODE_ROWS`] goes to drafts, which take no page from anybody. Tokens that
//! a grammar forces after a drawn one are rows of the same step; all but the first are taken from the prompts' budget.
//!
//! What a grammar allows next is found in the parallel section that draws, as soon as the token before it is known:
//! one sequence per thread of the same team, so no core ever has two things to do. It takes a hundredth of a step.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bantam_kernels::{Cpu, attention::PAGE_TOKENS};
use bantam_models::LogitsWanted;
use tokio::sync::oneshot;

use crate::{
    backend::Backend,
    engine::{Answer, EngineConfig, Job, Phase, ScoreJob, Shared},
    grammar::MaskTimes,
    pages::{Namespace, PageKey, Pages},
    request::{ContinuationScore, GenerateError, ModelLimits, ScoreRequest, Scores, Timings},
    sampling::Scratch,
    sequence::{Drawn, Draws, End, Finished, Outcome, Scoring, Sequence, Task},
    stats::EngineStats,
};

/// Panics in a row after which the engine no longer calls itself ready.
const PANICS_UNTIL_NOT_READY: u32 = 2;

/// Rows of decoding up to which drafts are verified. So few share one reading of the weights: eight take less than two
/// do one by one. From the ninth on each takes its time, which every stream of a larger batch would have to wait for.
const DECODE_ROWS: usize = 8;

/// A score request whose continuations are being computed.
struct ScoreGroup {
    request: ScoreRequest,
    namespace: Arc<Namespace>,
    answer: oneshot::Sender<Result<Scores, GenerateError>>,
    /// Continuations that have been made into sequences.
    started: usize,
    finished: usize,
    scores: Vec<ContinuationScore>,
    cached_tokens: usize,
}

/// A sequence's part of a step.
struct Planned {
    /// Index into `running`.
    index: usize,
    range: Range<usize>,
    logits: LogitsWanted,
}

/// What has happened since the counters were last published.
#[derive(Default)]
struct Tally {
    computed_tokens: u64,
    prefill_rows: u64,
    prefill_busy: Duration,
    decode_busy: Duration,
    prompt_tokens: u64,
    cached_tokens: u64,
    generated_tokens: u64,
    drafted_tokens: u64,
    accepted_tokens: u64,
    forced_tokens: u64,
    masks: MaskTimes,
    scored_tokens: u64,
    cancelled: u64,
    failed: u64,
    preemptions: u64,
    finished: u64,
    timings: Timings,
    /// How long finished generations held their place in the batch.
    in_batch: Vec<Duration>,
}

impl Tally {
    fn finish(&mut self, generation: &Finished) {
        self.finished += 1;
        self.timings.queued += generation.timings.queued;
        self.timings.prefill += generation.timings.prefill;
        self.timings.decode += generation.timings.decode;
        self.in_batch.push(generation.in_batch);
    }
}

pub(crate) struct Scheduler {
    backend: Box<dyn Backend>,
    cpu: Cpu,
    config: EngineConfig,
    limits: ModelLimits,
    shared: Arc<Shared>,
    pages: Pages,
    /// Oldest first.
    running: Vec<Sequence>,
    /// Sequences that wait for pages, oldest first and all younger than the running ones: preempted ones, and at most
    /// one that has not run yet.
    waiting: VecDeque<Sequence>,
    groups: HashMap<u64, ScoreGroup>,
    next_group: u64,
    /// The group whose continuations are still being started.
    starting: Option<u64>,
    scratch: Mutex<Vec<Scratch>>,
    tally: Tally,
    /// Sent when the counters have been published.
    answers: Vec<Answer>,
    panics: u32,
}

impl Scheduler {
    pub(crate) fn new(
        backend: Box<dyn Backend>,
        config: EngineConfig,
        limits: ModelLimits,
        shared: Arc<Shared>,
    ) -> Self {
        Scheduler {
            cpu: backend.cpu().clone(),
            pages: Pages::new(backend.n_pages(), &config.pinned_prompts),
            backend,
            config,
            limits,
            shared,
            running: Vec::new(),
            waiting: VecDeque::new(),
            groups: HashMap::new(),
            next_group: 0,
            starting: None,
            scratch: Mutex::new(Vec::new()),
            tally: Tally::default(),
            answers: Vec::new(),
            panics: 0,
        }
    }

    /// Runs until the engine is shut down and everything taken is answered.
    pub(crate) fn run(&mut self) {
        while self.wait_for_work() {
            match catch_unwind(AssertUnwindSafe(|| self.step())) {
                Ok(()) => self.panics = 0,
                Err(_) => self.recover(),
            }
            self.report();
        }
        self.fail_all(&GenerateError::ShutDown);
        self.report();
    }

    /// Parks until there is something to do; false when the thread is to end.
    fn wait_for_work(&mut self) -> bool {
        let is_idle = self.running.is_empty() && self.waiting.is_empty() && self.starting.is_none();
        let mut inbox = self.shared.lock();
        loop {
            match inbox.phase {
                Phase::Open => {}
                Phase::Draining(deadline) if Instant::now() < deadline => {
                    if is_idle && inbox.jobs.is_empty() {
                        inbox.phase = Phase::Stopped;
                        return false;
                    }
                }
                Phase::Draining(_) | Phase::Stopped => {
                    inbox.phase = Phase::Stopped;
                    return false;
                }
            }
            if !is_idle || !inbox.jobs.is_empty() {
                return true;
            }
            inbox = self.shared.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn step(&mut self) {
        self.sweep();
        self.admit();
        let plan = self.plan();
        if plan.is_empty() {
            // Cannot happen: the oldest sequence waits for nobody and may take every page. Rather an error for it than
            // a thread that spins.
            if !self.running.is_empty() {
                let why = "the scheduler found nothing to compute".to_owned();
                self.fail_sequence(0, GenerateError::EngineFailed { why });
            }
            return;
        }
        match self.compute(&plan) {
            Ok(outcomes) => self.apply(&plan, outcomes),
            Err(error) => {
                for planned in plan.iter().rev() {
                    self.fail_sequence(planned.index, error.clone());
                }
            }
        }
    }

    /// Drops what nobody waits for any more.
    fn sweep(&mut self) {
        self.shared.lock().sweep();
        let mut cancelled = 0;
        let mut count = |is_unwanted: bool| {
            cancelled += u64::from(is_unwanted);
            !is_unwanted
        };
        self.groups.retain(|_, group| count(group.answer.is_closed()));
        if self.starting.is_some_and(|id| !self.groups.contains_key(&id)) {
            self.starting = None;
        }
        let mut keep = |s: &mut Sequence| {
            let is_wanted = match &s.task {
                Task::Generate(_) | Task::Label(_) => count(s.is_cancelled()),
                Task::Score(scoring) => self.groups.contains_key(&scoring.group),
            };
            if !is_wanted {
                s.release(&mut self.pages);
            }
            is_wanted
        };
        self.running.retain_mut(&mut keep);
        self.waiting.retain_mut(&mut keep);
        self.tally.cancelled += cancelled;
    }

    /// Moves sequences into the batch while there are places and pages.
    fn admit(&mut self) {
        while self.running.len() < self.config.max_sequences {
            let Some(mut sequence) = self.waiting.pop_front().or_else(|| self.next_sequence()) else { return };
            sequence.take_cached(&mut self.pages);
            // What the running ones need for what they know so far, and a page each to go on with.
            let promised: usize = self.running.iter().map(|s| s.pages_missing() + 1).sum();
            let needed = sequence.pages_missing().saturating_add(promised);
            if !self.running.is_empty() && needed > self.pages.available() {
                sequence.give_back(&mut self.pages);
                self.waiting.push_front(sequence);
                return;
            }
            self.running.push(sequence);
        }
    }

    /// Makes the next queued request, or the next continuation of one, into a sequence.
    fn next_sequence(&mut self) -> Option<Sequence> {
        loop {
            if let Some(sequence) = self.next_continuation() {
                return Some(sequence);
            }
            let job = self.shared.lock().take(1).next()?;
            if job.is_cancelled() {
                self.tally.cancelled += 1;
                continue;
            }
            match job {
                Job::Generate(job) => {
                    let sequence = Sequence::generate(job, self.backend.as_ref(), &self.limits, &self.config);
                    self.tally.prompt_tokens += sequence.prompt_len() as u64;
                    return Some(sequence);
                }
                Job::Label(job) => {
                    let sequence = Sequence::label(job, self.backend.as_ref());
                    self.tally.prompt_tokens += sequence.prompt_len() as u64;
                    return Some(sequence);
                }
                Job::Score(job) => self.start_group(job),
            }
        }
    }

    fn start_group(&mut self, job: ScoreJob) {
        let ScoreJob { mut request, answer } = job;
        let longest = request.continuations.iter().map(Vec::len).max().unwrap_or(0);
        let rope = self.backend.rope_set(request.prompt.len() + longest);
        let group = ScoreGroup {
            namespace: Arc::new(Namespace { salt: request.cache_salt.take(), rope }),
            answer,
            started: 0,
            finished: 0,
            scores: vec![ContinuationScore::default(); request.continuations.len()],
            cached_tokens: 0,
            request,
        };
        let id = self.next_group;
        self.next_group += 1;
        self.groups.insert(id, group);
        self.starting = Some(id);
    }

    fn next_continuation(&mut self) -> Option<Sequence> {
        let id = self.starting?;
        let group = self.groups.get_mut(&id)?;
        let index = group.started;
        group.started += 1;
        if group.started >= group.request.continuations.len() {
            self.starting = None;
        }
        let continuation = group.request.continuations.get(index)?;
        let scoring = Scoring { group: id, index, scored: 0 };
        self.tally.prompt_tokens += group.request.prompt.len() as u64;
        Some(Sequence::score(&group.request.prompt, continuation, Arc::clone(&group.namespace), scoring))
    }

    /// Chooses the rows of this step and makes sure that they have pages.
    fn plan(&mut self) -> Vec<Planned> {
        let mut plan = Vec::new();
        // Preemption shortens `running` from its end while these loops go through it from its start.
        let mut rows = self.config.prefill_chunk;
        let mut index = 0;
        while index < self.running.len() {
            let s = &self.running[index];
            if s.is_decoding() {
                let (range, logits) = s.next_range(1 + rows, 0);
                if self.make_room(index, range.end) {
                    rows -= range.len() - 1;
                    plan.push(Planned { index, range, logits });
                }
            }
            index += 1;
        }
        let mut score_rows = self.config.score_rows;
        let mut being_filled = HashSet::new();
        let mut index = 0;
        while index < self.running.len() && rows > 0 {
            if let Some(planned) = self.plan_prefill(index, rows, score_rows, &mut being_filled) {
                rows -= planned.range.len();
                if planned.logits == LogitsWanted::All {
                    score_rows -= planned.range.len();
                }
                plan.push(planned);
            }
            index += 1;
        }
        plan.retain(|p| p.index < self.running.len());
        plan.sort_unstable_by_key(|p| p.index);
        self.plan_drafts(&mut plan);
        plan
    }

    /// Adds drafts to the rows of decoding sequences, in equal shares: the first token of a draft is the surest.
    fn plan_drafts(&mut self, plan: &mut [Planned]) {
        let decoding: Vec<_> = plan.iter_mut().filter(|p| self.running[p.index].is_decoding()).collect();
        let mut rows = DECODE_ROWS.saturating_sub(decoding.iter().map(|p| p.range.len()).sum());
        let n_decoding = decoding.len();
        for (i, planned) in decoding.into_iter().enumerate() {
            let share = rows.div_ceil(n_decoding - i);
            let n = self.running[planned.index].draft(share, &mut self.pages);
            rows -= n;
            planned.range.end += n;
            if n > 0 {
                planned.logits = LogitsWanted::All;
            }
        }
    }

    fn plan_prefill(
        &mut self,
        index: usize,
        rows: usize,
        score_rows: usize,
        being_filled: &mut HashSet<PageKey>,
    ) -> Option<Planned> {
        if self.running[index].is_decoding() {
            return None;
        }
        self.running[index].take_cached(&mut self.pages);
        let s = &self.running[index];
        if s.shareable_page_key().is_some_and(|key| being_filled.contains(&key)) {
            return None;
        }
        being_filled.extend(s.current_page_key());
        let (range, logits) = s.next_range(rows, score_rows);
        if range.is_empty() || !self.make_room(index, range.end) {
            return None;
        }
        Some(Planned { index, range, logits })
    }

    /// Gives a sequence pages for its first `n_tokens` positions, from younger ones if need be.
    fn make_room(&mut self, index: usize, n_tokens: usize) -> bool {
        while self.running[index].pages.len() * PAGE_TOKENS < n_tokens {
            if let Some(page) = self.pages.alloc() {
                self.running[index].pages.push(page);
            } else if index + 1 < self.running.len() {
                let Some(mut youngest) = self.running.pop() else { return false };
                youngest.preempt(&mut self.pages);
                self.waiting.push_front(youngest);
                self.tally.preemptions += 1;
            } else {
                return false;
            }
        }
        true
    }

    /// Runs the model and turns logits into outcomes, many sequences at a time.
    fn compute(&mut self, plan: &[Planned]) -> Result<Vec<Outcome>, GenerateError> {
        let started = Instant::now();
        let running = &self.running;
        let chunks: Vec<_> = plan.iter().map(|p| running[p.index].chunk(p.range.clone(), p.logits)).collect();
        let results =
            self.backend.forward(&chunks).map_err(|error| GenerateError::EngineFailed { why: error.to_string() })?;
        if results.len() != plan.len() {
            return Err(GenerateError::EngineFailed { why: "the model answered another number of chunks".into() });
        }
        let mut outcomes: Vec<Outcome> = plan.iter().map(|_| Outcome::Computed).collect();
        let vocab = self.limits.vocab_size;
        self.cpu.for_each_chunk_mut(&mut outcomes, 1, |i, outcome| {
            let (planned, sequence) = (&plan[i], &running[plan[i].index]);
            let evaluated = match &results[i] {
                Err(error) => Outcome::NonFinite(error.position),
                Ok(rows) => {
                    let mut scratch = lock(&self.scratch).pop().unwrap_or_default();
                    let outcome = sequence.evaluate(&self.cpu, planned.range.start, rows, vocab, &mut scratch);
                    lock(&self.scratch).push(scratch);
                    outcome
                }
            };
            outcome[0] = evaluated;
        });
        self.note_time(plan, started.elapsed());
        Ok(outcomes)
    }

    /// Shares out a step's time between prompts and answers, by rows.
    fn note_time(&mut self, plan: &[Planned], time: Duration) {
        let rows = |decoding: bool| -> usize {
            let of = plan.iter().filter(|p| self.running[p.index].is_decoding() == decoding);
            of.map(|p| p.range.len()).sum()
        };
        let (prefill, decode) = (rows(false), rows(true));
        let share = time.mul_f64(prefill as f64 / (prefill + decode).max(1) as f64);
        self.tally.prefill_rows += prefill as u64;
        self.tally.prefill_busy += share;
        self.tally.decode_busy += time.saturating_sub(share);
    }

    fn apply(&mut self, plan: &[Planned], outcomes: Vec<Outcome>) {
        let mut ended = Vec::new();
        for (planned, outcome) in plan.iter().zip(outcomes) {
            self.tally.computed_tokens += planned.range.len() as u64;
            let sequence = &mut self.running[planned.index];
            let n_drafted = planned.range.end.saturating_sub(sequence.tokens.len());
            self.tally.drafted_tokens += n_drafted as u64;
            match outcome {
                Outcome::NonFinite(_) if n_drafted > 0 => {
                    // Perhaps only the draft was at fault: the next step shows it.
                    sequence.stop_drafting();
                    continue;
                }
                Outcome::NonFinite(position) => {
                    ended.push((planned.index, Some(GenerateError::NonFinite { position })));
                    continue;
                }
                _ => sequence.advance(planned.range.end - n_drafted, &mut self.pages),
            }
            match outcome {
                Outcome::Drawn(draws) => {
                    if let Some(end) = self.take_draws(planned.index, draws) {
                        ended.push((planned.index, end.err()));
                    }
                }
                Outcome::Scored(scores) => {
                    if self.take_scores(planned.index, &scores) {
                        ended.push((planned.index, None));
                    }
                }
                Outcome::Branched(Some(branches)) => {
                    if let Some(finished) = sequence.branch(&branches) {
                        self.tally.cached_tokens += sequence.cached as u64;
                        self.tally.finish(&finished);
                        self.answers.push(finished.answer);
                        ended.push((planned.index, None));
                    }
                }
                Outcome::Branched(None) => {
                    let position = sequence.computed - 1;
                    ended.push((planned.index, Some(GenerateError::NonFinite { position })));
                }
                Outcome::Computed | Outcome::NonFinite(_) => {}
            }
        }
        for (index, error) in ended.into_iter().rev() {
            match error {
                Some(error) => self.fail_sequence(index, error),
                None => self.running.remove(index).release(&mut self.pages),
            }
        }
    }

    /// Takes drawn tokens in their order; `Some` when the sequence has ended, well or with an error. The rows of those
    /// that were drafted were computed in the same step.
    fn take_draws(&mut self, index: usize, draws: Draws) -> Option<Result<(), GenerateError>> {
        let sequence = &mut self.running[index];
        if let Some(times) = sequence.take_mask_times() {
            self.tally.masks.merge(&times);
        }
        let Draws { tokens, accepted, forced, end } = draws;
        let n_tokens = tokens.len();
        for (i, (id, logprob)) in tokens.into_iter().enumerate() {
            self.tally.generated_tokens += 1;
            self.tally.accepted_tokens += u64::from(i > 0 && i <= accepted);
            self.tally.forced_tokens += u64::from(i + forced >= n_tokens);
            let is_complete = i + 1 == n_tokens && matches!(end, Some(End::Complete));
            if let Some(finished) = sequence.push(Drawn { id, logprob, is_complete }, self.backend.eog()) {
                self.tally.cached_tokens += sequence.cached as u64;
                self.tally.finish(&finished);
                self.answers.push(finished.answer);
                return Some(Ok(()));
            }
            if i < accepted {
                sequence.advance(sequence.tokens.len(), &mut self.pages);
            }
        }
        sequence.note_fresh();
        match end? {
            End::NonFinite => Some(Err(GenerateError::NonFinite { position: sequence.computed - 1 })),
            End::Fault(fault) => {
                Some(Err(GenerateError::Grammar { tokens: sequence.n_drawn(), why: fault.to_string() }))
            }
            End::Complete => {
                let why = "its grammar was complete before it".to_owned();
                Some(Err(GenerateError::Grammar { tokens: sequence.n_drawn(), why }))
            }
        }
    }

    /// Notes log-probabilities; true when the sequence has all of its own.
    fn take_scores(&mut self, index: usize, scores: &[(f32, u32)]) -> bool {
        let sequence = &mut self.running[index];
        let Task::Score(scoring) = &mut sequence.task else { return false };
        scoring.scored += scores.len();
        self.tally.scored_tokens += scores.len() as u64;
        let (group_id, continuation) = (scoring.group, scoring.index);
        let is_complete = sequence.computed >= sequence.to_compute();
        let cached = sequence.cached;
        let Some(group) = self.groups.get_mut(&group_id) else { return true };
        let result = &mut group.scores[continuation];
        result.logprobs.extend(scores.iter().map(|s| s.0));
        result.argmax.extend(scores.iter().map(|s| s.1));
        if is_complete {
            group.finished += 1;
            group.cached_tokens += cached;
            self.tally.cached_tokens += cached as u64;
            if group.finished == group.scores.len()
                && let Some(group) = self.groups.remove(&group_id)
            {
                self.tally.finished += 1;
                let answer = Scores { continuations: group.scores, cached_tokens: group.cached_tokens };
                self.answers.push(Answer::Scores(group.answer, Ok(answer)));
            }
        }
        is_complete
    }

    /// Ends a running sequence with an error, and with it the score request it belongs to.
    fn fail_sequence(&mut self, index: usize, error: GenerateError) {
        let mut sequence = self.running.remove(index);
        sequence.release(&mut self.pages);
        self.tell(&mut sequence, error);
    }

    /// Answers a sequence's client with an error; the rest of its group is swept away before the next step.
    fn tell(&mut self, sequence: &mut Sequence, error: GenerateError) {
        let answer = match &sequence.task {
            Task::Generate(_) | Task::Label(_) => sequence.failure(error),
            Task::Score(scoring) => {
                self.groups.remove(&scoring.group).map(|group| Answer::Scores(group.answer, Err(error)))
            }
        };
        self.tally.failed += u64::from(answer.is_some());
        self.answers.extend(answer);
    }

    /// After a panic nothing in pages or scratch can be trusted: what was running fails, what waited starts over.
    fn recover(&mut self) {
        self.panics += 1;
        tracing::error!(in_a_row = self.panics, "a step of the engine panicked; the requests in it have failed");
        self.pages = Pages::new(self.backend.n_pages(), &self.config.pinned_prompts);
        for mut sequence in std::mem::take(&mut self.running) {
            self.tell(&mut sequence, GenerateError::EngineFailed { why: "a step panicked; see the log".into() });
        }
        self.waiting.iter_mut().for_each(Sequence::forget_pages);
        if catch_unwind(AssertUnwindSafe(|| self.backend.reset())).is_err() {
            tracing::error!("resetting the model after a panic panicked too");
        }
    }

    fn fail_all(&mut self, error: &GenerateError) {
        let waiting = std::mem::take(&mut self.waiting);
        for mut sequence in std::mem::take(&mut self.running).into_iter().chain(waiting) {
            sequence.release(&mut self.pages);
            self.tell(&mut sequence, error.clone());
        }
        let groups = self.groups.drain().map(|(_, group)| Answer::Scores(group.answer, Err(error.clone())));
        let jobs: Vec<Job> = self.shared.lock().take(usize::MAX).collect();
        let before = self.answers.len();
        self.answers.extend(groups.chain(jobs.into_iter().map(|job| job.fail(error.clone()))));
        self.tally.failed += (self.answers.len() - before) as u64;
        self.starting = None;
    }

    /// Brings the counters up to date, then sends the answers they tell of.
    fn report(&mut self) {
        self.publish_stats();
        self.answers.drain(..).for_each(Answer::send);
    }

    fn publish_stats(&mut self) {
        let t = std::mem::take(&mut self.tally);
        let mut inbox = self.shared.lock();
        inbox.stats.masks.merge(&t.masks);
        inbox.ready = self.panics < PANICS_UNTIL_NOT_READY;
        for in_batch in t.in_batch {
            // An eighth of each new sample: some ten requests until the estimate has moved.
            inbox.service_time = inbox.service_time * 7 / 8 + in_batch / 8;
        }
        let s = &mut inbox.stats;
        *s = EngineStats {
            running: self.running.len(),
            waiting: self.waiting.len() + usize::from(self.starting.is_some()),
            kv_pages_used: self.pages.used(),
            kv_pages_pinned: self.pages.pinned(),
            kv_pages_cached: self.pages.cached(),
            steps: s.steps + u64::from(t.computed_tokens > 0),
            computed_tokens: s.computed_tokens + t.computed_tokens,
            prefill_rows: s.prefill_rows + t.prefill_rows,
            prefill_busy: s.prefill_busy + t.prefill_busy,
            decode_busy: s.decode_busy + t.decode_busy,
            prompt_tokens: s.prompt_tokens + t.prompt_tokens,
            cached_tokens: s.cached_tokens + t.cached_tokens,
            generated_tokens: s.generated_tokens + t.generated_tokens,
            drafted_tokens: s.drafted_tokens + t.drafted_tokens,
            accepted_tokens: s.accepted_tokens + t.accepted_tokens,
            forced_tokens: s.forced_tokens + t.forced_tokens,
            scored_tokens: s.scored_tokens + t.scored_tokens,
            finished_requests: s.finished_requests + t.finished,
            cancelled_requests: s.cancelled_requests + t.cancelled,
            failed_requests: s.failed_requests + t.failed,
            preemptions: s.preemptions + t.preemptions,
            queue_time: s.queue_time + t.timings.queued,
            time_to_first_token: s.time_to_first_token + t.timings.time_to_first_token(),
            decode_time: s.decode_time + t.timings.decode,
            ..*s
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
