//! Who holds which KV page, and which pages already hold a known prefix.
//!
//! Full pages are content-addressed: a page's key is its predecessor and the sixteen token ids it holds, and the first
//! page's predecessor is the [`Namespace`], so a chain of keys spells out a whole prefix. Keys are compared whole,
//! tokens and all, and not by a digest of them: no collision, however contrived, can hand one request the keys and
//! values of another's text. A page nobody holds stays findable until its memory is wanted, oldest first and leaves
//! before what they hang from, so that what remains can always be reached from its namespace. Pages of pinned prompts
//! are held by their pin from the moment they are published.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bantam_kernels::attention::PAGE_TOKENS;
use bantam_models::RopeSet;

/// What else keys and values depend on besides the tokens, and with whom they may be shared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Namespace {
    pub(crate) salt: Option<String>,
    pub(crate) rope: RopeSet,
}

/// What comes before a page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Parent {
    /// Nothing: it is the first of its sequence.
    Root(Arc<Namespace>),
    /// A full page that is itself in the tree.
    Page(u32),
}

/// The content of a full page together with everything before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PageKey {
    pub(crate) parent: Parent,
    pub(crate) tokens: [u32; PAGE_TOKENS],
}

#[derive(Debug, Clone, Default)]
struct Page {
    /// Sequences that hold it.
    refs: u32,
    /// Pages in the tree that have it as parent.
    children: u32,
    /// Its place in the tree; `None` while it is being filled, or free.
    key: Option<PageKey>,
    /// When it was last let go.
    released: u64,
    is_pinned: bool,
}

/// The pool's bookkeeping. Every page is free, or held by at least one sequence, or cached: in the tree and held by
/// none.
#[derive(Debug)]
pub(crate) struct Pages {
    pages: Vec<Page>,
    free: Vec<u32>,
    tree: HashMap<PageKey, u32>,
    /// Cached pages without children, by when they were let go.
    evictable: BTreeSet<(u64, u32)>,
    n_cached: usize,
    clock: u64,
    /// Beginnings of prompts whose pages stay.
    pins: Vec<Vec<u32>>,
    n_pinned: usize,
    max_pinned: usize,
}

impl Pages {
    pub(crate) fn new(n_pages: usize, pins: &[Vec<u32>]) -> Self {
        let n = u32::try_from(n_pages).unwrap_or(u32::MAX);
        Pages {
            pages: vec![Page::default(); n as usize],
            free: (0..n).rev().collect(),
            tree: HashMap::new(),
            evictable: BTreeSet::new(),
            n_cached: 0,
            clock: 0,
            pins: pins.to_vec(),
            n_pinned: 0,
            max_pinned: pins.iter().map(|pin| pin.len() / PAGE_TOKENS).sum(),
        }
    }

    /// Pages that pins hold.
    pub(crate) fn pinned(&self) -> usize {
        self.n_pinned
    }

    /// Holds a page of the tree for good if `prefix`, which it ends, begins a pinned prompt: no more pages than the
    /// pinned prompts have, even where a model keeps one prefix in two namespaces.
    pub(crate) fn pin(&mut self, page: u32, prefix: &[u32]) {
        let p = &mut self.pages[page as usize];
        if !p.is_pinned && self.n_pinned < self.max_pinned && self.pins.iter().any(|pin| pin.starts_with(prefix)) {
            p.is_pinned = true;
            p.refs += 1;
            self.n_pinned += 1;
        }
    }

    pub(crate) fn total(&self) -> usize {
        self.pages.len()
    }

    /// Pages in the tree that nobody holds.
    pub(crate) fn cached(&self) -> usize {
        self.n_cached
    }

