//! Signatures at arithmetic edge cases: zeros, orders, moduli, and other encodings of a valid signature.

use base64::Engine as _;

use super::{Attack, decoded, parts, replaced};
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;

/// The orders of P-256, P-384 and P-521 (SEC 2 §2.4.2, §2.5.1, §2.6.1) and the primes of their fields.
const P256: Curve = Curve {
    order: "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
    prime: "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
};
const P384: Curve = Curve {
    order: "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    prime: "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
};
const P521: Curve = Curve {
    order: "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d0\
            3bb5c9b8899c47aebb6fb71e91386409",
    prime: "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff\
            ffffffffffffffffffffffffffffffff",
};
/// The order of edwards25519 (RFC 8032 §5.1), in little-endian order, as in signatures.
const L: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// Big-endian, in hexadecimal.
struct Curve {
    order: &'static str,
    prime: &'static str,
}

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

fn small(number: u8, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    bytes[size - 1] = number;
    bytes
}

/// An integer in DER.
fn der(number: &[u8]) -> Vec<u8> {
    [&[2, number.len() as u8 + 1, 0], number].concat()
}

/// For each key of the attack, signatures that are almost those of its valid token.
pub(super) async fn edges_of_signatures(attack: &mut Attack) {
    let mut all = Vec::new();
    for (key, token) in attack.keys.iter().zip(&attack.good) {
        let good = decoded(parts(token)[2]);
        let edges = match key.algorithm() {
            Algorithm::Rs256
            | Algorithm::Rs384
            | Algorithm::Rs512
            | Algorithm::Ps256
            | Algorithm::Ps384
            | Algorithm::Ps512 => edges_of_rsa(&good, key),
            Algorithm::Es256 => edges_of_ecdsa(&good, &P256),
            Algorithm::Es384 => edges_of_ecdsa(&good, &P384),
            Algorithm::Es512 => edges_of_ecdsa(&good, &P521),
            Algorithm::EdDsa => edges_of_ed25519(&good),
        };
        all.extend(edges.iter().map(|edge| replaced(token, 2, &BASE64URL.encode(edge))));
    }
    for token in all {
        attack.refuses(token).await;
    }
}

fn edges_of_ecdsa(good: &[u8], curve: &Curve) -> Vec<Vec<u8>> {
    let (n, p, size) = (hex(curve.order), hex(curve.prime), good.len() / 2);
    let (r, s) = good.split_at(size);
    let small = |number| small(number, size);
    let edges = [
        small(0),
        small(1),
        small(2),
        minus(&n, &small(1)),
        n.clone(),
        plus(&n, &small(1)),
        minus(&p, &small(1)),
        p.clone(),
        plus(&p, &small(1)),
        vec![255; size],
        plus(r, &n),
        plus(s, &n),
        minus(&n, r),
        minus(&p, &n),
    ];
    let mut signatures = Vec::new();
    for first in edges.iter().map(Vec::as_slice).chain([r, s]) {
        for second in edges.iter().map(Vec::as_slice).chain([r, s]) {
            signatures.push([first, second].concat());
        }
    }
    let der_length = (2 * (size + 3)) as u8;
    signatures.push([&[0x30, der_length][..], &der(r), &der(s)].concat());
    signatures.extend([0, 1, size - 1, size, 2 * size - 1].map(|length| good[..length].to_vec()));
    signatures.push([&[0][..], r, &[0], s].concat());
    signatures.push([good, good].concat());
    signatures
}

/// Signatures with a congruent number, and with points of small order.
fn edges_of_ed25519(good: &[u8]) -> Vec<Vec<u8>> {
    let (point, number) = good.split_at(32);
    let reversed = |bytes: &[u8]| bytes.iter().rev().copied().collect::<Vec<u8>>();
    let more = reversed(&plus(&reversed(number), &reversed(&hex(L))));
    let mut signatures = vec![[point, &more].concat()];
    let low = [
        small(0, 32),
        reversed(&small(1, 32)),
        vec![255; 32],
        hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ];
    let numbers = [small(0, 32), hex(L), number.to_vec(), vec![255; 32], more];
    signatures.extend(low.iter().flat_map(|low| numbers.iter().map(|number| [low.as_slice(), number].concat())));
    signatures
}

/// Numbers not below the modulus, or of another length.
fn edges_of_rsa(good: &[u8], key: &SigningKey) -> Vec<Vec<u8>> {
    let modulus = decoded(key.public_jwk()["n"].as_str().unwrap());
    vec![
        vec![0; 256],
        vec![255; 256],
        modulus.clone(),
        plus(good, &modulus),
        minus(&modulus, good),
        [&[0][..], good].concat(),
        [good, &[0]].concat(),
        good[1..].to_vec(),
        good[..255].to_vec(),
    ]
}

#[tokio::test]
async fn an_ecdsa_signature_has_a_twin_and_it_is_good_too() {
    // RFC 7518 §3.4 does not require the lower `s`. The text of a token is used only as the cache key, so both forms
    // are separate entries.
    let algorithms = [Algorithm::Es256, Algorithm::Es384, Algorithm::Es512];
    let attack = Attack::of(&algorithms).await;
    for (token, curve) in attack.good.iter().zip([P256, P384, P521]) {
        let signature = decoded(parts(token)[2]);
        let (r, s) = signature.split_at(signature.len() / 2);
        let twin = [r, &minus(&hex(curve.order), s)].concat();
        assert!(attack.accepts(&replaced(token, 2, &BASE64URL.encode(twin))).await);
    }
}
