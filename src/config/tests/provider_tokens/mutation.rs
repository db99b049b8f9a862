//! Hostile changes of one token, the same in every run.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::jose::BASE64URL;

/// Claims that are times.
pub(super) const TIMES: [&str; 4] = ["exp", "iat", "nbf", "auth_time"];

/// Claims that decide, beside those of the token.
const DECISIVE: [&str; 22] = [
    "iss",
    "sub",
    "aud",
    "exp",
    "nbf",
    "iat",
    "jti",
    "client_id",
    "azp",
    "appid",
    "cid",
    "scope",
    "scp",
    "scopes",
    "permissions",
    "roles",
    "groups",
    "tid",
    "token_use",
    "email",
    "common_name",
    "realm_access",
];

pub(super) enum Mutated {
    /// The issuer's key has not signed it.
    Unsigned(String),
    /// To be signed with the issuer's key.
    Signed { header: Value, claims: Value },
    /// The same. They may be no claims, or name one twice.
    SignedBytes(Vec<u8>),
    /// The same with a member that is there twice: never acceptable.
    Repeated { header: String, claims: Vec<u8> },
}

/// The mutations of one token.
pub(super) struct Mutation {
    random: fastrand::Rng,
    header: Value,
    claims: Value,
    token: String,
    /// Strings of the token, of which hostile values are made.
    texts: Vec<String>,
}

impl Mutation {
    pub(super) fn of(header: &Value, claims: &Value, token: &str) -> Self {
        let mut texts = vec!["admin".to_owned(), "*".to_owned(), "https://api.example.com".to_owned()];
        collect(claims, &mut texts);
        let random = fastrand::Rng::with_seed(7);
        Self { random, header: header.clone(), claims: claims.clone(), token: token.to_owned(), texts }
    }

    pub(super) fn next(&mut self) -> Mutated {
        match self.random.usize(..10) {
            0 => Mutated::Unsigned(self.changed_text()),
            1 => self.with_part_changed(),
            2 => self.with_random_signature(),
            3 => {
                let (header, claims) = (self.header.to_string(), self.changed_claims().to_string());
                self.under_old_signature(&header, claims.as_bytes())
            }
            4 => {
                let (header, claims) = (self.changed_header().to_string(), self.claims.to_string());
                self.under_old_signature(&header, claims.as_bytes())
            }
            5 => self.repeated(),
            6 => {
                let claims = self.claims.to_string().into_bytes();
                Mutated::SignedBytes(self.changed_bytes(claims))
            }
            7 => Mutated::Signed { header: self.changed_header(), claims: self.claims.clone() },
            _ => Mutated::Signed { header: self.header.clone(), claims: self.changed_claims() },
        }
    }

    fn changed_text(&mut self) -> String {
        let bytes = self.token.clone().into_bytes();
        self.different(|mutation| String::from_utf8_lossy(&mutation.changed_bytes(bytes.clone())).into_owned())
    }

    fn with_part_changed(&mut self) -> Mutated {
        let place = self.random.usize(..3);
        let parts: Vec<String> = self.token.split('.').map(str::to_owned).collect();
        let part = BASE64URL.decode(&parts[place]).unwrap();
        Mutated::Unsigned(self.different(|mutation| {
            let mut parts = parts.clone();
            parts[place] = BASE64URL.encode(mutation.changed_bytes(part.clone()));
            parts.join(".")
        }))
    }

    fn with_random_signature(&mut self) -> Mutated {
        let (input, signature) = self.token.rsplit_once('.').unwrap();
        let bytes: Vec<u8> = (0..signature.len() * 3 / 4).map(|_| self.random.u8(..)).collect();
        Mutated::Unsigned(format!("{input}.{}", BASE64URL.encode(bytes)))
    }

    fn under_old_signature(&mut self, header: &str, claims: &[u8]) -> Mutated {
        let signature = self.token.rsplit('.').next().unwrap();
        let token = format!("{}.{}.{signature}", BASE64URL.encode(header), BASE64URL.encode(claims));
        Mutated::Unsigned(if token == self.token { self.changed_text() } else { token })
    }

    /// A claim or a header member twice, the second time with another value or the same.
    fn repeated(&mut self) -> Mutated {
        let in_header = self.random.u8(..4) == 0;
        let object = if in_header { self.header.clone() } else { self.claims.clone() };
        let names: Vec<&String> = object.as_object().unwrap().keys().collect();
        let name = names[self.random.usize(..names.len())].clone();
        let value = if self.random.bool() { object[&name].clone() } else { self.value_for(&name) };
        let text = object.to_string().replacen('{', &format!("{{{}:{value},", json!(name)), 1);
        let (header, claims) = (self.header.to_string(), self.claims.to_string().into_bytes());
        if in_header {
            Mutated::Repeated { header: text, claims }
        } else {
            Mutated::Repeated { header, claims: text.into() }
        }
    }

