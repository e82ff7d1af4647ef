//! Any files as a partition: refused with an error and left alone, or a log like any other.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: idemlog_fuzz::directory::Input| {
    idemlog_fuzz::directory::open(&input);
});
