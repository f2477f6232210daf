//! The table at work.
//!
//! One pass of a lazy DFA over all patterns says where matches of which rows end. Around these ends, and nowhere else, each row's own expression is
//! run for the exact match. Every pattern has a longest match, so all of that is linear in the text.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, LazyLock};

use regex_automata::hybrid::dfa::{Cache, DFA, OverlappingState};
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Input, MatchKind, hybrid, meta};

use crate::context::Words;
use crate::detector::{Detector, Options};
use crate::error::{DetectError, TableError};
use crate::finding::{Finding, check_count, check_length};
use crate::recogniser::Recogniser;
use crate::resolve;
use crate::table;

/// How much a context word adds to a score.
const CONTEXT_BOOST: f32 = 0.35;
/// Memory for states of the automaton, per thread.
const CACHE_BYTES: usize = 8 << 20;

type CachePool = Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>>;

/// A table of patterns, compiled. Cheap to clone.
#[derive(Clone)]
pub struct Recognisers {
    scanner: Result<Arc<Scanner>, TableError>,
}

struct Scanner {
    rows: Vec<Row>,
    dfa: Arc<DFA>,
    caches: CachePool,
}

struct Row {
    recogniser: Recogniser,
    regex: meta::Regex,
    words: Words,
    /// Bytes of the longest match.
    reach: usize,
}

static STANDARD: LazyLock<Result<Recognisers, TableError>> = LazyLock::new(|| Recognisers::new(table::rows()));

/// What the table is called among detectors.
const NAME: &str = "patterns";

fn failed(why: String) -> DetectError {
    DetectError::Failed { detector: NAME.into(), why }
}

fn syntax() -> syntax::Config {
    syntax::Config::new().unicode(false).utf8(false)
}

impl Recognisers {
    /// Compiles a table.
    ///
    /// # Errors
    /// [`TableError`] names the row whose pattern cannot be used.
    pub fn new(recognisers: impl IntoIterator<Item = Recogniser>) -> Result<Self, TableError> {
        let rows = recognisers.into_iter().map(Row::new).collect::<Result<Vec<_>, _>>()?;
        let patterns: Vec<&str> = rows.iter().map(|row| row.recogniser.pattern).collect();
        let config = hybrid::dfa::Config::new()
            .match_kind(MatchKind::All)
            .cache_capacity(CACHE_BYTES)
            .skip_cache_capacity_check(true);
        let dfa = DFA::builder().configure(config).syntax(syntax()).build_many(&patterns);
        let dfa = Arc::new(dfa.map_err(|error| TableError::Table { why: error.to_string() })?);
        let shared = Arc::clone(&dfa);
        let caches: CachePool = Pool::new(Box::new(move || shared.create_cache()));
        Ok(Self { scanner: Ok(Arc::new(Scanner { rows, dfa, caches })) })
    }

    /// The rows of [`table`], compiled once per process.
    #[must_use]
    pub fn standard() -> Self {
        // A test compiles the table. If it ever did not, every detection would fail.
        STANDARD.clone().unwrap_or_else(|error| Self { scanner: Err(error) })
    }

    /// The rows.
    pub fn rows(&self) -> impl Iterator<Item = &Recogniser> {
        self.scanner.iter().flat_map(|scanner| scanner.rows.iter().map(|row| &row.recogniser))
    }
}

impl Detector for Recognisers {
    fn name(&self) -> &str {
        NAME
    }

    fn entities(&self) -> BTreeSet<&str> {
        self.rows().map(|row| row.entity).collect()
    }

    fn detect(&self, text: &str, options: &Options) -> Result<Vec<Finding>, DetectError> {
        check_length(text)?;
        let scanner = self.scanner.as_ref().map_err(|error| failed(error.to_string()))?;
        let context: Vec<&str> = options.context.iter().map(String::as_str).collect();
        let mut findings = Vec::new();
        for (row, regions) in scanner.rows.iter().zip(scanner.regions(text)?) {
            if !regions.is_empty() && options.wants(row.recogniser.entity) {
                row.find(text, &regions, &mut |range| {
                    let score = row.score(text, &range, &context);
                    if score < options.threshold || options.allow.contains(&text[range.clone()]) {
                        return Ok(());
                    }
                    let Recogniser { entity, name, .. } = row.recogniser;
                    findings.push(Finding { entity: entity.into(), range, score, recogniser: name.into() });
                    check_count(findings.len())
                })?;
            }
        }
        Ok(resolve::best(findings))
    }
}

impl Scanner {
    /// For each row, the disjoint regions in which its matches lie.
    fn regions(&self, text: &str) -> Result<Vec<Vec<Range<usize>>>, DetectError> {
        let mut regions: Vec<Vec<Range<usize>>> = vec![Vec::new(); self.rows.len()];
        let mut cache = self.caches.get();
        let mut state = OverlappingState::start();
        let input = Input::new(text);
        loop {
            let searched = self.dfa.try_search_overlapping_fwd(&mut cache, &input, &mut state);
            searched.map_err(|error| failed(error.to_string()))?;
            let Some(end) = state.get_match() else { return Ok(regions) };
            let (Some(row), Some(regions)) =
                (self.rows.get(end.pattern().as_usize()), regions.get_mut(end.pattern().as_usize()))
            else {
                return Err(failed("a pattern that there is not".into()));
            };
            let start = end.offset().saturating_sub(row.reach);
            match regions.last_mut() {
                Some(last) if last.end >= start => last.end = end.offset(),
                _ => regions.push(start..end.offset()),
            }
        }
    }
}

