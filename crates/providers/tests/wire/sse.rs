//! Events are the same however the bytes are cut.

use bantam_providers::wire::{SseEvent, SseParser, WireError};
use proptest::prelude::*;

fn parse(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, WireError> {
    let (mut parser, mut out) = (SseParser::default(), Vec::new());
    for piece in pieces {
        parser.push(piece, &mut out)?;
    }
    Ok(out)
}

fn event(name: Option<&str>, data: &str) -> SseEvent {
    SseEvent { event: name.map(Into::into), data: data.into() }
}

#[test]
fn lines_end_in_three_ways_and_the_rest_of_the_standard_holds() {
    for (bytes, expected) in [
        ("data: a\n\ndata: b\n\n", vec![event(None, "a"), event(None, "b")]),
        ("data: a\r\rdata: b\r\r", vec![event(None, "a"), event(None, "b")]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", vec![event(None, "a"), event(None, "b")]),
        ("\u{feff}data: a\n\n", vec![event(None, "a")]),
        ("data: a\n\n\u{feff}data: b\n\n", vec![event(None, "a")]),
        (": comment\n\n:\ndata:a\n\n", vec![event(None, "a")]),
        ("event: x\ndata: 1\ndata:\ndata:  2\n\n", vec![event(Some("x"), "1\n\n 2")]),
        ("data\n\n", vec![event(None, "")]),
        ("event: x\n\ndata: y\n\n", vec![event(None, "y")]),
        ("id: 7\nretry: 5\nunknown: z\ndata: y\n\n", vec![event(None, "y")]),
        ("data: never ended", vec![]),
        ("data: never ended\n", vec![]),
        ("", vec![]),
    ] {
        let whole = parse(&[bytes.as_bytes()]).unwrap();
        assert_eq!(whole, expected, "{bytes:?}");
        for at in 0..bytes.len() {
            let (left, right) = bytes.as_bytes().split_at(at);
            assert_eq!(parse(&[left, right]).unwrap(), whole, "{bytes:?} cut at {at}");
        }
        let single: Vec<&[u8]> = bytes.as_bytes().chunks(1).collect();
        assert_eq!(parse(&single).unwrap(), whole, "{bytes:?} byte by byte");
    }
}

#[test]
fn too_long_events_and_other_encodings_are_typed_errors() {
    let mut out = Vec::new();
    let error = SseParser::new(100).push(&[b'x'; 101], &mut out).unwrap_err();
    assert_eq!(error, WireError::TooLarge { what: "event", limit: 100 });
    let mut parser = SseParser::new(100);
    let error = (0..1000).find_map(|_| parser.push(b"data: 0123456789\n", &mut out).err()).unwrap();
    assert_eq!(error, WireError::TooLarge { what: "event", limit: 100 });
    let mut parser = SseParser::new(100);
    let error = (0..1000).find_map(|_| parser.push(b"0123456789", &mut out).err()).unwrap();
    assert_eq!(error, WireError::TooLarge { what: "event", limit: 100 });
    assert_eq!(parse(&[b"data: \xff\xfe\n\n"]).unwrap_err(), WireError::NotUtf8);
    // A character cut in two by a network packet is none of that.
    assert_eq!(parse(&[b"data: \xc3", b"\xa4\n\n"]).unwrap(), [event(None, "ä")]);
    assert!(out.is_empty());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        events in prop::collection::vec((prop::option::of("[a-z._]{1,12}"), "\\PC{0,20}(\n\\PC{0,5}){0,2}"), 0..6),
        cuts in prop::collection::vec(0_usize..400, 0..6),
    ) {
        let events: Vec<SseEvent> = events.into_iter().map(|(event, data)| SseEvent { event, data }).collect();
        let mut bytes = Vec::new();
        for event in &events {
            event.write(&mut bytes);
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(parse(&pieces).unwrap(), events);
    }

    #[test]
    fn any_bytes_are_events_or_a_typed_error(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
        let cut = cut.min(bytes.len());
        let whole = parse(&[&bytes]);
        prop_assert_eq!(parse(&[&bytes[..cut], &bytes[cut..]]), whole);
    }
}
