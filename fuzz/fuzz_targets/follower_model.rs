//! A leader's log and a follower's copy of it, which parts from it now and then.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: idemlog_fuzz::follower::Input| {
    idemlog_fuzz::follower::run(&input);
});
