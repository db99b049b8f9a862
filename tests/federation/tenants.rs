//! The tenants of one issuer: each could give its tokens the subject of another one's client.

use serde_json::json;

use super::{World, by_grant, yaml};
use crate::support::issuer::now;
use crate::support::{Client, Gateway};

const CLIENTS: &str = r#"
    alpha: {federation: [{issuer: ci, tenant: a, subject: job}], scopes: [read:data]}
    beta: {federation: [{issuer: ci, tenant: b, subject: job}], scopes: [read:data]}
    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}
"#;

#[tokio::test]
async fn a_subject_of_another_tenant_is_another_client() {
    let mut world = World::start().await;
    let origin = world.ci.issuer.clone();
    let yaml = yaml(&world.ci, &world.upstream, CLIENTS, "").replace(
        &format!("ci: {{issuer: '{origin}'}}"),
        &format!("ci: {{issuer: '{origin}/{{tenant}}', tenants: [a, b, c], jwks_uri: '{origin}/jwks'}}"),
    );
    world.gateway = Gateway::start(&yaml);
    world.client = Client::new(&world.gateway);
    let token = |tenant: &str| {
        let iss = format!("{origin}/{tenant}");
        world.key.sign(&json!({"iss": iss, "sub": "job", "aud": super::OWN, "exp": now() + 60}))
    };
    for (tenant, client) in [("a", "alpha"), ("b", "beta")] {
        let (_, line) = world.grants(by_grant(&token(tenant), &[])).await;
        let facts = ["oauth.client_id", "oauth.federated_issuer", "oauth.federated_tenant", "oauth.federated_subject"];
        assert_eq!(facts.map(|name| &line[name]), [client, "ci", tenant, "job"], "{line}");
    }
    let line = world.refuses(by_grant(&token("c"), &[]), (400, "invalid_grant", "no_federated_client")).await;
    assert_eq!(line["gateway.found"], "issuer=ci, tenant=c, subject=job", "{line}");
}
