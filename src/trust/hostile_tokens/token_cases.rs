//! Headers and claims that must be refused even with a valid signature.

use serde_json::{Value, json};

use super::super::example::NOW;
use super::with;

/// Headers that change the meaning of the token or supply a key.
pub(super) fn bad_headers() -> Vec<Box<dyn Fn(Value) -> String>> {
    let mut all: Vec<Box<dyn Fn(Value) -> String>> = Vec::new();
    let mut member = |name: &'static str, value: Value| {
        all.push(Box::new(move |header| with(header, name, value.clone()).to_string()));
    };
    let names = [
        "none",
        "None",
        "NONE",
        "nOnE",
        "",
        " ",
        "HS256",
        "HS384",
        "HS512",
        "RS384",
        "RS512",
        "PS384",
        "PS512",
        "ES384",
        "ES512",
        "ES256K",
        "ed25519",
        "Ed448",
        "rs256",
        "RS256 ",
        "RS256\0",
        "RSA1_5",
        "dir",
        "A256KW",
        "PBES2-HS512+A256KW",
        "ECDH-ES",
    ];
    names.into_iter().for_each(|name| member("alg", json!(name)));
    [json!(null), json!(0), json!(["RS256"]), json!({"a": 1}), json!(true)]
        .into_iter()
        .for_each(|value| member("alg", value));
    for value in [json!(null), json!([]), json!(["exp"]), json!(["b64"]), json!("exp"), json!({})] {
        member("crit", value);
    }
    [json!(true), json!(false), json!(null), json!("false")].into_iter().for_each(|value| member("b64", value));
    ["DEF", "", "none"].into_iter().for_each(|value| member("zip", json!(value)));
    for value in ["", "evil", "../../dev/null", "' OR 1=1 --", "\0", "\u{202e}"] {
        member("kid", json!(value));
    }
    [json!(null), json!(7), json!(["a"]), json!("k".repeat(10_000))].into_iter().for_each(|value| member("kid", value));
    for value in
        [json!(null), json!(7), json!([]), json!("logout+jwt"), json!("dpop+jwt"), json!(""), json!("at+jwt\0")]
    {
        member("typ", value);
    }
    let written: [fn(String) -> String; 9] = [
        |header| header.replacen('{', r#"{"alg":"none","#, 1),
        |header| header.replacen('{', r#"{"\u0061lg":"none","#, 1),
        |header| header.replacen('{', r#"{"kid":"evil","#, 1),
        |header| header.replacen('{', r#"{"crit":["x"],"crit":["x"],"#, 1),
        |header| format!("\u{feff}{header}"),
        |header| format!("{header}{{}}"),
        |header| format!("[{header}]"),
        |header| header.replacen('{', "{/**/", 1),
        |header| header.replace('"', "'"),
    ];
    for change in written {
        all.push(Box::new(move |header: Value| change(header.to_string())));
    }
    all
}

/// Claims that make a token invalid, even with a valid signature: `good` ones, changed. An odd value or none is tried for
/// each registered claim but those of `loosened`, of which the issuer's entry accepts more.
pub(super) fn bad_claims(good: &Value, loosened: &[&str]) -> Vec<String> {
    let claims = || good.clone();
    let mut all = Vec::new();
    let odd = [
        json!(null),
        json!(true),
        json!([]),
        json!({}),
        json!(-1),
        json!(1.5),
        json!("1800000600"),
        json!(""),
        json!([7]),
    ];
    let strict = |name: &&str| !loosened.contains(name);
    for name in ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp"].into_iter().filter(strict) {
        let fits = |value: &Value| match name {
            "sub" => [json!("1800000600"), json!(""), json!(null)].contains(value),
            "jti" | "azp" => [json!("1800000600"), json!(null)].contains(value),
            "nbf" | "iat" => [json!(1.5), json!(null)].contains(value),
            _ => false,
        };
        all.extend(
            odd.iter().filter(|value| !fits(value)).map(|value| with(claims(), name, value.clone()).to_string()),
        );
    }
    for name in ["iss", "aud", "exp"].into_iter().filter(strict) {
        let mut without = claims();
        without.as_object_mut().unwrap().remove(name);
        all.push(without.to_string());
    }
    for name in ["iss", "sub", "aud", "exp"].into_iter().filter(|name| good.get(name).is_some()) {
        let again = serde_json::to_string(&claims()[name]).unwrap();
        let escaped: String = name.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
        all.push(claims().to_string().replacen('{', &format!("{{\"{name}\":{again},"), 1));
        all.push(claims().to_string().replacen('{', &format!("{{\"{escaped}\":{again},"), 1));
    }
    for (name, value) in [("exp", NOW - 121), ("exp", 0), ("nbf", NOW + 121), ("iat", NOW + 121), ("nbf", u64::MAX)] {
        all.push(with(claims(), name, value).to_string());
    }
    for other in ["https://login.example.com/", "HTTPS://login.example.com", "http://login.example.com", "corp", "self"]
    {
        all.push(with(claims(), "iss", other).to_string());
    }
    let nested = |open: &str, close: &str, depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
    for value in
        [nested("[", "]", 17), nested("[", "]", 20_000), nested("{\"a\":", "}", 17), nested("{\"a\":", "}", 20_000)]
    {
        all.push(claims().to_string().replacen('{', &format!("{{\"x\":{value},"), 1));
    }
    let many: String = (0..64).map(|number| format!("\"x{number}\":0,")).collect();
    for more in [
        many.as_str(),
        "\"x\":\"\\ud800\",",
        "\"x\":1e999,",
        "\"x\":01,",
        "\"x\":NaN,",
        "\"x\":\"\n\",",
        ",",
        "\"x\":0,\"x\":0,",
    ] {
        all.push(claims().to_string().replacen('{', &format!("{{{more}"), 1));
    }
    all.push(claims().to_string() + "x");
    all.push(format!("[{}]", claims()));
    all
}
