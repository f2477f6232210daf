//! Arbitrary task files: a task whose hash is the same each time, or a typed error.
#![no_main]

use std::path::Path;

use bantam_tasks::Task;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // No file that a task may name is there.
    let parse = || Task::parse(text, Path::new("task.toml"), Path::new("/nonexistent"));
    match (parse(), parse()) {
        (Ok(a), Ok(b)) => {
            assert_eq!((&a.hash, &a.definition), (&b.hash, &b.definition));
            assert_eq!(a.summary(), b.summary());
        }
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
        _ => panic!("the same text is taken and refused"),
    }
});
