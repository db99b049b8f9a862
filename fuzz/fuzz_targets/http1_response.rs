#![no_main]

#[allow(dead_code)]
#[path = "../../tests/http1_reference/comparison.rs"]
mod comparison;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portcullis::fuzzing::http1::http1_response(data);
    comparison::compare_responses(data);
});
