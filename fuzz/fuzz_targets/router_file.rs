//! Arbitrary router files and rows of outcomes: something that can be used, or a typed error.
#![no_main]

use bantam_router::Router;
use bantam_router::prompt::Asked;
use bantam_router::rows::read;
use bantam_stats::container::{Kind, seal};
use libfuzzer_sys::fuzz_target;

const ROUTER: Kind = Kind { magic: b"BANTROUT", version: 1 };

fuzz_target!(|data: &[u8]| {
    // With a checksum that matches, so that what lies behind it is reached.
    let (header, body) = data.split_at(data.len().min(data.first().map_or(0, |n| usize::from(*n) * 16)));
    for bytes in [data, &seal(ROUTER, header, body)] {
        if let Ok(router) = Router::load(bytes) {
            let vector = vec![0.5; router.encoder().dimensions];
            let decided = router.decide(&Asked::prompt("what is it?"), &vector).expect("a router that loads decides");
            assert!(decided.gain.is_finite());
        }
    }
    read(data).for_each(|row| drop(row));
});
