//! `no-certificate-listener`

use super::LintInput;
use crate::config::lint::Lint;
use crate::config::types::Listener;
use crate::config::warning::Warning;
use crate::oauth::bound::TokenBinding;
use crate::pipeline::routing::access::Access;

/// Clients and routes that need the certificate of the client, where no listener takes one.
pub(super) fn never_presented(input: &LintInput<'_>) -> Vec<Warning> {
    if input.config.listeners.iter().any(Listener::takes_certificates) {
        return Vec::new();
    }
    let remedy = "no listener takes client certificates: add `tls.client_auth` to a listener, or behind a proxy that \
                  terminates TLS, `believe: [client_cert]`";
    let clients = input.config.oauth.iter().flat_map(|oauth| &oauth.clients).zip(&input.places.clients);
    let clients = clients.filter_map(|(client, parts)| {
        let name = input.source.quote_key(parts.name).unwrap_or_else(|| "this client".to_owned());
        let need = if client.bound == TokenBinding::Mtls {
            "gets no token without its certificate"
        } else if !client.credentials.certificates.is_empty() {
            "cannot authenticate by its certificate"
        } else {
            return None;
        };
        Some(input.warning(Lint::NoCertificateListener, parts.name, format!("{name} {need}: {remedy}")))
    });
    let routes = input.config.routes.routes().iter().zip(&input.places.routes);
    let routes = routes.filter_map(|(route, parts)| match &route.access {
        Access::Protected(rule) if rule.bound == TokenBinding::Mtls => {
            let message = format!("this route takes only tokens that are bound to a certificate: {remedy}");
            Some(input.warning(Lint::NoCertificateListener, parts.place.path, message))
        }
        Access::Protected(_) | Access::Public => None,
    });
    clients.chain(routes).collect()
}