    fn changed_header(&mut self) -> Value {
        let members = [
            (
                "alg",
                json!([
                    "none", "HS256", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "Ed25519", 7, null
                ]),
            ),
            ("typ", json!(["JWT", "at+jwt", "application/at+jwt", "JOSE", "logout+jwt", "dpop+jwt", "", 7, null])),
            ("kid", json!(["other", "", "../../dev/null", 7, null, ["a"]])),
            ("crit", json!([["exp"], [], "exp", null])),
            ("b64", json!([false, true])),
            ("zip", json!(["DEF"])),
            ("jku", json!(["http://127.0.0.1:1/jwks"])),
            ("jwk", json!([{"kty": "oct", "k": "AAAA"}])),
            ("x5t", json!(["AAAA", 7])),
            ("x5t#S256", json!(["AAAA", 7])),
            ("cty", json!(["JWT"])),
        ];
        let (name, values) = &members[self.random.usize(..members.len())];
        let values = values.as_array().unwrap();
        let mut header = self.header.clone();
        if self.random.u8(..8) == 0 {
            header.as_object_mut().unwrap().remove(*name);
        } else {
            header[*name] = values[self.random.usize(..values.len())].clone();
        }
        header
    }

    /// One to three claims removed, renamed, added or given another value.
    fn changed_claims(&mut self) -> Value {
        let mut claims = self.claims.clone();
        for _ in 0..self.random.usize(1..4) {
            let members = claims.as_object_mut().unwrap();
            let own: Vec<String> = members.keys().cloned().collect();
            let name = if self.random.bool() && !own.is_empty() {
                own[self.random.usize(..own.len())].clone()
            } else {
                DECISIVE[self.random.usize(..DECISIVE.len())].to_owned()
            };
            match self.random.u8(..6) {
                0 => drop(members.remove(&name)),
                1 => {
                    let value = members.remove(&name);
                    let renamed =
                        [name.to_uppercase(), format!("{name} "), format!("{name}\u{0}"), format!("x.{name}")];
                    members.extend(value.map(|value| (renamed[self.random.usize(..renamed.len())].clone(), value)));
                }
                _ => drop(members.insert(name.clone(), self.value_for(&name))),
            }
        }
        claims
    }

    fn value_for(&mut self, name: &str) -> Value {
        if TIMES.contains(&name) && self.random.bool() {
            return self.time();
        }
        let text = self.text();
        match self.random.u8(..15) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(7),
            3 => json!([]),
            4 => json!({}),
            5 => json!(""),
            6 => json!([text, 7]),
            7 => json!([text, self.text()]),
            8 => json!({ text: {} }),
            9 => json!({ text: false, self.text(): null, self.text(): true }),
            10 => json!({ "roles": [text] }),
            11 => json!(format!("{text} {}", self.text())),
            _ => json!(text),
        }
    }

    fn time(&mut self) -> Value {
        let now = super::NOW.seconds();
        let near = [now - 31, now - 30, now - 29, now - 1, now, now + 1, now + 29, now + 30, now + 31, now + 600];
        match self.random.u8(..8) {
            0 => json!(0),
            1 => json!(-1),
            2 => json!(u64::MAX),
            3 => json!(now * 1000),
            4 => json!(1e300),
            5 => json!(now as f64 + [-30.5, -29.5, 0.5, 29.5, 30.5][self.random.usize(..5)]),
            6 => json!(now.to_string()),
            _ => json!(near[self.random.usize(..near.len())]),
        }
    }

    /// A text of the token, or one that is nearly the same.
    fn text(&mut self) -> String {
        let text = self.texts[self.random.usize(..self.texts.len())].clone();
        let other = self.texts[self.random.usize(..self.texts.len())].clone();
        match self.random.u8(..15) {
            0 => format!("{text}/"),
            1 => text.trim_end_matches('/').to_owned(),
            2 => text.to_uppercase(),
            3 => format!("{text}.evil.example"),
            4 => format!("{text}\u{0}"),
            5 => format!(" {text}"),
            6 => format!("{text}:{other}"),
            7 => text.chars().skip(1).collect(),
            8 => text.replacen(['a', 'o', 'e'], "\u{430}", 1),
            9 => text.replacen(':', "/", 1),
            10 => text.replacen('/', "//", 1),
            11 => text.replace("main", "*"),
            _ => text,
        }
    }

    /// A few random changes.
    fn changed_bytes(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.random.usize(1..5) {
            if bytes.is_empty() {
                break;
            }
            let at = self.random.usize(..bytes.len());
            match self.random.u8(..4) {
                0 => bytes[at] = self.random.u8(..),
                1 => bytes.insert(at, self.random.u8(..128)),
                2 => drop(bytes.remove(at)),
                _ => {
                    let other = self.random.usize(..bytes.len());
                    bytes.swap(at, other);
                }
            }
        }
        bytes
    }

    /// The first that is not the token itself.
    fn different(&mut self, make: impl Fn(&mut Self) -> String) -> String {
        loop {
            let made = make(self);
            if made != self.token {
                return made;
            }
        }
    }
}

/// All strings in a value, names of members included.
fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|item| collect(item, texts)),
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            texts.push(name.clone());
            collect(member, texts);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
