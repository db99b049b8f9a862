//! The cost of single steps of a request: `cargo bench --bench request_steps`.

use std::hint::black_box;

use divan::Bencher;
use portcullis::benching::{Limiting, Verifying, audit_caller, audit_line};

/// As the gateway has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];

fn main() {
    divan::main();
}

/// A token that was never seen.
#[divan::bench(args = ALGORITHMS)]
fn verify_miss(bencher: Bencher<'_, '_>, algorithm: &str) {
    let verifying = Verifying::new(algorithm).expect("a known algorithm");
    bencher.bench_local(|| assert!(verifying.miss()));
}

/// A token that is in the cache.
#[divan::bench]
fn verify_hit(bencher: Bencher<'_, '_>) {
    let verifying = Verifying::new("RS256").expect("a known algorithm");
    bencher.bench_local(|| assert!(verifying.hit()));
}

/// A request counted, by clients in turn.
#[divan::bench(args = [1, 10, 100_000])]
fn limit(bencher: Bencher<'_, '_>, clients: u32) {
    let limiting = Limiting::new(clients);
    let mut client = 0_usize;
    bencher.bench_local(|| {
        client = client.wrapping_add(7919);
        assert!(limiting.count(client));
    });
}

#[divan::bench]
fn audit_line_of_a_request(bencher: Bencher<'_, '_>) {
    let (mut buffer, caller) = (Vec::with_capacity(4096), audit_caller());
    bencher.bench_local(|| {
        buffer.clear();
        audit_line(&mut buffer, &caller);
        black_box(buffer.len())
    });
}
