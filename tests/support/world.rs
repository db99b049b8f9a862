//! Configurations, so that a test contains only the part that it is about.

use std::net::SocketAddr;

use super::{Client, Gateway};

/// The secret of the client `app`, which may request `read:data` and `write:data`. `other` has the same secret.
pub(crate) const SECRET: &str = "correct horse battery staple";

/// The text of each section that a test does not give itself.
const DEFAULTS: [(&str, &str); 7] = [
    ("version:", "version: 1\n"),
    ("workers:", "workers: 1\n"),
    (
        "listeners:",
        "listeners: [{address: 127.0.0.1:0, tls: {certificates: [{cert: certs/localhost.crt, key: certs/localhost.key, self_signed: true}]}}]\n",
    ),
    ("allow_literal_secrets:", "allow_literal_secrets: true\n"),
    (
        "oauth:",
        "oauth:
  issuer: https://localhost:8443
  audiences: [https://api.example.com]
  signing_keys: {algorithm: ES256}
  clients:
    app: {secrets: [{value: correct horse battery staple}], scopes: [read:data, write:data]}
    other: {secrets: [{value: correct horse battery staple}], scopes: [read:data]}
",
    ),
    // A test may cause more refusals in a second than would have lines of their own.
    ("audit:", "audit: {file: \"-\", refusals_per_second: unlimited}\n"),
    ("admin:", "admin: {address: 127.0.0.1:0}\n"),
];

/// A configuration with these routes, one a line, to the upstream `legacy` unless they name another. These top-level
/// sections replace the usual ones.
pub(crate) fn config(legacy: SocketAddr, routes: &[&str], sections: &str) -> String {
    let missing = |(name, _): &&(&str, &str)| !sections.lines().any(|line| line.starts_with(name));
    let mut text: String = DEFAULTS.iter().filter(missing).map(|(_, section)| *section).collect();
    if !sections.lines().any(|line| line.starts_with("upstreams:")) {
        text += &format!("upstreams: {{legacy: \"http://{legacy}\"}}\n");
    }
    text += "routes:\n";
    for route in routes {
        let leads = [", upstream: ", ", redirect: ", ", respond: "].iter().any(|key| route.contains(key));
        text += &format!("  - {{{route}{}}}\n", if leads { "" } else { ", upstream: legacy" });
    }
    text + sections + "\n"
}

impl Gateway {
    /// A gateway with these routes before this upstream.
    pub(crate) fn before(legacy: SocketAddr, routes: &[&str]) -> Self {
        Self::start(&config(legacy, routes, ""))
    }

    /// A gateway with a public `/**`, and these sections.
    pub(crate) fn open(legacy: SocketAddr, sections: &str) -> Self {
        Self::start(&config(legacy, &["path: /**, access: public, name: all"], sections))
    }

    /// A gateway with these routes before a service that speaks HTTP/2.
    pub(crate) fn before_http2(service: SocketAddr, routes: &[&str]) -> Self {
        let upstreams = format!("upstreams: {{legacy: {{servers: [\"http://{service}\"], protocol: http2}}}}");
        Self::start(&config(service, routes, &upstreams))
    }

    /// HTTP/1.1 and HTTP/2. The tests must pass with both.
    pub(crate) fn both(&self) -> [Client; 2] {
        [Client::new(self), Client::http2(self)]
    }

    /// The peak resident memory, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}
