//! The merging of byte-pair encoding: of all adjacent pairs that may merge, the one of lowest rank does, the leftmost
//! among equals, until none is left. Byte-level BPE ranks pairs by their place in the merge list, SentencePiece by the
//! score of what they merge into; the rest is the same and written once, here. A heap of candidates keeps it at
//! O(n log n), so a word of ten million characters is slow in proportion and no worse.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// No symbol, or no token: the end of the chain.
pub(super) const NONE: u32 = u32::MAX;

/// A stretch of the text that is one unit so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    /// The token it stands for, or [`NONE`] while it is a character that nothing was looked up for.
    pub(super) id: u32,
    /// Offset of its first byte.
    pub(super) start: u32,
    /// Length in bytes; 0 once it was merged into the symbol before it.
    pub(super) len: u32,
    prev: u32,
    next: u32,
}

/// What two neighbours merge into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merge {
    /// Lower merges first.
    pub(super) rank: u32,
    /// The token they become.
    pub(super) id: u32,
}

/// A pair that could merge. `len` is the length in bytes of both together: symbols only grow, so a candidate whose
/// pair has another length by now is out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    len: u32,
    id: u32,
}

/// The working memory of merging, reused from word to word.
#[derive(Debug, Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate>>,
}

impl Merger {
    /// Forgets the last word.
    pub(super) fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Adds the next `len` bytes of the word as a symbol.
    pub(super) fn push(&mut self, id: u32, len: u32) {
        let position = self.symbols.len() as u32;
        let (start, prev) = match self.symbols.last_mut() {
            Some(last) => {
                last.next = position;
                (last.start + last.len, position - 1)
            }
            None => (0, NONE),
        };
        self.symbols.push(Symbol { id, start, len, prev, next: NONE });
    }

    /// Merges until no pair is left that `find` has a merge for.
    pub(super) fn run(&mut self, find: impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        for left in 0..(self.symbols.len() as u32).saturating_sub(1) {
            self.consider(left, &find);
        }
        while let Some(Reverse(candidate)) = self.queue.pop() {
            let left = self.symbols[candidate.left as usize];
            if left.len == 0 || left.next == NONE {
                continue;
            }
            let right = self.symbols[left.next as usize];
            if left.len + right.len != candidate.len {
                continue;
            }
            self.symbols[left.next as usize].len = 0;
            if right.next != NONE {
                self.symbols[right.next as usize].prev = candidate.left;
            }
            let merged = Symbol { id: candidate.id, len: candidate.len, next: right.next, ..left };
            self.symbols[candidate.left as usize] = merged;
            self.consider(candidate.left, &find);
            if merged.prev != NONE {
                self.consider(merged.prev, &find);
            }
        }
    }

    /// What is left, in order.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|symbol| symbol.len > 0)
    }

    fn consider(&mut self, left: u32, find: &impl Fn(&Symbol, &Symbol) -> Option<Merge>) {
        let first = &self.symbols[left as usize];
        if first.next == NONE {
            return;
        }
        let second = &self.symbols[first.next as usize];
        if let Some(Merge { rank, id }) = find(first, second) {
            self.queue.push(Reverse(Candidate { rank, left, len: first.len + second.len, id }));
        }
    }
}