impl Row {
    fn new(recogniser: Recogniser) -> Result<Self, TableError> {
        let fault = |why: String| TableError::Pattern { recogniser: recogniser.name.to_owned(), why };
        let hir = syntax::parse_with(recogniser.pattern, &syntax()).map_err(|error| fault(error.to_string()))?;
        let (least, most) = (hir.properties().minimum_len(), hir.properties().maximum_len());
        let (Some(1..), Some(reach)) = (least, most) else {
            return Err(TableError::Unbounded { recogniser: recogniser.name.to_owned() });
        };
        // Regions are short: no automaton pays for its states there.
        let config = meta::Config::new().utf8_empty(false).hybrid(false);
        let regex = meta::Regex::builder().configure(config).syntax(syntax()).build(recogniser.pattern);
        let words = Words::new(recogniser.context).map_err(|error| fault(error.to_string()))?;
        Ok(Self { recogniser, reach, words, regex: regex.map_err(|error| fault(error.to_string()))? })
    }

    /// Gives every accepted match to `found`. A match that is not accepted may hide one that begins inside it.
    fn find(
        &self,
        text: &str,
        regions: &[Range<usize>],
        found: &mut dyn FnMut(Range<usize>) -> Result<(), DetectError>,
    ) -> Result<(), DetectError> {
        let mut at = 0;
        for region in regions {
            at = at.max(region.start);
            while at < region.end {
                let input = Input::new(text).span(at..region.end);
                let Some(matched) = self.regex.search(&input) else { break };
                match self.recogniser.check.accept(text, matched.range()) {
                    Some(range) => {
                        // What a check moved to the left was there before.
                        at = range.end.max(matched.start() + 1);
                        found(range)?;
                    }
                    None => at = matched.start() + 1,
                }
            }
        }
        Ok(())
    }

    fn score(&self, text: &str, range: &Range<usize>, context: &[&str]) -> f32 {
        let Recogniser { score, context: words, .. } = self.recogniser;
        let told = || words.iter().any(|word| context.contains(word));
        if told() || self.words.near(text, range) {
            (((score + CONTEXT_BOOST) * 100.0).round() / 100.0).min(1.0)
        } else {
            score
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Check;

    fn row(name: &'static str, pattern: &'static str) -> Recogniser {
        let check = Check::Rule(|text| text.len() % 2 == 0);
        Recogniser { name, entity: "E", pattern, check, context: &[], score: 0.5, found: &[], passed: &[] }
    }

    /// What a row finds in some regions.
    fn within(row: &Row, text: &str, regions: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let keep = &mut |range| {
            found.push(range);
            Ok(())
        };
        row.find(text, regions, keep).unwrap();
        found
    }

    fn texts() -> impl Strategy<Value = String> {
        prop_oneof![
            "[0-9a-c .@:+/-]{0,120}",
            "\\PC{0,80}",
            "([0-9]{1,6}[ .-]?){0,20}",
            "(\\+?[0-9]{4}[ -]|x@y.org |é|[0-9:]{6}){0,12}"
        ]
    }

    proptest! {
        #[test]
        fn regions_hide_no_match(text in texts()) {
            let table = Recognisers::standard();
            let scanner = table.scanner.as_ref().unwrap();
            for (row, regions) in scanner.rows.iter().zip(scanner.regions(&text).unwrap()) {
                // Without the first pass, the whole text is the region.
                let whole = 0..text.len();
                let plainly = within(row, &text, std::slice::from_ref(&whole));
                prop_assert_eq!(within(row, &text, &regions), plainly, "{} {:?}", row.recogniser.name, text);
            }
        }

        #[test]
        fn findings_are_disjoint_pieces_of_any_text(text in texts()) {
            let found = Recognisers::standard().detect(&text, &Options { threshold: 0.0, ..Options::default() }).unwrap();
            prop_assert!(found.iter().all(|f| text.get(f.range.clone()).is_some_and(|t| !t.is_empty())));
            prop_assert!(found.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
            prop_assert!(found.iter().all(|f| (0.0..=1.0).contains(&f.score)));
        }
    }

    #[test]
    fn a_match_that_is_refused_does_not_hide_the_next() {
        let table = Recognisers::new([row("r", r"\b\d{1,4}(?: \d{1,4}){0,3}\b")]).unwrap();
        // 15 characters are odd; those from the second group on are even.
        let found = table.detect("1234 567 890 12", &Options::default()).unwrap();
        assert_eq!((found.len(), found[0].range.clone()), (1, 5..15));
    }

    #[test]
    fn rows_that_cannot_be_used_are_named() {
        for (pattern, message) in [("a+", "longest match"), ("a?", "matches nothing"), ("(", "cannot be compiled")] {
            let error = Recognisers::new([row("bad", pattern)]).err().unwrap().to_string();
            assert!(error.contains("'bad'") && error.contains(message), "{error}");
        }
    }

    #[test]
    fn more_findings_than_allowed_are_an_error() {
        let text = "a@b.io ".repeat(crate::MAX_FINDINGS + 1);
        assert_eq!(Recognisers::standard().detect(&text, &Options::default()), Err(DetectError::TooMany));
    }
}
