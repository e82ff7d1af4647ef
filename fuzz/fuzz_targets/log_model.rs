//! A log and what must hold of it, through deletions, killed processes and power cuts.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: idemlog_fuzz::workload::Input| {
    idemlog_fuzz::workload::run(&input);
});
