//! The refusals by routes of tokens that are accepted.

use serde_json::{Value, json};

use super::{Refused, Suggestion, World};

impl World {
    /// Refusals by a route of a token that is accepted.
    pub(super) fn by_routes(&self) -> Vec<Refused<'static>> {
        let case = |path, changes: Value, reason, found, wanted, suggestion| Refused {
            name: path,
            path,
            token: self.token(&changes),
            reason,
            found,
            wanted,
            suggestion,
        };
        let (change, none) = (Suggestion::Change, Suggestion::None);
        vec![
            case(
                "/read",
                json!({"scope": "write", "roles": ["x", "read"]}),
                "missing_scope",
                "write",
                "read",
                change(&["set `issuers.corp.scope_claim` to [\"scope\", \"roles\"]"], "a scope too, on all routes"),
            ),
            case(
                "/read",
                json!({"scope": null, "realm_access": {"roles": ["read"]}}),
                "missing_scope",
                "no scope",
                "read",
                change(&["set `issuers.corp.scope_claim` to [\"realm_access.roles\"]"], "on all routes"),
            ),
            case(
                "/read",
                json!({"scope": null, "resource_access": {"api.example.com": {"read": {}}}}),
                "missing_scope",
                "no scope",
                "read",
                change(
                    &["set `issuers.corp.scope_claim` to [[\"resource_access\", \"api.example.com\"]]"],
                    "every value of `resource_access.api.example.com`",
                ),
            ),
            case("/read", json!({"sub": "read"}), "missing_scope", "no scope", "read", none("in no claim")),
            case(
                "/admin",
                json!({"scope": "read admin"}),
                "missing_scope",
                "read",
                "admin",
                change(&["add \"admin\" to `issuers.corp.allow_scopes`"], "every token of `corp` may have this scope"),
            ),
            case(
                "/gold",
                json!({"tier": "bronze"}),
                "claim_mismatch",
                "tier=bronze",
                "tier=gold|silver",
                change(&["add \"bronze\" to `routes.gold.access.claims.tier`"], "every caller with this value"),
            ),
            case(
                "/repo",
                json!({"sub": "repo:other/x"}),
                "claim_mismatch",
                "sub=repo:other/x",
                "sub=repo:acme/*",
                change(
                    &["set `routes.repo.access.claims.sub` to [{glob: \"repo:acme/*\"}, \"repo:other/x\"]"],
                    "every caller with this value of `sub`",
                ),
            ),
            case("/gold", json!({}), "claim_mismatch", "no tier", "tier=gold|silver", none("no value of the claim")),
            case(
                "/named",
                json!({}),
                "client_not_allowed",
                "client=corp/app",
                "client=corp/other",
                change(&["add \"corp/app\" to `routes.named.access.clients`"], "this client"),
            ),
            case(
                "/near",
                json!({}),
                "address_not_allowed",
                "address 127.0.0.1",
                "an address of allow_from of the route",
                change(&["add \"127.0.0.1\" to `routes.near.allow_from`"], "from this address"),
            ),
        ]
    }
}
