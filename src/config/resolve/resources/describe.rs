//! The content of the documents, from the rules of the routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::TokenIssuers;
use crate::pipeline::routing::access::{Access, AccessRule};
use crate::pipeline::routing::resource::{ProtectedResource, ResourceDescription, ResourceIdentifier};
use crate::pipeline::routing::table::RouteTable;
use crate::trust::issuer::IssuerSettings;
use crate::trust::token_origin::TokenOrigin;

/// The resources of the routes, in their order. `written` gives the name and the scopes that the file has. A resource
/// whose routes take tokens of no authorization server has no document.
pub(super) fn describe(
    table: &RouteTable,
    issuers: TokenIssuers<'_>,
    written: impl Fn(&ResourceIdentifier) -> Option<(Option<String>, Vec<String>)>,
) -> Vec<ProtectedResource> {
    let mut resources: Vec<(Arc<ResourceIdentifier>, ResourceDescription)> = Vec::new();
    for route in table.routes() {
        let (Some(identifier), Access::Protected(rule)) = (&route.resource, &route.access) else { continue };
        let known = resources.iter().position(|(other, _)| other == identifier);
        if known.is_none() && resources.iter().any(|(other, _)| other.collides(identifier)) {
            continue;
        }
        let known = known.unwrap_or_else(|| {
            let (name, scopes) = written(identifier).unwrap_or_default();
            resources.push((Arc::clone(identifier), ResourceDescription::of(name, scopes)));
            resources.len() - 1
        });
        if let Some((_, description)) = resources.get_mut(known) {
            add_rule(description, rule, issuers);
        }
    }
    resources.retain(|(_, description)| !description.authorization_servers.is_empty());
    resources.into_iter().map(|(identifier, description)| ProtectedResource::new(identifier, description)).collect()
}

fn add_rule(description: &mut ResourceDescription, rule: &AccessRule, issuers: TokenIssuers<'_>) {
    let scopes = rule.all_of.iter().chain(rule.any_of.iter());
    description.scopes.extend(scopes.map(|scope| scope.as_str().to_owned()));
    description.add_binding(rule.bound);
    let servers = &mut description.authorization_servers;
    for server in issuers.of_rule(rule).flat_map(servers_of) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
}

/// The authorization servers of an issuer: each `iss` that is a URL, at which its metadata can be found.
fn servers_of(issuer: &IssuerSettings) -> Vec<String> {
    let all: BTreeSet<&str> = match &issuer.origin {
        TokenOrigin::Issuer => BTreeSet::from([issuer.issuer.as_str()]),
        TokenOrigin::Tenants(tenants) => tenants.issuers().collect(),
        // Workloads get their tokens from their own agent.
        TokenOrigin::Spiffe(_) => BTreeSet::new(),
    };
    let is_url = |issuer: &&str| issuer.starts_with("https://") || issuer.starts_with("http://");
    all.into_iter().filter(is_url).map(str::to_owned).collect()
}
