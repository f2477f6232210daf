//! Words, pairs of words and runs of characters, hashed into a fixed number of buckets and weighted by how rare they are
//! (feature hashing, Weinberger et al. 2009). What a sentence encoder averages away, such as a product name, a negation or
//! a code, stays visible here.

use super::design::Sparse;

/// Buckets of the words and pairs, and as many of the runs of characters.
const BUCKETS: usize = 4_096;
const CHAR_RUNS: std::ops::RangeInclusive<usize> = 3..=5;
/// Characters of one text that are looked at, and those of all training texts together.
const MAX_CHARS: usize = 2_000;
const MAX_CHARS_IN_ALL: usize = 20_000_000;

/// From text to sparse features; knows which buckets occurred in training.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TextFeatures {
    max_chars: usize,
    /// The buckets that occurred in training, ascending.
    buckets: Vec<u32>,
    /// Inverse document frequency of each.
    #[serde(skip)]
    pub(crate) idf: Vec<f32>,
}

/// Bucket and signed sublinear count, ascending; words first.
type Counts = Vec<(u32, f32)>;

impl TextFeatures {
    /// Learns the frequencies of `texts` and gives their features.
    pub(crate) fn fit(texts: &[&str]) -> (Self, Sparse) {
        let max_chars = (MAX_CHARS_IN_ALL / texts.len().max(1)).min(MAX_CHARS);
        let counted: Vec<Counts> = texts.iter().map(|text| count(text, max_chars)).collect();
        let mut frequency = vec![0_u32; 2 * BUCKETS];
        counted.iter().flatten().for_each(|(bucket, _)| frequency[*bucket as usize] += 1);
        let buckets: Vec<u32> = (0..2 * BUCKETS as u32).filter(|bucket| frequency[*bucket as usize] > 0).collect();
        let idf = |bucket: &u32| {
            let seen = f64::from(frequency[*bucket as usize]);
            (libm::log((1.0 + texts.len() as f64) / (1.0 + seen)) + 1.0) as f32
        };
        let features = Self { max_chars, idf: buckets.iter().map(idf).collect(), buckets };
        let mut rows = Sparse::new(features.width());
        counted.iter().for_each(|counts| rows.push(features.weigh(counts)));
        (features, rows)
    }

    /// How many features there are.
    pub(crate) fn width(&self) -> usize {
        self.buckets.len()
    }

    /// The features of one text.
    pub(crate) fn of(&self, text: &str) -> Vec<(u32, f32)> {
        self.weigh(&count(text, self.max_chars))
    }

    /// Whether these numbers, read from outside, can be used.
    pub(crate) fn is_valid(&self) -> bool {
        self.max_chars <= MAX_CHARS
            && self.idf.len() == self.buckets.len()
            && self.buckets.windows(2).all(|pair| pair[0] < pair[1])
            && self.buckets.last().is_none_or(|last| (*last as usize) < 2 * BUCKETS)
    }

    /// Words and runs of characters each get length 1.
    fn weigh(&self, counts: &Counts) -> Vec<(u32, f32)> {
        let known = |&(bucket, value): &(u32, f32)| {
            let at = self.buckets.binary_search(&bucket).ok()?;
            Some((at as u32, value * self.idf[at]))
        };
        let (words, runs) = counts.split_at(counts.partition_point(|(bucket, _)| (*bucket as usize) < BUCKETS));
        let mut row = Vec::with_capacity(counts.len());
        for group in [words, runs] {
            let first = row.len();
            row.extend(group.iter().filter_map(known));
            let length = row[first..].iter().map(|(_, value): &(u32, f32)| value * value).sum::<f32>().sqrt();
            row[first..].iter_mut().for_each(|(_, value)| *value /= length.max(f32::MIN_POSITIVE));
        }
        row
    }
}

fn count(text: &str, max_chars: usize) -> Counts {
    let mut words: Vec<u64> = Vec::new();
    let mut runs: Vec<u64> = Vec::new();
    let lower: String = text.chars().take(max_chars).flat_map(char::to_lowercase).collect();
    let mut previous: Option<&str> = None;
    let mut chars: Vec<char> = Vec::new();
    for word in lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()) {
        words.push(hash([word.as_bytes()]));
        if let Some(previous) = previous {
            words.push(hash([previous.as_bytes(), b" ", word.as_bytes()]));
        }
        previous = Some(word);
        chars.clear();
        chars.extend(std::iter::once(' ').chain(word.chars()).chain(std::iter::once(' ')));
        for n in CHAR_RUNS {
            for run in chars.windows(n) {
                runs.push(hash(run.iter().map(|c| u32::from(*c).to_le_bytes())));
            }
        }
    }
    let mut counts = bucket(words, 0);
    counts.extend(bucket(runs, BUCKETS as u32));
    counts
}

/// FNV-1a, then the mixing steps of SplitMix64 so that every bit depends on every byte.
fn hash<B: AsRef<[u8]>>(parts: impl IntoIterator<Item = B>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for &byte in part.as_ref() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    crate::rng::Rng::new(hash).next_u64()
}

/// Adds up what falls into the same bucket; a sign from the hash lets collisions cancel on average.
fn bucket(mut hashes: Vec<u64>, first: u32) -> Counts {
    hashes.sort_unstable();
    let signed = |run: &[u64]| {
        let value = 1.0 + libm::logf(run.len() as f32);
        let bucket = (run[0] % BUCKETS as u64) as u32;
        (first + bucket, if run[0] >> 63 == 0 { value } else { -value })
    };
    let mut counts: Counts = hashes.chunk_by(|a, b| a == b).map(signed).collect();
    // Stable, so equal buckets are added in the order of their hashes.
    counts.sort_by_key(|(bucket, _)| *bucket);
    counts.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_count_and_order_of_words_does() {
        let texts = ["my card was lost", "my card was stolen", "top up failed", "Lost: MY card!?"];
        let (features, rows) = TextFeatures::fit(&texts);
        assert_eq!(rows.len(), 4);
        assert_eq!(features.of("MY CARD, was lost"), rows.row(0));
        assert_ne!(features.of("was lost my card"), rows.row(0));
        // Words and runs of characters have length 1 each.
        let square: f32 = rows.row(1).iter().map(|(_, value)| value * value).sum();
        assert!((square - 2.0).abs() < 1e-5);
        assert!(features.of("").is_empty() && features.of("?!").is_empty() && features.is_valid());
    }

    #[test]
    fn rare_words_weigh_more_and_long_texts_end() {
        let (features, _) = TextFeatures::fit(&["a b", "a c", "a d"]);
        let bucket = |word: &str| (hash([word.as_bytes()]) % BUCKETS as u64) as u32;
        let weight = |word: &str| features.idf[features.buckets.binary_search(&bucket(word)).unwrap()];
        assert!(weight("b") > weight("a"));
        let long = "word ".repeat(MAX_CHARS);
        assert_eq!(count(&long, MAX_CHARS), count(&long[..MAX_CHARS], MAX_CHARS));
    }
}
