//! Arbitrary texts: findings are disjoint pieces of the text, pseudonyms are undone wherever the answer is split, and every operator works.
#![no_main]

use arbitrary::Arbitrary;
use bantam_pii::{Anonymiser, Detectors, End, HashKey, Operator, Options, Place, Pseudonyms, Restorer};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    texts: Vec<&'a str>,
    threshold: u8,
    cuts: Vec<u8>,
    mask: (char, u8, bool),
}

fuzz_target!(|input: Input| {
    let detectors = Detectors::default();
    let options = Options { threshold: f32::from(input.threshold) / 255.0, ..Options::default() };
    let mut pseudonyms = Pseudonyms::new();
    let mut hidden = Vec::new();
    for text in &input.texts {
        let findings = detectors.detect(text, &options).expect("short texts are analysed");
        assert!(findings.iter().all(|finding| text.get(finding.range.clone()).is_some_and(|found| !found.is_empty())));
        assert!(findings.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
        hidden.push(pseudonyms.pseudonymise(text, &findings).expect("findings of this text"));

        let (with, count, end) = input.mask;
        let key = HashKey::new([7; 32]).expect("a long key");
        let from = if end { End::End } else { End::Start };
        for operator in [
            Operator::Replace { with: None },
            Operator::Mask { with, count: usize::from(count), from },
            Operator::Hash { key },
            Operator::Redact,
            Operator::Keep,
        ] {
            let anonymiser = Anonymiser::all(operator).with("PHONE_NUMBER", Operator::Pseudonymise);
            let done = anonymiser.apply(text, &findings, &mut Pseudonyms::new()).expect("findings of this text");
            assert!(done.items.iter().all(|item| done.text.get(item.range.clone()).is_some()));
        }
    }
    // Later texts must not change what earlier ones are restored to.
    for (text, hidden) in input.texts.iter().zip(&hidden) {
        assert_eq!(Restorer::whole(&pseudonyms, Place::Text, hidden), **text);
        for place in [Place::Text, Place::Json] {
            let whole = Restorer::whole(&pseudonyms, place, hidden);
            assert_eq!(split(&pseudonyms, place, hidden, &input.cuts), whole);
            // What was never hidden may look like anything, too.
            assert_eq!(split(&pseudonyms, place, text, &input.cuts), Restorer::whole(&pseudonyms, place, text));
        }
    }
});

fn split(pseudonyms: &Pseudonyms, place: Place, text: &str, cuts: &[u8]) -> String {
    let mut restorer = Restorer::new(pseudonyms, place);
    let (mut out, mut rest) = (String::new(), text);
    for &cut in cuts {
        let mut at = usize::from(cut).min(rest.len());
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        out.push_str(&restorer.push(&rest[..at]));
        rest = &rest[at..];
    }
    out.push_str(&restorer.push(rest));
    out.push_str(&restorer.finish());
    out
}
