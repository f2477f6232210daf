//! Guesses what comes next from what the sequence itself says.
//!
//! Where an answer copies from its prompt, or repeats itself, the tokens that followed when the text last read like
//! this are likely to follow again. They make a draft that the model verifies in one pass together with the last token
//! (prompt lookup decoding, Saxena 2023). A draft changes what a step costs and never what is drawn.
//!
//! Verifying is not free, so a drafter watches how its guesses fare, those included that nobody verified: comparing
//! them with what was drawn costs nothing. Drafts grow with every token that was guessed right and are halved by one
//! that was not, so that text which does not repeat costs a few rows at its beginning.

/// Most tokens of a draft.
pub(crate) const MAX_DRAFT: usize = 7;
/// Length of the first draft.
const FIRST_DRAFT: usize = 2;
/// Lengths of text that are looked up, the longest first.
const ORDERS: [usize; 2] = [3, 2];
/// Most places that a drafter remembers, at 4 bytes each; past that, new ones take the places of older ones.
const MAX_PLACES: usize = 1 << 16;

/// Looks up drafts in one growing sequence.
#[derive(Debug)]
pub(crate) struct Drafter {
    /// For the hash of a piece of text, the position after its last occurrence; 0 is none. Two pieces may want one
    /// place: the later has it, and what is found is compared with the text.
    places: Vec<u32>,
    /// Pieces that end before this position are in `places`.
    indexed: usize,
    /// The last guess, and the length of the text that it continued.
    guess: Vec<u32>,
    guessed_at: usize,
    /// How much of the next guess is worth verifying.
    trust: usize,
}

impl Drafter {
    /// For a sequence that is expected to grow to about `n_tokens`.
    pub(crate) fn new(n_tokens: usize) -> Self {
        let n_places = n_tokens.saturating_mul(2 * ORDERS.len()).min(MAX_PLACES).next_power_of_two();
        Drafter { places: vec![0; n_places], indexed: 0, guess: Vec::new(), guessed_at: 0, trust: FIRST_DRAFT }
    }

    /// What may follow `tokens`, which must begin with the tokens of the call before: worth verifying, and
    /// [`MAX_DRAFT`] tokens at most.
    pub(crate) fn draft(&mut self, tokens: &[u32]) -> &[u32] {
        self.learn(tokens);
        self.index(tokens);
        self.guess.clear();
        self.guessed_at = tokens.len();
        if let Some(from) = ORDERS.iter().find_map(|&n| self.find(tokens, n)) {
            // A guess that reaches the end of the text goes on in itself, as a text that repeats itself would.
            for i in 0..MAX_DRAFT {
                let next = tokens.get(from + i).or_else(|| self.guess.get(from + i - tokens.len()));
                self.guess.extend(next.copied());
            }
        }
        &self.guess[..self.guess.len().min(self.trust)]
    }

    /// Compares the last guess with what came instead.
    fn learn(&mut self, tokens: &[u32]) {
        let came = &tokens[self.guessed_at..];
        let n_right = self.guess.iter().zip(came).take_while(|(guess, came)| guess == came).count();
        let was_wrong = n_right < self.guess.len().min(came.len());
        self.trust = if was_wrong { self.trust / 2 } else { (self.trust + n_right).min(MAX_DRAFT) };
    }

    /// Takes note of what followed each piece of text so far.
    fn index(&mut self, tokens: &[u32]) {
        for end in self.indexed..tokens.len() {
            for n in ORDERS.into_iter().filter(|&n| n <= end) {
                let place = self.place(&tokens[end - n..end]);
                self.places[place] = u32::try_from(end).unwrap_or(0);
            }
        }
        self.indexed = tokens.len();
    }

    /// The position after the last earlier occurrence of the last `n` tokens.
    fn find(&self, tokens: &[u32], n: usize) -> Option<usize> {
        let end = tokens.len();
        let piece = &tokens[end.checked_sub(n)?..];
        let after = self.places[self.place(piece)] as usize;
        (after >= n && tokens[after - n..after] == *piece).then_some(after)
    }