    /// Pages that [`Pages::alloc`] can still give.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.n_cached
    }

    /// Pages that sequences or pins hold.
    pub(crate) fn used(&self) -> usize {
        self.total() - self.available()
    }

    /// A page to fill, held once by the caller; forgets the cached page longest unused if no other is free.
    pub(crate) fn alloc(&mut self) -> Option<u32> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => self.evict()?,
        };
        self.pages[page as usize].refs = 1;
        Some(page)
    }

    fn evict(&mut self) -> Option<u32> {
        let (_, page) = self.evictable.pop_first()?;
        self.n_cached -= 1;
        if let Some(key) = self.pages[page as usize].key.take() {
            self.tree.remove(&key);
            if let Parent::Page(parent) = key.parent {
                let p = &mut self.pages[parent as usize];
                p.children -= 1;
                if p.children == 0 && p.refs == 0 {
                    self.evictable.insert((p.released, parent));
                }
            }
        }
        Some(page)
    }

    /// Whether a page with this content is in the tree.
    pub(crate) fn contains(&self, key: &PageKey) -> bool {
        self.tree.contains_key(key)
    }

    /// The page with this content, now held once more.
    pub(crate) fn acquire(&mut self, key: &PageKey) -> Option<u32> {
        let page = *self.tree.get(key)?;
        let p = &mut self.pages[page as usize];
        if p.refs == 0 {
            self.n_cached -= 1;
            self.evictable.remove(&(p.released, page));
        }
        p.refs += 1;
        Some(page)
    }

    /// Puts a page that the caller has filled into the tree and returns the page to use from now on: another one if
    /// the same content was there already, in which case the caller's own is free again.
    pub(crate) fn publish(&mut self, page: u32, key: PageKey) -> u32 {
        if let Some(existing) = self.acquire(&key) {
            self.release(page);
            return existing;
        }
        if let Parent::Page(parent) = key.parent {
            self.pages[parent as usize].children += 1;
        }
        self.pages[page as usize].key = Some(key.clone());
        self.tree.insert(key, page);
        page
    }

    /// Lets go of a page. A sequence lets go of its last page first, so that the tail of a prefix is forgotten before
    /// its head.
    pub(crate) fn release(&mut self, page: u32) {
        self.clock += 1;
        let p = &mut self.pages[page as usize];
        debug_assert!(p.refs > 0, "page {page} is let go more often than it was taken");
        p.refs = p.refs.saturating_sub(1);
        if p.refs > 0 {
            return;
        }
        p.released = self.clock;
        match (&p.key, p.children) {
            (None, _) => self.free.push(page),
            (Some(_), 0) => {
                self.n_cached += 1;
                self.evictable.insert((p.released, page));
            }
            (Some(_), _) => self.n_cached += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root(salt: Option<&str>) -> Parent {
        Parent::Root(Arc::new(Namespace { salt: salt.map(str::to_owned), rope: RopeSet::Short }))
    }

    fn key(parent: Parent, fill: u32) -> PageKey {
        PageKey { parent, tokens: [fill; PAGE_TOKENS] }
    }

    #[test]
    fn equal_content_is_one_page_and_salts_are_apart() {
        let mut pages = Pages::new(4, &[]);
        let a = pages.alloc().unwrap();
        let b = pages.alloc().unwrap();
        assert_eq!(pages.publish(a, key(root(None), 7)), a);
        assert_eq!(pages.publish(b, key(root(None), 7)), a, "the second copy is given back");
        assert_eq!(pages.used(), 1);
        assert_eq!(pages.acquire(&key(root(Some("tenant")), 7)), None);
        assert_eq!(pages.acquire(&key(root(None), 8)), None);
        let long = Parent::Root(Arc::new(Namespace { salt: None, rope: RopeSet::Long }));
        assert_eq!(pages.acquire(&key(long, 7)), None);
    }

    #[test]
    fn the_longest_unused_leaf_goes_first() {
        let mut pages = Pages::new(3, &[]);
        let chain: Vec<u32> = (0..3).map(|_| pages.alloc().unwrap()).collect();
        pages.publish(chain[0], key(root(None), 1));
        pages.publish(chain[1], key(Parent::Page(chain[0]), 2));
        pages.publish(chain[2], key(root(None), 3));
        // Let go in the unhelpful order: the head of the chain is the oldest, yet its child must go before it.
        for page in &chain {
            pages.release(*page);
        }
        assert_eq!((pages.cached(), pages.available()), (3, 3));
        assert_eq!(pages.alloc(), Some(chain[1]));
        assert_eq!(pages.alloc(), Some(chain[0]));
        assert_eq!(pages.alloc(), Some(chain[2]));
        assert_eq!(pages.alloc(), None);
    }

    #[derive(Debug, Clone)]
    enum Op {
        /// A sequence starts: takes what is cached of its tokens, fills the rest, publishes full pages.
        Start {
            salt: u8,
            fills: Vec<u8>,
            tail: bool,
        },
        Stop(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0..2u8, prop::collection::vec(0..3u8, 0..5), any::<bool>())
                .prop_map(|(salt, fills, tail)| Op::Start { salt, fills, tail }),
            2 => any::<usize>().prop_map(Op::Stop),
        ]
    }

    proptest! {
        #[test]
        fn bookkeeping_always_adds_up(n_pages in 1..12usize, ops in prop::collection::vec(op(), 0..60)) {
            let mut pages = Pages::new(n_pages, &[]);
            // What each page must hold: its whole prefix, as (salt, fills).
            let mut content: HashMap<u32, (u8, Vec<u8>)> = HashMap::new();
            let mut live: Vec<Vec<u32>> = Vec::new();
            for op in ops {
                match op {
                    Op::Start { salt, fills, tail } => {
                        let mut held = Vec::new();
                        let mut parent = root(Some(&salt.to_string()));
                        let mut full = true;
                        for (i, &fill) in fills.iter().enumerate() {
                            let prefix = (salt, fills[..=i].to_vec());
                            let k = key(parent.clone(), u32::from(fill));
                            let page = match pages.acquire(&k) {
                                Some(page) => {
                                    prop_assert_eq!(&content[&page], &prefix);
                                    page
                                }
                                None => {
                                    let Some(page) = pages.alloc() else { full = false; break };
                                    prop_assert!(live.iter().flatten().chain(&held).all(|&p| p != page));
                                    content.insert(page, prefix);
                                    pages.publish(page, k)
                                }
                            };
                            held.push(page);
                            parent = Parent::Page(page);
                        }
                        if full && tail && let Some(page) = pages.alloc() {
                            prop_assert!(live.iter().flatten().chain(&held).all(|&p| p != page));
                            held.push(page);
                        }
                        live.push(held);
                    }
                    Op::Stop(i) if !live.is_empty() => {
                        let held = live.swap_remove(i % live.len());
                        for page in held.into_iter().rev() {
                            pages.release(page);
                        }
                    }
                    Op::Stop(_) => {}
                }
                let mut refs: HashMap<u32, u32> = HashMap::new();
                for &page in live.iter().flatten() {
                    *refs.entry(page).or_default() += 1;
                }
                prop_assert_eq!(pages.used(), refs.len());
                prop_assert_eq!(pages.used() + pages.available(), pages.total());
                for (i, page) in pages.pages.iter().enumerate() {
                    prop_assert_eq!(page.refs, refs.get(&(i as u32)).copied().unwrap_or(0));
                    if let Some(PageKey { parent: Parent::Page(parent), .. }) = &page.key {
                        prop_assert!(pages.pages[*parent as usize].key.is_some(), "a page's parent is in the tree");
                    }
                }
                prop_assert_eq!(pages.tree.len(), pages.pages.iter().filter(|p| p.key.is_some()).count());
            }
            for held in live {
                held.into_iter().rev().for_each(|page| pages.release(page));
            }
            prop_assert_eq!(pages.available(), n_pages);
            // Everything can be taken again, cached or not.
            for _ in 0..n_pages {
                prop_assert!(pages.alloc().is_some());
            }
            prop_assert_eq!(pages.alloc(), None);
            prop_assert!(pages.tree.is_empty());
        }
    }
}
