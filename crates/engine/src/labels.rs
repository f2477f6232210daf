//! Which of given labels continues a prompt: a search through the trie of their tokens instead of a generation loop.
//!
//! The probability of a label is the product, over the places where labels part, of the model's probability of the label's token among
//! those that some label allows there. Tokens that are the only ones allowed cost nothing and are not computed unless a later parting
//! needs them, so a label's length does not count, and the probabilities of all labels sum to 1. The search expands the likeliest
//! place first: the labels it finds come in the order of their probability, and the first one is certain after a few rows.

use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::request::{GenerateError, ModelLimits, SubmitError, Timings, check_ids, check_prompt, check_salt};

/// Most labels of a trie.
pub const MAX_LABELS: usize = 4096;

/// Priors below this (as logarithm) are taken for this: dividing by them would make noise of them.
const LEAST_PRIOR: f64 = -30.0;

/// The tokens of labels as a trie. Built once per task and shared by its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct LabelTrie {
    /// The root first; children after their parents.
    nodes: Vec<Node>,
    n_labels: usize,
    /// Most tokens of a label.
    depth: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    parent: usize,
    /// Nothing at the root.
    token: u32,
    children: Vec<usize>,
    /// The label that ends here.
    label: Option<usize>,
    /// Added to the logarithm of its probability among its siblings.
    bias: f64,
}

impl LabelTrie {
    /// The trie of these labels' tokens. End each with a token that no label has elsewhere, such as the end of the turn: a label must
    /// not be the beginning of another.
    ///
    /// # Errors
    /// [`SubmitError::Invalid`] names the label that is empty or the beginning of another, or their number.
    pub fn new(labels: &[Vec<u32>]) -> Result<LabelTrie, SubmitError> {
        if labels.len() < 2 || labels.len() > MAX_LABELS {
            let why = format!("there must be between 2 and {MAX_LABELS}, and there are {}", labels.len());
            return Err(SubmitError::invalid("labels", why));
        }
        let root = Node { parent: 0, token: 0, children: Vec::new(), label: None, bias: 0.0 };
        let mut trie = LabelTrie { nodes: vec![root], n_labels: labels.len(), depth: 0 };
        for (label, tokens) in labels.iter().enumerate() {
            let clash = |other: usize| {
                let why = format!(
                    "the tokens of label {} are the beginning of those of label {}",
                    other.min(label),
                    other.max(label)
                );
                SubmitError::invalid("labels", why)
            };
            let mut at = 0;
            for &token in tokens {
                if let Some(other) = trie.nodes[at].label {
                    return Err(clash(other));
                }
                at = match trie.nodes[at].children.iter().find(|&&child| trie.nodes[child].token == token) {
                    Some(&child) => child,
                    None => {
                        trie.nodes.push(Node { parent: at, token, children: Vec::new(), label: None, bias: 0.0 });
                        let child = trie.nodes.len() - 1;
                        trie.nodes[at].children.push(child);
                        child
                    }
                };
            }
            if at == 0 {
                return Err(SubmitError::invalid("labels", format!("label {label} has no tokens")));
            }
            if let Some(other) = trie.nodes[at].label {
                return Err(clash(other));
            }
            if !trie.nodes[at].children.is_empty() {
                let mut below = trie.nodes[at].children[0];
                while trie.nodes[below].label.is_none() {
                    below = trie.nodes[below].children[0];
                }
                return Err(clash(trie.nodes[below].label.unwrap_or(label)));
            }
            trie.nodes[at].label = Some(label);
            trie.depth = trie.depth.max(tokens.len());
        }
        Ok(trie)
    }

    /// Number of labels.
    #[must_use]
    pub fn n_labels(&self) -> usize {
        self.n_labels
    }

