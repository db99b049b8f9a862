//! The refusals of tokens, one for each reason at least.

use serde_json::json;

use super::{API, Refused, Suggestion, World};
use crate::support::issuer::{Key, now};

impl World {
    /// Refusals of the token itself.
    pub(super) fn of_tokens(&self) -> Vec<Refused<'static>> {
        let at_any = |name, token, reason, found, wanted, suggestion| Refused {
            name,
            path: "/any",
            token,
            reason,
            found,
            wanted,
            suggestion,
        };
        let (change, none) = (Suggestion::Change, Suggestion::None);
        let good = self.token(&json!({}));
        let mut cases = vec![
            // First, because it is about the present.
            at_any(
                "expired now",
                self.of("urn:two", &json!({"exp": now() - 20})),
                "expired",
                "s ago",
                "less than 5s ago",
                change(&["set `issuers.two.clock_skew` to ", "0s ("], "after it ends"),
            ),
            at_any(
                "expired now, with a fraction",
                self.of("urn:two", &json!({"exp": now() as f64 - 20.5})),
                "expired",
                "s ago",
                "less than 5s ago",
                change(&["set `issuers.two.clock_skew` to ", "0s ("], "after it ends"),
            ),
            at_any("two parts", "a.b".to_owned(), "malformed", "2 parts", "3 parts", none("of this form")),
            at_any(
                "a JWE",
                "a.b.c.d.e".to_owned(),
                "malformed",
                "5 parts, as an encrypted token (JWE)",
                "3 parts",
                none("form"),
            ),
            at_any(
                "no base64url",
                format!("{good}="),
                "malformed",
                "signature that is not base64url",
                "base64url",
                none("form"),
            ),
            at_any(
                "no JSON",
                self.key.sign_text("{\"alg\":\"ES256\"}", "{\"sub\":\"secret"),
                "malformed",
                "claims with an early end at line 1 column 14",
                "one JSON object",
                none("form"),
            ),
            at_any(
                "crit",
                self.token_with(&json!({"crit": ["x"]}), &json!({})),
                "malformed",
                "header member crit",
                "no crit",
                none("form"),
            ),
            at_any(
                "kid",
                self.token_with(&json!({"kid": 7}), &json!({})),
                "malformed",
                "header member kid is a number",
                "kid is a string",
                none("form"),
            ),
            at_any(
                "exp as text",
                self.token(&json!({"exp": "soon"})),
                "malformed",
                "exp is a string",
                "exp is a",
                none("form"),
            ),
            at_any(
                "client as a number",
                self.token(&json!({"azp": 7})),
                "malformed",
                "azp is a number",
                "azp is a string",
                none("form"),
            ),
            at_any(
                "scope as a number",
                self.of("urn:two", &json!({"scope": 7, "roles": ["a"]})),
                "malformed",
                "scope is a number",
                "scope is a string, a list of strings or an object",
                change(
                    &["set `issuers.two.scope_claim` to \"roles\" (gateway.yaml:"],
                    "every value of `roles` in tokens of `two`",
                ),
            ),
            at_any(
                "too long",
                self.token(&json!({"padding": "x".repeat(2000)})),
                "malformed",
                "a token of 3",
                "at most 2048 bytes (limits.token_bytes)",
                change(
                    &["set `limits.token_bytes` to 3KiB (gateway.yaml:"],
                    "every caller may send tokens of this size",
                ),
            ),
            at_any(
                "HMAC",
                self.token_with(&json!({"alg": "HS256"}), &json!({})),
                "alg_not_allowed",
                "alg=HS256",
                "alg=RS256|",
                none("this `alg`"),
            ),
            at_any(
                "another alg",
                self.of("urn:rsa", &json!({})),
                "alg_not_allowed",
                "alg=ES256",
                "alg=RS256",
                change(&["add \"ES256\" to `issuers.rsa.algorithms`"], "its keys for ES256"),
            ),
            at_any(
                "a type",
                self.token_with(&json!({"typ": "JWT"}), &json!({})),
                "type_not_allowed",
                "typ=JWT",
                "typ=at+jwt",
                change(&["add \"JWT\" to `issuers.corp.types`"], "also if it is no access token"),
            ),
            at_any(
                "no type",
                self.token_with(&json!({"typ": null}), &json!({})),
                "type_not_allowed",
                "no typ",
                "typ=at+jwt",
                change(&["add \"absent\" to `issuers.corp.types`"], "of this type"),
            ),
            at_any(
                "no exp",
                self.token(&json!({"exp": null})),
                "missing_claim",
                "no exp",
                "exp",
                none("without this claim"),
            ),
            at_any(
                "an audience",
                self.token(&json!({"aud": ["x", "y"]})),
                "bad_audience",
                "aud=x|y",
                "aud=https://api.example.com",
                change(&["add \"x\" to `issuers.corp.audiences`"], "every token of `corp` for this audience"),
            ),
            at_any(
                "an audience and a type",
                self.token_with(&json!({"typ": "JWT"}), &json!({"aud": "x"})),
                "type_not_allowed",
                "typ=JWT",
                "typ=at+jwt",
                change(
                    &["add \"JWT\" to `issuers.corp.types`", "add \"x\" to `issuers.corp.audiences`"],
                    "for this audience",
                ),
            ),
            at_any(
                "expired long ago",
                self.token(&json!({"exp": now() - 4000})),
                "expired",
                "s ago",
                "less than 30s ago",
                none("only a new token"),
            ),
            at_any(
                "from the future",
                self.token(&json!({"nbf": now() + 4000})),
                "not_yet_valid",
                "nbf=",
                "the clock of the issuer or of this machine",
                none("wait"),
            ),
            at_any(
                "a key",
                self.token_with(&json!({"kid": "k9"}), &json!({})),
                "unknown_kid",
                "kid=k9, alg=ES256",
                "kid=k1 (ES256)",
                none("publish"),
            ),
            at_any(
                "no keys",
                self.of("urn:down", &json!({})),
                "keys_unavailable",
                "no key set",
                "issuer `down`",
                none("portcullis issuers"),
            ),
            at_any(
                "a signature",
                Key::new("k1", "ES256")
                    .sign_with(&json!({"typ": "at+jwt", "alg": "ES256", "kid": "k1"}), &self.corp.claims()),
                "bad_signature",
                "by another key",
                "key k1 (ES256) of issuer `corp`",
                none("signature is wrong"),
            ),
            at_any(
                "a client",
                self.token(&json!({"azp": "gone"})),
                "revoked",
                "a revocation of client `gone`",
                "no revocation",
                none("revoked"),
            ),
            at_any(
                "a subject",
                self.token(&json!({"sub": "left"})),
                "revoked",
                "a revocation of subject `left`, for tokens issued before 2030-01-01T00:00:00Z",
                "iat=2030-01-01T00:00:00Z or later",
                none("revoked"),
            ),
            at_any(
                "a near miss",
                self.of("urn:slash", &json!({"aud": API})),
                "unknown_issuer",
                "iss=urn:slash, which differs by a trailing slash from issuer `slash`",
                "iss=urn:slash/",
                change(&["set `issuers.slash.issuer` to \"urn:slash\""], "those with `urn:slash/` no longer"),
            ),
            at_any(
                "an issuer",
                self.of("https://new.example.com/", &json!({"aud": ["x"]})),
                "unknown_issuer",
                "iss=https://new.example.com/",
                "issuer=self|corp|slash|rsa|down|two",
                change(
                    &[
                        "add to `issuers` (gateway.yaml:",
                        "\n  issuer-new-example-com:\n",
                        "    issuer: \"https://new.example.com/\"",
                        "    audiences: [\"x\"]",
                    ],
                    "The signature of this token was not checked",
                ),
            ),
            at_any(
                "no URL",
                self.of("urn:new", &json!({})),
                "unknown_issuer",
                "iss=urn:new",
                "issuer=self|",
                none("no entry can be proposed"),
            ),
        ];
        let own = "the token is for another route";
        cases.extend([
            Refused {
                name: own,
                path: "/own",
                token: good.clone(),
                reason: "issuer_not_allowed",
                found: "issuer=corp",
                wanted: "issuer=self",
                suggestion: change(&["add \"corp\" to `routes.own.access.issuers`"], "as far as its other rules do"),
            },
            Refused {
                name: own,
                path: "/billing",
                token: good,
                reason: "bad_audience",
                found: "aud=https://api.example.com",
                wanted: "aud=https://billing.example.com",
                suggestion: change(
                    &["add \"https://api.example.com\" to `routes.billing.access.audiences`"],
                    "of its issuers",
                ),
            },
        ]);
        cases
    }
}
