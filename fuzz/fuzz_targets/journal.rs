//! Arbitrary bytes for a ledger's journal: the records at its beginning and the changes they stand for, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bantam_ledger::read_journal(data));