    /// Most tokens of a label.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// This trie with the model's bias taken out at every parting, given each label's log-probability where the prompt has no content:
    /// there, all labels become equally likely (contextual calibration: Zhao et al. 2021, arXiv:2102.09690).
    #[must_use]
    pub fn without_prior(mut self, logprobs: &[f64]) -> LabelTrie {
        // Prior probability and number of labels of each subtree; children stand after their parents.
        let mut below = vec![(0.0, 0.0); self.nodes.len()];
        for node in (0..self.nodes.len()).rev() {
            if let Some(label) = self.nodes[node].label {
                below[node] = (logprobs.get(label).map_or(0.0, |&p| libm::exp(p.max(LEAST_PRIOR))), 1.0);
            }
            if node > 0 {
                let (mass, count) = below[node];
                let parent = &mut below[self.nodes[node].parent];
                *parent = (parent.0 + mass, parent.1 + count);
            }
        }
        for node in 1..self.nodes.len() {
            let ((mass, count), (all_mass, all_count)) = (below[node], below[self.nodes[node].parent]);
            let bias = libm::log((count / all_count) / (mass / all_mass));
            self.nodes[node].bias = if bias.is_finite() { bias } else { 0.0 };
        }
        self
    }

    /// The tokens from the root to a node.
    fn path(&self, mut node: usize) -> Vec<u32> {
        let mut tokens = Vec::new();
        while node != 0 {
            tokens.push(self.nodes[node].token);
            node = self.nodes[node].parent;
        }
        tokens.reverse();
        tokens
    }

    /// Down from a node to where labels part, or to a label.
    fn descend(&self, mut node: usize) -> usize {
        while let [only] = self.nodes[node].children[..] {
            node = only;
        }
        node
    }
}

/// How far to search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Explore {
    /// Stop when so many labels are found.
    pub n_best: usize,
    /// Stop when the labels found have this much probability together.
    pub mass: f64,
}

impl Explore {
    /// Until the likeliest label is certain.
    pub const BEST: Explore = Explore { n_best: 1, mass: 1.0 };
    /// Every label.
    pub const ALL: Explore = Explore { n_best: usize::MAX, mass: f64::INFINITY };
}

/// Asks which label continues a prompt.
#[derive(Debug, Clone)]
pub struct LabelRequest {
    /// Prompt token ids; at least one.
    pub prompt: Vec<u32>,
    /// The labels.
    pub labels: Arc<LabelTrie>,
    /// How far to search.
    pub explore: Explore,
    /// Requests share cached prompt pages only with requests of the same salt.
    pub cache_salt: Option<String>,
}

impl LabelRequest {
    /// Checks every field against the model's limits.
    ///
    /// # Errors
    /// [`SubmitError::Invalid`] names the field; [`SubmitError::TooLong`] when prompt and labels do not fit.
    pub fn validate(&self, limits: &ModelLimits) -> Result<(), SubmitError> {
        check_prompt(&self.prompt, limits)?;
        let total = self.prompt.len().saturating_add(self.labels.depth);
        if total > limits.context_length {
            return Err(SubmitError::TooLong { prompt: total, max: limits.context_length });
        }
        if self.explore.n_best == 0 || self.explore.mass.is_nan() {
            return Err(SubmitError::invalid("explore", "n_best must be at least 1 and mass a number"));
        }
        let tokens: Vec<u32> = self.labels.nodes.iter().skip(1).map(|node| node.token).collect();
        check_ids("labels", &tokens, limits.vocab_size)?;
        check_salt(self.cache_salt.as_deref())
    }
}

/// Answer to a [`LabelRequest`].
#[derive(Debug, Clone, PartialEq)]
pub struct LabelScores {
    /// The labels found, by index, with the natural logarithm of their probabilities: the likeliest first.
    pub found: Vec<(usize, f64)>,
    /// Prompt tokens.
    pub prompt_tokens: usize,
    /// How many of them were found in the prefix cache and not computed again.
    pub cached_tokens: usize,
    /// Rows computed after the prompt.
    pub searched_tokens: usize,
    /// Where the time went: `decode` is the search.
    pub timings: Timings,
}

/// A place of the trie that the search may go on from.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Open {
    logprob: f64,
    node: usize,
}

impl Eq for Open {}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        self.logprob.total_cmp(&other.logprob).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The search of one request. It knows nothing of the model: it says which row it wants next, and is given that row's logits.
pub(crate) struct LabelSearch {
    labels: Arc<LabelTrie>,
    explore: Explore,
    open: BinaryHeap<Open>,
    at: Open,
    found: Vec<(usize, f64)>,
    mass: f64,
    answer: Option<oneshot::Sender<Result<LabelScores, GenerateError>>>,
    submitted: Instant,
    taken_up: Instant,
    first_row: Option<Instant>,
    searched: usize,
}

