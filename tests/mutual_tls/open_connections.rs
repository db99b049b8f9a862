//! Connections that are older than the authorities of their listener: they stay, and their certificates count as long as
//! the present authorities accept them.

use super::tokens::start;
use super::*;

/// A client with an open connection, and a token that is bound to its certificate.
struct Opened {
    connection: Connection,
    token: String,
}

impl Opened {
    async fn new(mutual: &Mutual, by: &Issued, alpn: &str) -> Self {
        let mut connection = connect(mutual.asking(), &presenting(by, alpn)).await.unwrap();
        let token = access_token(&connection.send(token_request("client_id=app")).await);
        Self { connection, token }
    }

    /// The statuses of a request for a token, and of one with the token.
    async fn statuses(&mut self) -> [u16; 2] {
        let granted = self.connection.send(token_request("client_id=app")).await;
        let used = self.connection.send(with_bearer(&self.token)).await;
        [granted.status, used.status]
    }
}

#[tokio::test]
async fn certificates_of_former_authorities_prove_nothing() {
    let mutual = start().await;
    let (app, other) = (mutual.issue("app"), Authority::new());
    let former = mutual.authority.certificate.clone();
    let (mut one, mut two) = (Opened::new(&mutual, &app, "http/1.1").await, Opened::new(&mutual, &app, "h2").await);
    for (authorities, expected) in [
        (other.certificate.clone(), [401, 401]),
        (format!("{former}{}", other.certificate), [200, 200]),
        (other.certificate.clone(), [401, 401]),
        (former, [200, 200]),
    ] {
        fs::write(mutual.gateway.folder.join("ca.crt"), &authorities).unwrap();
        let end = mutual.gateway.reload_file();
        assert!(end.contains("the configuration was reloaded"), "{end}");
        for opened in [&mut one, &mut two] {
            assert_eq!(opened.statuses().await, expected);
        }
    }
}

#[tokio::test]
async fn a_listener_that_asks_no_more_takes_no_certificate() {
    let mutual = start().await;
    let app = mutual.issue("app");
    let yaml = mutual.yaml();
    let (mut one, mut two) = (Opened::new(&mutual, &app, "http/1.1").await, Opened::new(&mutual, &app, "h2").await);
    for (mode, expected) in [("none", [401, 401]), ("required", [200, 200]), ("none", [401, 401])] {
        let now = match mode {
            "none" => yaml.replace(", client_auth: {mode: optional, ca: ca.crt}", ""),
            mode => yaml.replace("optional", mode),
        };
        mutual.gateway.reloads(&now);
        for opened in [&mut one, &mut two] {
            assert_eq!(opened.statuses().await, expected, "{mode}");
        }
    }
}
