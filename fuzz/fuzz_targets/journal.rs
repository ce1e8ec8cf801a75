#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    lossproof_fuzz::journal::check(data);
});
