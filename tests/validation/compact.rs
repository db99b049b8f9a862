//! The compact serialisation has one spelling, and JSON one meaning.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use super::World;
use crate::support::issuer::Key;

const HEADER: &str = r#"{"typ":"JWT","alg":"ES256","kid":"k1"}"#;

#[tokio::test]
async fn a_token_has_three_parts() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    let parts: Vec<&str> = token.split('.').collect();
    let (two, repeated) = (parts[..2].join("."), [&parts[..], &parts[..]].concat().join("."));
    let more = ["", "AAAA", "AAAA.AAAA", "AAAA.AAAA.AAAA"].map(|tail| format!("{token}.{tail}"));
    let mut bad = vec![parts[0].to_owned(), two, repeated, ".".to_owned(), "..".to_owned(), "....".to_owned()];
    bad.extend([format!(".{}.{}", parts[1], parts[2]), format!("{}..{}", parts[0], parts[2])]);
    bad.extend([format!(".{token}"), ".".repeat(8000)]);
    for token in bad.iter().chain(&more) {
        world.refuses(token, "malformed").await;
    }
}

#[tokio::test]
async fn base64url_has_one_spelling() {
    let world = World::start().await;
    let claims = world.corp.claims().to_string();
    let spelt = |header: String, claims: String| {
        let input = format!("{header}.{claims}");
        let signature = world.key.signature(input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let (header, good) = (URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(&claims));
    world.accepts(&spelt(header.clone(), good.clone())).await;
    world.refuses(&spelt(URL_SAFE.encode(HEADER), good.clone()), "malformed").await;
    // Enough of it to need the two characters that the alphabets spell differently.
    let wide = claims.replace("someone", "???>>>???~~~");
    assert!(STANDARD_NO_PAD.encode(&wide).contains(['+', '/']));
    world.refuses(&spelt(header, STANDARD_NO_PAD.encode(&wide)), "malformed").await;
    let token = world.key.sign(&world.corp.claims());
    world.refuses(&format!("{token}="), "malformed").await;
    world.refuses(&format!("{token}=="), "malformed").await;
    world.refuses(&format!("{token}AAA"), "malformed").await;
    // 64 bytes leave four unused bits in the last character; they must be zero.
    let (head, last) = token.split_at(token.len() - 1);
    world.refuses(&format!("{head}{}", char::from(last.as_bytes()[0] + 1)), "malformed").await;
}

#[tokio::test]
async fn other_serialisations_are_no_tokens() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let flattened = format!(r#"{{"protected":"{header}","payload":"{claims}","signature":"{signature}"}}"#);
    world.refuses(&flattened, "malformed").await;
    let general =
        format!(r#"{{"payload":"{claims}","signatures":[{{"protected":"{header}","signature":"{signature}"}}]}}"#);
    world.refuses(&general, "malformed").await;
    // A token as the claims of a token.
    world.refuses(&world.key.sign_text(HEADER, &token), "malformed").await;
}

#[tokio::test]
async fn json_in_a_token_has_one_meaning() {
    let world = World::start().await;
    let good = world.corp.claims().to_string();
    let added = |text: &str| format!("{},{text}}}", &good[..good.len() - 1]);
    let members: Vec<String> = (0..64).map(|n| format!("\"m{n}\":0")).collect();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for bad in [
        added(r#""sub":"someone""#),
        added(r#""sub":"admin""#),
        added(r#""\u0073ub":"admin""#),
        added(r#""x":{"a":1,"a":2}"#),
        added(r#""x":"\ud800""#),
        added(&format!("\"x\":{}{}", "[".repeat(1000), "]".repeat(1000))),
        added(&format!("\"x\":{}1{}", "{\"a\":".repeat(30), "}".repeat(30))),
        added(&members.join(",")),
        format!("{good} {{}}"),
        format!("{good}\0"),
        format!("\u{feff}{good}"),
        format!("/**/{good}"),
        format!("[{good}]"),
        good.replace(':', "="),
        good[..good.len() - 1].to_owned(),
        "null".to_owned(),
        "\"\"".to_owned(),
    ] {
        world.refuses(&world.key.sign_text(HEADER, &bad), "malformed").await;
    }
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(utf16));
    let signature = URL_SAFE_NO_PAD.encode(world.key.signature(input.as_bytes()));
    world.refuses(&format!("{input}.{signature}"), "malformed").await;
    for header in [r#"{"alg":"ES256","kid":"k1","kid":"k1"}"#, r#"{"alg":"none","alg":"ES256","kid":"k1"}"#, "[]", ""] {
        world.refuses(&world.key.sign_text(header, &good), "malformed").await;
    }
}

#[tokio::test]
async fn a_signature_by_anyone_else_or_over_anything_else_is_bad() {
    let world = World::start().await;
    let claims = world.corp.claims();
    let token = world.key.sign(&claims);
    let (input, signature) = token.rsplit_once('.').unwrap();
    let (header, body) = input.split_once('.').unwrap();
    world.refuses(&Key::new("k1", "ES256").sign(&claims), "bad_signature").await;
    world.refuses(&Key::new("rsa", "RS256").sign(&claims), "bad_signature").await;
    let promoted = URL_SAFE_NO_PAD.encode(world.claims("scope", "admin").to_string());
    world.refuses(&format!("{header}.{promoted}.{signature}"), "bad_signature").await;
    let spaced = URL_SAFE_NO_PAD.encode(HEADER.replace(',', ", "));
    world.refuses(&format!("{spaced}.{body}.{signature}"), "bad_signature").await;
    let rsa = Key::rsa().sign(&claims);
    let (input, signature) = rsa.rsplit_once('.').unwrap();
    let short = URL_SAFE_NO_PAD.encode(&URL_SAFE_NO_PAD.decode(signature).unwrap()[..255]);
    world.refuses(&format!("{input}.{short}"), "bad_signature").await;
}

#[tokio::test]
async fn an_ecdsa_signature_is_two_32_byte_numbers_below_the_order() {
    let world = World::start().await;
    let token = world.key.sign(&world.corp.claims());
    let (input, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let zero = [0; 32];
    let der = [&[0x30, 0x46, 0x02, 0x21, 0x00], r, &[0x02, 0x21, 0x00], s].concat();
    for bad in [
        [&zero, &zero[..]].concat(),
        [r, &zero].concat(),
        [&zero, s].concat(),
        [&ORDER, s].concat(),
        [r, &ORDER].concat(),
        [s, r].concat(),
        signature[..63].to_vec(),
        [&signature[..], &[0]].concat(),
        [&[0], &signature[..]].concat(),
        der,
    ] {
        world.refuses(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(bad)), "bad_signature").await;
    }
    // Anyone who has seen a signature can derive this one; RFC 7518 allows both, and it says the same.
    let twin = [r, &subtract(&ORDER, s)].concat();
    world.accepts(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(twin))).await;
}

/// Of the group of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// Of big-endian numbers, the smaller one second.
fn subtract(from: &[u8], what: &[u8]) -> Vec<u8> {
    let mut borrow = false;
    let digits = from.iter().zip(what).rev().map(|(a, b)| {
        let (digit, first) = a.overflowing_sub(*b);
        let (digit, second) = digit.overflowing_sub(borrow.into());
        borrow = first || second;
        digit
    });
    let mut digits: Vec<u8> = digits.collect();
    digits.reverse();
    digits
}
