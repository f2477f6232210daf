//! Calling targets: retries, fallback, balancing and limits around single requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use hyper::{HeaderMap, StatusCode};
use serde::Deserialize;
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::{AnswerBody, Answered, Attempt, Next, Outcome};
use crate::breaker::BreakerPolicy;
use crate::call::{Call, Outbound, Refusal};
use crate::connect;
use crate::error::{CallError, CallErrorKind, Fault, TargetError, Verdict};
use crate::exchange::{Exchange, Reply};
use crate::health::Checks;
use crate::plan::{Group, GroupConfig, Plan};
use crate::retry::{RetryPolicy, retry_after};
use crate::target::Target;
use crate::trace::TraceContext;
use crate::upstream::{Flight, TargetSnapshot, Times, Upstream};

/// How failures are met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reliability {
    /// How failed attempts are repeated.
    pub retry: RetryPolicy,
    /// When a target is left alone.
    pub breaker: BreakerPolicy,
}

/// The targets of a configuration. No other host is ever called.
pub struct Upstreams {
    by_name: BTreeMap<String, Arc<Upstream>>,
    config: Reliability,
    _checks: Checks,
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_name.values()).finish()
    }
}

impl Upstreams {
    /// Sets targets up; nothing is called yet but for health checks. Must run inside a tokio runtime with time and I/O enabled.
    ///
    /// # Errors
    /// [`TargetError::Duplicate`], and [`TargetError::Tls`] where a target is encrypted and there are no certificates.
    pub fn new(targets: Vec<Target>, config: Reliability) -> Result<Self, TargetError> {
        Self::set_up(targets, config, &BTreeMap::new())
    }

    /// The same of a changed configuration. Targets that did not change keep their connections, breakers, limits and counts, and those that are
    /// gone finish what they were asked.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn reload(&self, targets: Vec<Target>, config: Reliability) -> Result<Self, TargetError> {
        let nothing = BTreeMap::new();
        Self::set_up(targets, config, if config == self.config { &self.by_name } else { &nothing })
    }

    fn set_up(
        targets: Vec<Target>,
        config: Reliability,
        old: &BTreeMap<String, Arc<Upstream>>,
    ) -> Result<Self, TargetError> {
        let mut by_name = BTreeMap::new();
        for target in targets {
            let name = target.name.clone();
            let upstream = match old.get(&name).filter(|old| *old.target == target) {
                Some(old) => Arc::clone(old),
                None => {
                    let tls = if target.encrypted() { Some(connect::tls(&target.roots)?) } else { None };
                    let http = connect::client(&target, tls);
                    Arc::new(Upstream::new(target, http, &config))
                }
            };
            if by_name.insert(name.clone(), upstream).is_some() {
                return Err(TargetError::Duplicate { name });
            }
        }
        let checks = Checks::start(by_name.values());
        Ok(Self { by_name, config, _checks: checks })
    }

    /// The target of a name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.by_name.get(name).map(|upstream| &*upstream.target)
    }

    /// A plan of groups of targets, in the order of trying.
    ///
    /// # Errors
    /// [`TargetError::Unknown`], [`TargetError::EmptyPlan`].
    pub fn plan(&self, groups: &[GroupConfig]) -> Result<Plan, TargetError> {
        if groups.is_empty() || groups.iter().any(|group| group.targets.is_empty()) {
            return Err(TargetError::EmptyPlan);
        }
        let find = |name: &String| {
            let upstream = self.by_name.get(name).map(Arc::clone);
            upstream.ok_or_else(|| TargetError::Unknown { name: name.clone() })
        };
        let group = |group: &GroupConfig| {
            let members = group.targets.iter().map(find).collect::<Result<_, _>>()?;
            Ok(Group { members, balance: group.balance })
        };
        Ok(Plan { groups: groups.iter().map(group).collect::<Result<_, _>>()? })
    }

    /// Has the times of every target noted; of one that a configuration before this had, they go where they went then.
    pub fn watch(&self, times: impl Fn(&Target) -> Times) {
        for upstream in self.by_name.values() {
            upstream.watch(|| times(&upstream.target));
        }
    }

    /// What is known about every target now, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<TargetSnapshot> {
        self.by_name.values().map(|upstream| upstream.snapshot()).collect()
    }

    /// Goes through a plan until a target answers. Dropping the future, or the answer's body, ends the request at the target.
    ///
    /// Within a group, what may pass is tried again, elsewhere in the group if possible, as often as the policy and the target's budget allow.
    /// What another target may do better goes on to the next. If the last attempt brought an answer, of whatever status, that is the result.
    ///
    /// # Errors
    /// [`CallError`], with all attempts.
    pub async fn call(&self, plan: &Plan, call: Call<'_>) -> Result<Answered, CallError> {
        let mut run = Run {
            config: &self.config,
            call: &call,
            start: Instant::now(),
            made: Vec::new(),
            trace: None,
            attempts: Vec::with_capacity(1),
            end: End::Nothing,
            retry_after: None,
        };
        let last = plan.groups.len() - 1;
        for (i, group) in plan.groups.iter().enumerate() {
            if run.group(group).await == Step::Done {
                break;
            }
            if i < last {
                run.mark(Next::FellBack);
            }
        }
        run.finish()
    }
}

