//! The decision about each batch against a model that remembers every batch.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: idemlog_fuzz::decision::Input| {
    idemlog_fuzz::decision::compare(&input);
});
