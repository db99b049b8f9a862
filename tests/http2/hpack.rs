//! Header compression: every representation is read, and what can't be decoded ends the connection (RFC 7541).

use super::Outcome::{self, Answered, ConnectionError};
use super::{COMPRESSION_ERROR, Case, all_hold, case};
use crate::support::frames::*;

const UNDECODABLE: Outcome = ConnectionError(&[COMPRESSION_ERROR]);

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_representation_of_a_field_is_read() {
    all_hold(&accepted()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_block_that_can_not_be_decoded_ends_the_connection() {
    all_hold(&refused()).await;
}

/// A request whose fields end so.
fn ending(field: &[u8]) -> Vec<u8> {
    headers(1, WHOLE, &[&head("GET", &[]), field].concat())
}

/// A request whose fields begin so.
fn beginning(update: &[u8]) -> Vec<u8> {
    headers(1, WHOLE, &[update, &head("GET", &[])].concat())
}

/// `user-agent` is number 58 of the static table; Huffman's code of `user-agent`, `x-test` and `tester` stands here as
/// bytes.
pub(super) fn accepted() -> Vec<Case> {
    let plain = |first: u8, name: &[u8]| {
        let mut field = vec![first];
        string(&mut field, name);
        string(&mut field, b"tester");
        field
    };
    let coded = |first: u8, name: &[u8]| [&[first], name, b"\x84\x49\x50\x92\xd9"].concat();
    let agent: &[u8] = b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93";
    let test: &[u8] = b"\x85\xf2\xb2\x4a\x84\xff";
    let numbered = |first: u8, bits: u32| {
        let mut field = Vec::new();
        integer(&mut field, first, bits, 58);
        string(&mut field, b"tester");
        field
    };
    vec![
        case!("RFC 7541 §6.1 an index": [ending(b"\xba")] => Answered),
        case!("RFC 7541 §6.2.1 a known name, to be kept": [ending(&numbered(0x40, 6))] => Answered),
        case!("RFC 7541 §6.2.1 a name, to be kept, by Huffman's code": [ending(&coded(0x40, agent))] => Answered),
        case!("RFC 7541 §6.2.1 a new name, to be kept": [ending(&plain(0x40, b"x-test"))] => Answered),
        case!("RFC 7541 §6.2.1 a new name, to be kept, by Huffman's code": [ending(&coded(0x40, test))] => Answered),
        case!("RFC 7541 §6.2.2 a known name": [ending(&numbered(0, 4))] => Answered),
        case!("RFC 7541 §6.2.2 a name by Huffman's code": [ending(&coded(0, agent))] => Answered),
        case!("RFC 7541 §6.2.2 a new name": [ending(&plain(0, b"x-test"))] => Answered),
        case!("RFC 7541 §6.2.2 a new name by Huffman's code": [ending(&coded(0, test))] => Answered),
        case!("RFC 7541 §6.2.3 a known name, never to be kept": [ending(&numbered(0x10, 4))] => Answered),
        case!("RFC 7541 §6.2.3 a name, never to be kept, by Huffman's code": [ending(&coded(0x10, agent))] => Answered),
        case!("RFC 7541 §6.2.3 a new name, never to be kept": [ending(&plain(0x10, b"x-test"))] => Answered),
        case!("RFC 7541 §6.2.3 a new name, never to be kept, by Huffman's code": [ending(&coded(0x10, test))] => Answered),
        case!("RFC 7541 §6.3 a table size": [beginning(b"\x20")] => Answered),
        case!("RFC 7541 §4.2 two table sizes": [beginning(b"\x20\x3f\xe1\x1f")] => Answered),
    ]
}

pub(super) fn refused() -> Vec<Case> {
    let mut too_large = Vec::new();
    integer(&mut too_large, 0x20, 5, 4097);
    vec![
        case!("RFC 7541 §2.3.3 an index past both tables": [ending(b"\xfe")] => UNDECODABLE),
        case!("RFC 7541 §2.3.3 a name past both tables": [ending(b"\x0f\x6f\x01x")] => UNDECODABLE),
        case!("RFC 7541 §4.2 a table size behind fields": [ending(b"\x21")] => UNDECODABLE),
        case!("RFC 7541 §5.2 padding of more than seven bits": [ending(b"\0\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff")] => UNDECODABLE),
        case!("RFC 7541 §5.2 padding of zeros": [ending(b"\0\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90")] => UNDECODABLE),
        case!("RFC 7541 §5.2 the end-of-string symbol": [ending(b"\0\x85\xf2\xb2\x4a\x87\xff\xff\xff\xfd\x25\x42\x7f")] => UNDECODABLE),
        case!("RFC 7541 §6.1 index zero": [ending(b"\x80")] => UNDECODABLE),
        case!("RFC 7541 §6.3 a table size past the limit": [beginning(&too_large)] => UNDECODABLE),
    ]
}
