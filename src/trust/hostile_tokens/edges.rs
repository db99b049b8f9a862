//! Signatures at arithmetic edge cases: zeros, orders, moduli, and other encodings of a valid signature.

use base64::Engine as _;

use super::{Attack, decoded, parts, replaced};
use crate::jose::BASE64URL;

/// The order of P-256 (SEC 2 §2.4.2) and the prime of its field.
const N: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
const P: &str = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
/// The order of edwards25519 (RFC 8032 §5.1), in little-endian order, as in signatures.
const L: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// `a - b`. Both numbers are big-endian and of equal length.
fn minus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut borrow = 0;
    let mut difference: Vec<u8> = Vec::new();
    for (a, b) in a.iter().zip(b).rev() {
        let digit = i16::from(*a) - i16::from(*b) - borrow;
        borrow = i16::from(digit < 0);
        difference.push(digit.rem_euclid(256) as u8);
    }
    difference.reverse();
    difference
}

fn plus(a: &[u8], b: &[u8]) -> Vec<u8> {
    let zero = vec![0; b.len()];
    minus(a, &minus(&zero, b))
}

fn small(number: u8) -> Vec<u8> {
    let mut bytes = vec![0; 32];
    bytes[31] = number;
    bytes
}

/// An integer in DER.
fn der(number: &[u8]) -> Vec<u8> {
    [&[2, number.len() as u8 + 1, 0], number].concat()
}

pub(super) async fn edges_of_signatures(attack: &mut Attack) {
    let [rsa, ec, ed] = &attack.good[..] else { panic!() };
    let (rsa, ec, ed) = (rsa.clone(), ec.clone(), ed.clone());
    let signature = |token: &str| decoded(parts(token)[2]);
    let mut signatures: Vec<(&str, Vec<u8>)> = Vec::new();
    let (n, p, good) = (hex(N), hex(P), signature(&ec));
    let (r, s) = good.split_at(32);
    let mut edges =
        vec![small(0), small(1), small(2), minus(&n, &small(1)), n.clone(), plus(&n, &small(1)), minus(&p, &small(1))];
    edges.extend([
        p.clone(),
        plus(&p, &small(1)),
        vec![255; 32],
        plus(r, &n),
        plus(s, &n),
        minus(&n, r),
        minus(&p, &n),
    ]);
    for first in edges.iter().map(Vec::as_slice).chain([r, s]) {
        for second in edges.iter().map(Vec::as_slice).chain([r, s]) {
            signatures.push((&ec, [first, second].concat()));
        }
    }
    let der_length = (2 * (32 + 3)) as u8;
    signatures.push((&ec, [&[0x30, der_length][..], &der(r), &der(s)].concat()));
    signatures.extend([0, 1, 31, 32, 63].map(|length| (ec.as_str(), good[..length].to_vec())));
    signatures.push((&ec, [&[0][..], r, &[0], s].concat()));
    signatures.push((&ec, [&good[..], &good[..]].concat()));
    // Ed25519 signatures with a congruent number, and with points of small order.
    let good = signature(&ed);
    let (point, number) = good.split_at(32);
    let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
    let more = reversed(&plus(&reversed(number), &reversed(&hex(L))));
    signatures.push((&ed, [point, &more].concat()));
    let low = [
        small(0),
        reversed(&small(1)),
        vec![255; 32],
        hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ];
    let numbers = [small(0), hex(L), number.to_vec(), vec![255; 32], more];
    signatures.extend(
        low.iter().flat_map(|low| numbers.iter().map(|number| (ed.as_str(), [low.as_slice(), number].concat()))),
    );
    // RSA numbers not below the modulus, or of another length.
    let good = signature(&rsa);
    let modulus = decoded(attack.keys[0].public_jwk()["n"].as_str().unwrap());
    signatures.extend(
        [vec![0; 256], vec![255; 256], modulus.clone(), plus(&good, &modulus), minus(&modulus, &good)]
            .map(|edge| (rsa.as_str(), edge)),
    );
    signatures.extend(
        [[&[0][..], &good].concat(), [&good[..], &[0]].concat(), good[1..].to_vec(), good[..255].to_vec()]
            .map(|edge| (rsa.as_str(), edge)),
    );
    let all: Vec<String> = signatures.iter().map(|(token, edge)| replaced(token, 2, &BASE64URL.encode(edge))).collect();
    for token in all {
        attack.refuses(token).await;
    }
}

#[tokio::test]
async fn an_ecdsa_signature_has_a_twin_and_it_is_good_too() {
    // RFC 7518 §3.4 does not require the lower `s`. The text of a token is used only as the cache key, so both forms
    // are separate entries.
    let attack = Attack::new().await;
    let signature = decoded(parts(&attack.good[1])[2]);
    let (r, s) = signature.split_at(32);
    let twin = [r, &minus(&hex(N), s)].concat();
    assert!(attack.accepts(&replaced(&attack.good[1], 2, &BASE64URL.encode(twin))).await);
}
