//! Any bytes as record batches: refused, or read back from what is built of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    idemlog_fuzz::batch::decode(bytes);
});