    fn place(&self, piece: &[u32]) -> usize {
        let mix =
            |hash: u64, &token: &u32| (hash.rotate_left(23) ^ u64::from(token)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let hash = piece.iter().fold(piece.len() as u64, mix);
        (hash >> 32) as usize & (self.places.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drafted(tokens: &[u32]) -> Vec<u32> {
        Drafter::new(64).draft(tokens).to_vec()
    }

    #[test]
    fn what_followed_the_same_text_last_time_is_drafted() {
        assert_eq!(drafted(&[1, 2, 3, 4, 5, 6, 7, 1, 2, 3]), [4, 5]);
        assert_eq!(drafted(&[1, 2, 3, 4, 5, 9, 2, 3, 6, 7, 1, 2, 3]), [4, 5], "three tokens say more than two");
        assert_eq!(drafted(&[8, 2, 3, 4, 5, 9, 2, 3, 6, 7, 1, 2, 3]), [6, 7], "the later of two places");
        assert!([&[1, 2, 3, 4, 5, 6][..], &[], &[1]].iter().all(|text| drafted(text).is_empty()));
    }

    #[test]
    fn a_draft_that_reaches_the_end_goes_on_in_itself() {
        let mut drafter = Drafter::new(64);
        let mut text = vec![5, 6, 5, 6, 5];
        for _ in 0..10 {
            drafter.draft(&text);
            text.push(11 - text[text.len() - 1]);
        }
        assert_eq!(drafter.draft(&text), [6, 5, 6, 5, 6, 5, 6]);
        assert_eq!(drafted(&[7, 7, 7, 7]), [7, 7]);
    }

    #[test]
    fn wrong_guesses_end_drafting_and_right_ones_bring_it_back() {
        // Pairs that return, each time with another successor.
        let mut text = vec![1, 2];
        let mut drafter = Drafter::new(64);
        let mut lengths = Vec::new();
        for other in 3..7 {
            text.extend([other, 1, 2]);
            lengths.push(drafter.draft(&text).len());
        }
        assert_eq!(lengths, [2, 1, 0, 0]);
        for _ in 0..12 {
            text.push(9);
            drafter.draft(&text);
        }
        assert_eq!(drafter.draft(&text).len(), MAX_DRAFT);
    }

    #[test]
    fn memory_is_bounded_and_the_latest_text_is_found() {
        let mut drafter = Drafter::new(usize::MAX);
        assert_eq!(drafter.places.len(), MAX_PLACES);
        let mut text: Vec<u32> = (0..200_000u32).map(|i| i.wrapping_mul(2_654_435_761) >> 8).collect();
        text.extend_from_within(199_900..199_903);
        assert_eq!(drafter.draft(&text), &text[199_903..199_905]);
    }

    proptest! {
        /// Against the definition, with a table so small that places are lost: a draft is what stands after an earlier
        /// occurrence of the text's end, and cutting the text into calls at other places finds the same.
        #[test]
        fn drafts_continue_an_earlier_occurrence(
            text in prop::collection::vec(0..4u32, 0..80),
            cuts in prop::collection::vec(any::<bool>(), 80),
        ) {
            let mut drafter = Drafter::new(4);
            for n in (0..=text.len()).filter(|&n| n == text.len() || cuts[n]) {
                drafter.draft(&text[..n]);
            }
            let guess = drafter.guess.clone();
            drafter = Drafter::new(4);
            drafter.draft(&text);
            prop_assert_eq!(&guess, &drafter.guess);
            if !guess.is_empty() {
                prop_assert_eq!(guess.len(), MAX_DRAFT);
                let whole = [&text[..], &guess].concat();
                let n = text.len();
                let continues = |from: usize| (from..from + MAX_DRAFT).all(|i| whole[i] == whole[i - from + n]);
                prop_assert!((2..n).any(|from| text[from - 2..from] == text[n - 2..] && continues(from)));
            }
        }
    }
}