/// A request on its way to the scheduler.
pub(crate) struct LabelJob {
    pub(crate) request: LabelRequest,
    pub(crate) answer: oneshot::Sender<Result<LabelScores, GenerateError>>,
    pub(crate) submitted: Instant,
}

impl LabelSearch {
    /// The search, and the tokens after the prompt whose last row it wants first.
    pub(crate) fn new(job: LabelJob) -> (Self, Vec<u32>) {
        let LabelJob { request: LabelRequest { labels, explore, .. }, answer, submitted } = job;
        let at = Open { logprob: 0.0, node: labels.descend(0) };
        let path = labels.path(at.node);
        let search = LabelSearch {
            labels,
            explore,
            open: BinaryHeap::new(),
            at,
            found: Vec::new(),
            mass: 0.0,
            answer: Some(answer),
            submitted,
            taken_up: Instant::now(),
            first_row: None,
            searched: 0,
        };
        (search, path)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// The logarithms of the probabilities of the labels' tokens that may follow here, from a row of logits; nothing if they are no
    /// numbers.
    pub(crate) fn branches(&self, logits: &[f32]) -> Option<Vec<f64>> {
        let node = |&child: &usize| {
            let child = &self.labels.nodes[child];
            logits.get(child.token as usize).map_or(f64::NAN, |&logit| f64::from(logit) + child.bias)
        };
        let mut branches: Vec<f64> = self.labels.nodes[self.at.node].children.iter().map(node).collect();
        let max = branches.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total = max + libm::log(branches.iter().map(|x| libm::exp(x - max)).sum());
        branches.iter_mut().for_each(|x| *x -= total);
        branches.iter().all(|x| !x.is_nan()).then_some(branches)
    }

    /// Takes a row's [`LabelSearch::branches`]; gives the tokens after the prompt whose last row it wants next, or nothing when it is
    /// done.
    pub(crate) fn take(&mut self, branches: &[f64]) -> Option<Vec<u32>> {
        self.first_row.get_or_insert_with(Instant::now);
        for (&node, logprob) in self.labels.nodes[self.at.node].children.iter().zip(branches) {
            self.open.push(Open { logprob: self.at.logprob + logprob, node });
        }
        while let Some(next) = self.open.pop() {
            let node = self.labels.descend(next.node);
            if let Some(label) = self.labels.nodes[node].label {
                self.found.push((label, next.logprob));
                self.mass += libm::exp(next.logprob);
                if self.found.len() >= self.explore.n_best || self.mass >= self.explore.mass {
                    return None;
                }
            } else {
                self.at = Open { node, ..next };
                return Some(self.labels.path(node));
            }
        }
        None
    }

    /// Counts rows computed after the prompt.
    pub(crate) fn count(&mut self, rows: usize) {
        self.searched += rows;
    }

    /// The answer of a search that is done, with its timings and how long it was in the batch.
    pub(crate) fn finish(&mut self, prompt_tokens: usize, cached_tokens: usize) -> (LabelScores, Duration) {
        let now = Instant::now();
        let first = self.first_row.unwrap_or(now);
        let timings = Timings {
            queued: self.taken_up.duration_since(self.submitted),
            prefill: first.duration_since(self.taken_up),
            decode: now.duration_since(first),
        };
        let found = std::mem::take(&mut self.found);
        let scores = LabelScores { found, prompt_tokens, cached_tokens, searched_tokens: self.searched, timings };
        (scores, now.duration_since(self.taken_up))
    }

    /// Whom to tell; only once.
    pub(crate) fn take_answer(&mut self) -> Option<oneshot::Sender<Result<LabelScores, GenerateError>>> {
        self.answer.take()
    }
}

/// An answer on its way. Dropping it cancels the request.
#[derive(Debug)]
pub struct LabelHandle {
    pub(crate) answer: oneshot::Receiver<Result<LabelScores, GenerateError>>,
}

impl LabelHandle {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The error the request ended with.
    pub async fn wait(self) -> Result<LabelScores, GenerateError> {
        self.answer.await.unwrap_or(Err(GenerateError::ShutDown))
    }