/// Whether a call is over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Done,
    NextGroup,
}

/// How a call ends, if nothing better comes.
enum End {
    Nothing,
    Answer { target: Arc<Target>, status: StatusCode, headers: HeaderMap, body: AnswerBody },
    Fault { target: Arc<Target>, fault: Fault },
    Refused(Refusal),
    Busy,
    Deadline,
}

/// One call on its way.
struct Run<'a> {
    config: &'a Reliability,
    call: &'a Call<'a>,
    start: Instant,
    /// The request as each target that was asked so far takes it.
    made: Vec<(Arc<Upstream>, Outbound)>,
    /// The span of the attempt that runs.
    trace: Option<TraceContext>,
    attempts: Vec<Attempt>,
    end: End,
    /// When the first target that was left alone may be tried again.
    retry_after: Option<Duration>,
}

/// Who gets the next attempt.
enum Pick {
    One(usize, Flight),
    /// All have as much to do as they take.
    Busy,
    /// None may be tried for so long.
    None(Duration),
}

impl Run<'_> {
    async fn group(&mut self, group: &Group) -> Step {
        let random = &mut fastrand::Rng::new();
        // Members that will not answer this request, and those that failed it once.
        let (mut barred, mut failed): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        let own = group.members.iter().filter_map(|member| member.target.attempts).max();
        let most = own.unwrap_or(self.config.retry.attempts);
        let mut failures = 0;
        loop {
            if Instant::now() >= self.call.deadline {
                self.stop(End::Deadline);
                return Step::Done;
            }
            let (member, flight) = match self.pick(group, &barred, &failed, random).await {
                Pick::One(member, flight) => (member, flight),
                Pick::Busy => {
                    self.stop(End::Busy);
                    return Step::NextGroup;
                }
                Pick::None(wait) => {
                    // Only what failed here may be waited for: it was asked to come back.
                    let worth = failures > 0 && failures < most;
                    if !worth || wait > self.config.retry.retry_after || !self.pause(wait).await {
                        let sooner = self.retry_after.is_none_or(|before| wait < before);
                        if sooner && barred.len() < group.members.len() {
                            self.retry_after = Some(wait);
                        }
                        return Step::NextGroup;
                    }
                    failures += 1;
                    continue;
                }
            };
            let upstream = Arc::clone(&flight.upstream);
            if failures == 0 {
                upstream.deposit(self.config);
            } else if failed.contains(&member) {
                upstream.count_retry();
            }
            match self.attempt(flight).await {
                Verdict::Final => return Step::Done,
                Verdict::NextTarget => barred.push(member),
                Verdict::Retry => {
                    failures += 1;
                    failed.push(member);
                    if failures >= most || !upstream.may_retry(self.config, Instant::now()) {
                        return Step::NextGroup;
                    }
                    let not: Vec<usize> = barred.iter().chain(&failed).copied().collect();
                    if group.order(&not, Instant::now(), random).is_empty()
                        && !self.pause(self.config.retry.wait(failures, random)).await
                    {
                        return Step::NextGroup;
                    }
                }
            }
            if barred.len() == group.members.len() {
                return Step::NextGroup;
            }
            self.mark(Next::Retried);
        }
    }

    /// Chooses a member: one that has not failed yet if there is one; waits for a place where all are busy.
    async fn pick(&self, group: &Group, barred: &[usize], failed: &[usize], random: &mut fastrand::Rng) -> Pick {
        let now = Instant::now();
        let mut order = if group.members.len() == 1 {
            Vec::new()
        } else {
            let not: Vec<usize> = barred.iter().chain(failed).copied().collect();
            group.order(&not, now, random)
        };
        if order.is_empty() {
            order = group.order(barred, now, random);
        }
        for &member in &order {
            if let Some(flight) = group.members[member].begin(now) {
                return Pick::One(member, flight);
            }
        }
        if order.is_empty() {
            let waits = group.members.iter().enumerate().filter(|(i, _)| !barred.contains(i));
            let soonest = waits.filter_map(|(_, member)| member.wait(now)).min();
            return Pick::None(soonest.unwrap_or_default());
        }
        let mut queues: FuturesUnordered<_> =
            order.iter().map(|&member| async move { (member, group.members[member].begin_later().await) }).collect();
        let wait = order.iter().map(|&member| group.members[member].target.limits.queue_wait).max();
        let until = (now + wait.unwrap_or_default()).min(self.call.deadline);
        while let Ok(Some((member, flight))) = timeout_at(until, queues.next()).await {
            if let Some(flight) = flight {
                return Pick::One(member, flight);
            }
        }
        Pick::Busy
    }

    /// Waits, unless that would pass the deadline.
    async fn pause(&self, time: Duration) -> bool {
        if Instant::now() + time >= self.call.deadline {
            return false;
        }
        sleep(time).await;
        true
    }

    async fn attempt(&mut self, mut flight: Flight) -> Verdict {
        let upstream = Arc::clone(&flight.upstream);
        let began = Instant::now();
        self.trace = self.call.trace.map(TraceContext::child);
        let made = match self.made.iter().position(|(made, _)| Arc::ptr_eq(made, &upstream)) {
            Some(made) => made,
            None => match self.call.outgoing.outbound(&upstream.target) {
                Ok(outbound) => {
                    self.made.push((Arc::clone(&upstream), outbound));
                    self.made.len() - 1
                }
                Err(refusal) => {
                    let fault = Fault::Refused { why: refusal.to_string() };
                    flight.failed(&fault);
                    self.note(&upstream, began, None, Outcome::Fault(fault));
                    self.stop(End::Refused(refusal));
                    return Verdict::NextTarget;
                }
            },
        };
        let exchange = Exchange {
            outbound: &self.made[made].1,
            delivery: self.call.delivery,
            deadline: self.call.deadline,
            trace: self.trace,
        };
        match exchange.run(flight).await {
            Ok(reply) => self.answered(&upstream, began, reply),
            Err(fault) => {
                self.note(&upstream, began, None, Outcome::Fault(fault.clone()));
                let verdict = match &fault {
                    Fault::Deadline | Fault::BodyTooLarge { .. } => Verdict::Final,
                    fault if fault.retryable() => Verdict::Retry,
                    _ => Verdict::NextTarget,
                };
                self.end = match fault {
                    Fault::Deadline => End::Deadline,
                    fault => End::Fault { target: Arc::clone(&upstream.target), fault },
                };
                verdict
            }
        }
    }

    fn answered(&mut self, upstream: &Upstream, began: Instant, reply: Reply) -> Verdict {
        let Reply { status, headers, body, first_byte } = reply;
        self.note(upstream, began, Some(first_byte - began), Outcome::Status(status.as_u16()));
        let verdict = Verdict::of(status);
        if verdict == Verdict::Retry
            && let Some(asked) = retry_after(&headers, SystemTime::now())
        {
            upstream.cool(Instant::now(), asked.min(self.config.retry.retry_after_at_most));
        }
        self.end = End::Answer { target: Arc::clone(&upstream.target), status, headers, body };
        verdict
    }

    fn note(&mut self, upstream: &Upstream, began: Instant, first_byte: Option<Duration>, outcome: Outcome) {
        self.attempts.push(Attempt {
            target: Arc::clone(&upstream.target),
            started: began - self.start,
            first_byte,
            took: began.elapsed(),
            outcome,
            next: Next::Told,
            trace: self.trace,
        });
    }

    /// What became of the last attempt.
    fn mark(&mut self, next: Next) {
        if let Some(last) = self.attempts.last_mut().filter(|last| last.next == Next::Told) {
            last.next = next;
        }
    }

    /// Ends the call like this, unless an attempt has told more.
    fn stop(&mut self, end: End) {
        match (&self.end, &end) {
            (End::Nothing | End::Busy, _) | (End::Refused(_), End::Refused(_)) => self.end = end,
            (End::Fault { .. }, End::Deadline) => self.end = end,
            _ => {}
        }
    }

    fn finish(self) -> Result<Answered, CallError> {
        let attempts = self.attempts;
        let kind = match self.end {
            End::Answer { target, status, headers, body } => {
                return Ok(Answered { target, status, headers, body, attempts });
            }
            End::Fault { target, fault } => CallErrorKind::Failed { target: target.name.clone(), fault },
            End::Refused(refusal) => CallErrorKind::Refused(refusal),
            End::Busy => CallErrorKind::Busy,
            End::Deadline => CallErrorKind::Deadline,
            End::Nothing => CallErrorKind::Unavailable { retry_after: self.retry_after.unwrap_or_default() },
        };
        Err(CallError { attempts, kind })
    }
}
