//! The HTTP/1.1 codec against hyper's: messages that both accept are read alike. No gateway runs.

mod comparison;

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use self::comparison::{compare_bodies, compare_requests, compare_responses};

/// The seeds of a fuzz target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A seed with some bytes replaced, inserted, removed, or taken from another seed.
fn variations(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let bytes = select(&b"\0\r\n\t ,;:\"\\=#?%/+-_0159aAfFxXz\x0b\x7f\x80\xff"[..]);
    let seeds = corpus(target);
    let changes = vec((any::<Index>(), 0..5_u8, bytes), 1..4);
    (select(seeds.clone()), select(seeds), changes).prop_map(|(mut data, other, changes)| {
        for (place, change, byte) in changes {
            let at = place.index(data.len() + 1);
            match change {
                0 => data.insert(at, byte),
                1 if at < data.len() => data[at] = byte,
                2 if at < data.len() => drop(data.remove(at)),
                3 => data.truncate(at),
                _ => drop(data.splice(at.., other.iter().skip(place.index(other.len() + 1)).copied())),
            }
        }
        data
    })
}

#[test]
fn seeds_are_read_as_hyper_reads_them() {
    corpus("http1_request").iter().for_each(|data| compare_requests(data));
    corpus("http1_body").iter().for_each(|data| compare_bodies(data));
    corpus("http1_response").iter().for_each(|data| compare_responses(data));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_are_read_as_hyper_reads_them(data in variations("http1_request")) {
        compare_requests(&data);
    }

    #[test]
    fn chunked_bodies_are_read_as_hyper_reads_them(data in variations("http1_body")) {
        compare_bodies(&data);
    }

    #[test]
    fn responses_are_read_as_hyper_reads_them(data in variations("http1_response")) {
        compare_responses(&data);
    }
}
