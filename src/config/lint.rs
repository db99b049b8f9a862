//! The lints of `portcullis check`: each kind of warning, with its id and a sentence about it.
//!
//! A new lint is a line here, a section in `docs/reference/lints.md` with a bad and a good example, and the code that
//! finds it: where the value is resolved, or in [`super::lints`] if it needs the whole configuration.

/// Defines the lints, in the order of their ids.
macro_rules! lints {
    ($($name:ident $id:literal $about:literal,)*) => {
        /// A kind of warning. Every warning has one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Lint {
            $(#[doc = $about] $name,)*
        }

        impl Lint {
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// As comments and the output of `check` name it.
            pub(crate) const fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// One sentence.
            pub(crate) const fn about(self) -> &'static str {
                match self {
                    $(Self::$name => $about,)*
                }
            }
        }
    };
}

lints! {
    AuditDisk "audit-disk" "The disk cannot hold the audit log.",
    ClearTextKeys "clear-text-keys" "The keys of an issuer or of a client are fetched, or tokens are introspected, in clear text.",
    ClearTextStore "clear-text-store" "A store of several replicas is reached in clear text.",
    ClearTextToken "clear-text-token" "A route forwards tokens to another machine in clear text.",
    EmptyClaims "empty-claims" "An access rule has an empty `claims`, which requires nothing.",
    EndingCertificate "ending-certificate" "A certificate ends within 14 days.",
    EndingReport "ending-report" "The report mode of a route ends within 7 days, or has ended.",
    EndingSecret "ending-secret" "A client's secret ends within 14 days, or has ended.",
    EndingStaticToken "ending-static-token" "A static token ends within 14 days, or has ended.",
    FederatedIssuerWithAudiences "federated-issuer-with-audiences" "The tokens of an issuer authenticate clients and also requests.",
    InvalidAllow "invalid-allow" "A comment that is to silence a lint cannot be used.",
    LastingStaticToken "lasting-static-token" "A static token counts for more than a year.",
    LenientPaths "lenient-paths" "A route takes paths that services read in different ways.",
    LimitNeverReached "limit-never-reached" "A rate limit stands behind a stricter one and never refuses a request.",
    NoCertificateListener "no-certificate-listener" "A client or a route needs certificates, and no listener takes them.",
    NoKnownHost "no-known-host" "A route demands DPoP proofs, and the gateway knows none of its hosts.",
    NoTokenListener "no-token-listener" "No listener can serve the token endpoint.",
    OddClaimValue "odd-claim-value" "An access rule wants a claim that is empty or has quotation marks around it.",
    OpenAdmin "open-admin" "The admin listener is open to all public addresses.",
    OpenClaimGlob "open-claim-glob" "A glob for a claim has no fixed segment.",
    OverlappingHosts "overlapping-hosts" "A wildcard host takes requests for a host with stricter routes of its own.",
    OverlappingRoutes "overlapping-routes" "Two routes with different rules reach the same server with the same path.",
    PublicCredential "public-credential" "Every caller of a public route acts with the credential of the service.",
    ShadowedRoute "shadowed-route" "No request reaches a route, because other routes take all of its paths.",
    UnacceptedResource "unaccepted-resource" "No route of a resource takes tokens for its URL.",
    UnboundedIssuer "unbounded-issuer" "An external issuer may grant any scope.",
    UnknownRevokedClient "unknown-revoked-client" "A client that is not configured is revoked.",
    UnknownScope "unknown-scope" "An access rule wants a scope that no caller can have.",
    UnlimitedTokenEndpoint "unlimited-token-endpoint" "The token endpoint has no rate limit.",
    UnneededAllow "unneeded-allow" "A comment silences a lint that finds nothing there.",
    UnusedClient "unused-client" "No route ever accepts a client.",
    UnusedKey "unused-key" "A key of an issuer's or a client's file cannot be used.",
    UnusedRateLimit "unused-rate-limit" "No route names a shared rate limit.",
    UnusedResource "unused-resource" "No route names a resource.",
    UnusedScope "unused-scope" "No route asks for a scope that a client or an issuer has.",
    UnverifiedWhen "unverified-when" "A route is chosen by a header field that the service does not compare.",
}

impl Lint {
    pub(super) fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|lint| lint.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_lead_back_to_their_lints() {
        let ids: Vec<&str> = Lint::ALL.iter().map(|lint| lint.id()).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        for lint in Lint::ALL {
            assert_eq!(Lint::from_id(lint.id()), Some(*lint));
            assert!(lint.id().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{lint:?}");
            assert!(lint.about().ends_with('.'), "{lint:?}");
        }
        assert_eq!(Lint::from_id("unused"), None);
    }
}
