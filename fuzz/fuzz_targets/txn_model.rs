//! Transactions of one partition, and a model that works everything out from the list of batches in the log.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: idemlog_fuzz::txn::Input| {
    idemlog_fuzz::txn::run(&input);
});
