//! Arbitrary bytes as a server's stream on its way to every client, and arbitrary JSON as a body of every API on its way
//! to every other: something of the other API or a typed error, the same however the bytes are cut.
#![no_main]

use bantam_providers::wire::probe::{Asked, Probe};
use bantam_providers::wire::texts::{Part, for_each_text};
use bantam_providers::wire::{
    AnswerOptions, Api, ApiFault, SseEvent, SseParser, Stream, error_event, request, response, upstream_error,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fn options() -> AnswerOptions {
    AnswerOptions { id: "fuzz".into(), ..AnswerOptions::default() }
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let cut = usize::from(cut).min(data.len());
    let whole = events(&[data]);
    assert_eq!(whole, events(&[&data[..cut], &data[cut..]]));
    let body = serde_json::from_slice::<Value>(data).ok();
    let _ = upstream_error(500, data);
    for from in Api::ALL {
        for to in Api::ALL {
            stream(whole.as_deref().unwrap_or_default(), from, to);
            let Some(body) = &body else { continue };
            if let Ok(mut there) = request(body.clone(), from, to) {
                let _ = Asked::of(to, &there);
                for_each_text(&mut there, Part::Request(to), &mut |_, text| text.clear());
            }
            if let Ok(mut there) = response(body.clone(), from, to, &options()) {
                Probe::default().body(to, &there);
                for_each_text(&mut there, Part::Answer(to), &mut |_, text| text.clear());
            }
        }
    }
});

fn events(pieces: &[&[u8]]) -> Option<Vec<SseEvent>> {
    let (mut parser, mut out) = (SseParser::new(1 << 16), Vec::new());
    pieces.iter().try_for_each(|piece| parser.push(piece, &mut out)).ok().map(|()| out)
}

fn stream(events: &[SseEvent], from: Api, to: Api) {
    let Ok(mut stream) = Stream::new(from, to, options()) else { return };
    let mut out = Vec::new();
    let end = events.iter().try_for_each(|event| stream.push(event, &mut out)).and_then(|()| stream.finish());
    if let Err(error) = end {
        out.push(error_event(to, &ApiFault::from(&error)));
    }
    let mut probe = Probe::default();
    let mut bytes = Vec::new();
    for event in &out {
        probe.raw_event(to, event);
        event.write(&mut bytes);
        if let Ok(mut value) = serde_json::from_str::<Value>(&event.data) {
            for_each_text(&mut value, Part::Event(to), &mut |_, text| text.clear());
        }
    }
    if from != to {
        let mut read = Vec::new();
        SseParser::new(usize::MAX).push(&bytes, &mut read).expect("what was written can be read");
        assert_eq!(read, out);
    }
}
