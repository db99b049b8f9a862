//! Changes of good assertions that no signature covers. None may be accepted, and none may cause a panic.
//!
//! `PORTCULLIS_MUTATIONS` has the number of changes.

use aws_lc_rs::hmac;
use base64::Engine as _;
use serde_json::{Value, json};

use super::super::super::claim::Standing;
use super::{World, claims, key, keys, presented};
use crate::jose::BASE64URL;
use crate::jose::algorithm::Algorithm;
use crate::jose::signing::SigningKey;

const MUTATIONS: u64 = 2_000;

/// A generator with a fixed seed (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn of<'v, T>(&mut self, values: &'v [T]) -> &'v T {
        &values[self.below(values.len())]
    }
}

#[tokio::test]
async fn no_change_of_an_assertion_is_accepted() {
    let count = std::env::var("PORTCULLIS_MUTATIONS").map_or(MUTATIONS, |count| count.parse().unwrap());
    let (world, own, others) = (World::new(), key(Algorithm::Es256), key(Algorithm::Es256));
    let (kept, mut random) = (keys(&[&own]), Random(0x9E37_79B9_7F4A_7C15));
    let mut parsed = 0;
    for _ in 0..count {
        let good = own.sign("JWT", claims(&json!({})).to_string().as_bytes()).unwrap();
        let changed = mutated(&good, (&own, &others), &mut random);
        if changed == good {
            continue;
        }
        parsed += u64::from(presented(&changed).is_some());
        let answer = world.verify(&kept, Standing::Good, &changed).await;
        assert!(answer.is_err(), "{changed}\nof {good}");
    }
    assert!(parsed > count / 8, "most changes must reach the checks: {parsed} of {count}");
}

fn mutated(good: &str, (own, others): (&SigningKey, &SigningKey), random: &mut Random) -> String {
    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{good}") };
    match random.below(8) {
        0 => other_byte(good, random),
        1 => format!("{}.{claims}.{signature}", other_header(header, random)),
        2 => format!("{header}.{}.{signature}", other_claims(claims, random)),
        3 => format!("{header}.{claims}.{}", other_signature(signature, random)),
        4 => signed_with_public_key(claims, own, random),
        5 => others.sign_under(&decoded(header), decoded(claims).as_bytes()).unwrap(),
        6 => good[..random.below(good.len())].to_owned(),
        _ => {
            let order = [parts[random.below(3)], parts[random.below(3)], parts[random.below(3)]];
            order.join(*random.of(&[".", "..", ",", ". "]))
        }
    }
}

fn decoded(part: &str) -> String {
    String::from_utf8(BASE64URL.decode(part).unwrap()).unwrap()
}

fn encoded(value: &Value) -> String {
    BASE64URL.encode(value.to_string())
}

fn other_byte(good: &str, random: &mut Random) -> String {
    let mut bytes = good.as_bytes().to_vec();
    let at = random.below(bytes.len());
    match random.below(3) {
        0 => bytes[at] = *random.of(b"ABCabc012-_.=+/ \n\0"),
        1 => drop(bytes.remove(at)),
        _ => bytes.insert(at, *random.of(b"Aa0-_.=")),
    }
    String::from_utf8(bytes).unwrap()
}

fn other_header(header: &str, random: &mut Random) -> String {
    let values = [
        json!("none"),
        json!("HS256"),
        json!("RS256"),
        json!("ES384"),
        json!("at+jwt"),
        json!("client-authentication+jwt"),
        json!("../../etc/passwd"),
        json!(null),
        json!(["exp"]),
        json!({"kty": "EC"}),
    ];
    with_other_member(header, &["alg", "kid", "typ", "jwk", "jku", "x5c", "crit", "b64"], &values, random)
}

fn other_claims(claims: &str, random: &mut Random) -> String {
    let values = [
        json!("admin"),
        json!("https://gateway.example.com"),
        json!(["https://gateway.example.com", "x"]),
        json!(1_800_000_100_u64),
        json!(-1),
        json!(1e300),
        json!(null),
        json!({}),
        json!(""),
    ];
    with_other_member(claims, &["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "cnf", "client_id"], &values, random)
}

fn with_other_member(part: &str, names: &[&str], values: &[Value], random: &mut Random) -> String {
    let mut members: Value = serde_json::from_str(&decoded(part)).unwrap();
    members[*random.of(names)] = random.of(values).clone();
    encoded(&members)
}

fn other_signature(signature: &str, random: &mut Random) -> String {
    let mut bytes = BASE64URL.decode(signature).unwrap();
    match random.below(5) {
        0 => bytes.fill(0),
        1 => bytes.truncate(random.below(64)),
        2 => bytes.rotate_left(32),
        3 => bytes.push(0),
        _ => {
            let at = random.below(64);
            bytes[at] ^= 1 << random.below(8);
        }
    }
    BASE64URL.encode(bytes)
}

/// `HS256` with the public key as the secret, in the forms that libraries have taken it.
fn signed_with_public_key(claims: &str, own: &SigningKey, random: &mut Random) -> String {
    let (jwk, x) = (own.public_jwk(), own.public_jwk()["x"].as_str().unwrap());
    let forms = [Value::Object(jwk.clone()).to_string().into_bytes(), x.into(), BASE64URL.decode(x).unwrap()];
    let header = encoded(&json!({"alg": random.of(&["HS256", "ES256"]), "typ": "JWT", "kid": own.key_id()}));
    let input = format!("{header}.{claims}");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, random.of::<Vec<u8>>(&forms)), input.as_bytes());
    format!("{input}.{}", BASE64URL.encode(tag))
}
