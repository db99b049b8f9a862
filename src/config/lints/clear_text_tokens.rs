//! `clear-text-token`

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::warning::Warning;
use crate::pipeline::routing::access::Access;
use crate::pipeline::routing::route::Route;
use crate::upstream::server::{Server, ServerAddress};

/// Protected routes that forward the token to a server on another machine without TLS.
pub(super) fn forwarded(input: &LintInput<'_>) -> Vec<Warning> {
    let has_token_fields = input.config.issuers.iter().any(|issuer| issuer.settings.token_field.is_some());
    let routes = input.config.routes.routes().iter().zip(&input.places.routes);
    let forwarding = routes.filter(|(route, _)| route.forward_token && matches!(route.access, Access::Protected(_)));
    let found = forwarding.filter_map(|(route, parts)| {
        let server = exposed_server(route, has_token_fields)?;
        let message = format!(
            "the token goes to `{}` in clear text: a machine on the way can read and use it; use `https://` for the servers \
             of the upstream, or remove `forward_token`",
            server.place,
        );
        Some(input.warning(Lint::ClearTextToken, parts.forward_token, message))
    });
    found.collect()
}

/// The first server that gets the token over a network without TLS.
fn exposed_server(route: &Route, has_token_fields: bool) -> Option<&Server> {
    let mirror = route.mirror.as_ref().map(|mirror| &mirror.upstream);
    let upstreams = route.target.upstreams().chain(mirror);
    // Where a credential of the service takes the place of `Authorization`, only other fields have a token.
    let gets_token = upstreams.filter(|upstream| has_token_fields || !upstream.settings.replaces_authorization());
    gets_token.flat_map(|upstream| &upstream.servers).find(|server| server.tls.is_none() && !is_local(&server.place))
}

/// Whether connections stay on this machine (RFC 6761 §6.3).
fn is_local(place: &ServerAddress) -> bool {
    match place {
        ServerAddress::Address(address) => address.ip().to_canonical().is_loopback(),
        ServerAddress::Name(name, _) => {
            let name = name.as_str().trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        ServerAddress::Socket(_) => true,
    }
}
