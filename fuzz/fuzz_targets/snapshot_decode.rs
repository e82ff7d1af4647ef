//! Any bytes as the `.snapshot` of a sound log: taken or passed over, and never in the way of the log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: idemlog_fuzz::snapshot::Input| {
    idemlog_fuzz::snapshot::open(&input);
});