    /// Waits for the answer; blocks.
    ///
    /// # Errors
    /// The error the request ended with.
    ///
    /// # Panics
    /// Inside an async runtime, as `tokio`'s blocking receive does.
    pub fn blocking_wait(self) -> Result<LabelScores, GenerateError> {
        self.answer.blocking_recv().unwrap_or(Err(GenerateError::ShutDown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(labels: &[&[u32]]) -> String {
        let labels: Vec<Vec<u32>> = labels.iter().map(|l| l.to_vec()).collect();
        LabelTrie::new(&labels).unwrap_err().to_string()
    }

    #[test]
    fn labels_that_cannot_be_told_apart_are_named() {
        assert!(invalid(&[&[1]]).contains("between 2 and"));
        assert!(invalid(&[&[1], &[]]).contains("label 1 has no tokens"));
        assert!(invalid(&[&[1, 2], &[3], &[1, 2]]).contains("label 0 are the beginning of those of label 2"));
        assert!(invalid(&[&[1, 2], &[1]]).contains("beginning"));
        assert!(invalid(&[&[1], &[1, 2]]).contains("beginning"));
    }

    /// A model whose logits are a function of the path.
    fn logits(path: &[u32]) -> Vec<f32> {
        (0..8u32)
            .map(|t| ((path.iter().fold(t * 7 + 3, |h, p| h.wrapping_mul(31) ^ p.wrapping_mul(17)) % 23) as f32) / 5.0)
            .collect()
    }

    fn search(labels: &LabelTrie, explore: Explore) -> (Vec<(usize, f64)>, usize) {
        let (answer, _keep) = oneshot::channel();
        let request = LabelRequest { prompt: vec![1], labels: Arc::new(labels.clone()), explore, cache_salt: None };
        let (mut search, mut path) = LabelSearch::new(LabelJob { request, answer, submitted: Instant::now() });
        let mut rows = 1;
        loop {
            let branches = search.branches(&logits(&path)).unwrap();
            match search.take(&branches) {
                Some(next) => path = next,
                None => return (search.finish(0, 0).0.found, rows),
            }
            rows += 1;
        }
    }

    /// Straight from the definition.
    fn expected(labels: &[Vec<u32>]) -> Vec<f64> {
        let of = |label: &Vec<u32>| -> f64 {
            (0..label.len())
                .map(|i| {
                    let row = logits(&label[..i]);
                    let mut allowed: Vec<u32> =
                        labels.iter().filter(|l| l[..i.min(l.len())] == label[..i]).map(|l| l[i]).collect();
                    allowed.sort_unstable();
                    allowed.dedup();
                    let total: f64 = allowed.iter().map(|&t| f64::from(row[t as usize]).exp()).sum();
                    f64::from(row[label[i] as usize]) - total.ln()
                })
                .sum()
        };
        labels.iter().map(of).collect()
    }

    fn examples() -> Vec<Vec<u32>> {
        vec![vec![1, 2, 0], vec![1, 3, 0], vec![2, 0], vec![2, 4, 4, 0], vec![5, 5, 5, 0], vec![1, 2, 6, 0], vec![1, 0]]
    }

    #[test]
    fn every_label_gets_the_probability_of_the_definition_and_they_sum_to_one() {
        let labels = examples();
        let trie = LabelTrie::new(&labels).unwrap();
        let (found, _) = search(&trie, Explore::ALL);
        let expected = expected(&labels);
        assert_eq!(found.len(), labels.len());
        for &(label, logprob) in &found {
            assert!((logprob - expected[label]).abs() < 1e-9, "{label}");
        }
        assert!((found.iter().map(|f| f.1.exp()).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(found.windows(2).all(|w| w[0].1 >= w[1].1), "{found:?}");
    }

    #[test]
    fn the_best_label_is_the_same_with_fewer_rows() {
        let trie = LabelTrie::new(&examples()).unwrap();
        let (all, all_rows) = search(&trie, Explore::ALL);
        let (best, rows) = search(&trie, Explore::BEST);
        assert_eq!(best[..], all[..1]);
        assert!(rows < all_rows, "{rows} of {all_rows}");
        let (some, _) = search(&trie, Explore { n_best: 99, mass: 0.7 });
        assert!(some.len() < all.len() && some[..] == all[..some.len()]);
    }

    #[test]
    fn without_the_prior_all_labels_are_equally_likely_where_it_was_taken() {
        let labels = examples();
        let trie = LabelTrie::new(&labels).unwrap().without_prior(&expected(&labels));
        let (even, _) = search(&trie, Explore::ALL);
        for (label, logprob) in even {
            assert!((logprob + (labels.len() as f64).ln()).abs() < 1e-9, "{label}");
        }
    }
}
