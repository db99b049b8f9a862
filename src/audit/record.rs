//! The members of a line. Names follow OpenTelemetry: flat keys with dots.

use std::time::Duration;

use super::batch::Batch;
use super::line::LineBuilder;
use super::reason::Reason;
use crate::clock::UnixTime;
use crate::oauth::caller::{Digest, IssuerName};
use crate::oauth::identity::Identity;

/// One decision. Holds no token, no secret and no header.
#[derive(Debug)]
pub(crate) struct DecisionRecord<'r> {
    pub(crate) time: UnixTime,
    pub(crate) decision: Decision,
    pub(crate) reason: Option<Reason>,
    /// The refusal that the route has only reported.
    pub(crate) would_deny: Option<Reason>,
    /// The rule of HTTP that the request or its answer breaks, or the fault of TLS with the upstream.
    pub(crate) rule: Option<&'r str>,
    /// The values that a rule of the route, or TLS with the upstream, found and wanted.
    pub(crate) found: Option<&'r str>,
    pub(crate) wanted: Option<&'r str>,
    /// How rate limits were counted, if the store that they share was unreachable.
    pub(crate) ratelimit_mode: Option<&'r str>,
    pub(crate) request_id: &'r str,
    /// The digest of the configuration that decided.
    pub(crate) config: &'r str,
    pub(crate) client_address: &'r str,
    /// The address of the connection, where it is not the client's.
    pub(crate) peer_address: Option<&'r str>,
    pub(crate) method: Option<&'r str>,
    /// The host that the request named, without its port.
    pub(crate) host: Option<&'r str>,
    pub(crate) path: Option<&'r str>,
    pub(crate) route: Option<&'r str>,
    /// Present if the route has several upstreams.
    pub(crate) upstream: Option<&'r str>,
    pub(crate) status: Option<u16>,
    pub(crate) duration: Duration,
    pub(crate) identity: RecordIdentity<'r>,
}

/// The caller that a record is about, or its part of a line that was written before.
#[derive(Debug)]
pub(crate) enum RecordIdentity<'r> {
    Described(Described<'r>),
    Written(&'r [u8]),
}

/// The decision on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    Allow,
    /// Allowed, because the route only reports what its rule refuses.
    WouldDeny,
    Deny,
    /// A token was granted.
    Issue,
    /// The request failed: the gateway, the upstream or the client ended it. Not a decision on the request itself.
    Error,
}

/// The caller that a decision is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Described<'r> {
    /// False where a refused token or request only claims it.
    pub(crate) verified: bool,
    pub(crate) issuer: Option<&'r str>,
    pub(crate) client: Option<&'r str>,
    pub(crate) subject: Option<&'r str>,
    pub(crate) scope: Option<&'r str>,
    pub(crate) token_id: Option<&'r str>,
    pub(crate) key_id: Option<&'r str>,
    /// Of a grant: how its client was authenticated.
    pub(crate) auth_method: Option<&'r str>,
    /// The key of the client's assertion.
    pub(crate) auth_key_id: Option<&'r str>,
    /// The platform token by which the client was authenticated.
    pub(crate) federated: Option<DescribedCredential<'r>>,
}

/// A token of a platform that authenticated a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DescribedCredential<'r> {
    pub(crate) issuer: &'r str,
    /// Of an issuer with tenants.
    pub(crate) tenant: Option<&'r str>,
    pub(crate) subject: &'r str,
}

impl<'r> DescribedCredential<'r> {
    pub(crate) fn new(issuer: &'r IssuerName, tenant: Option<&'r str>, subject: &'r Identity) -> Self {
        Self { issuer: issuer.as_str(), tenant, subject: subject.as_str() }
    }
}

/// Lines about the process, its keys, an operator's action or the log itself, and not about a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'e> {
    Start,
    Stop,
    /// The configuration was replaced by that of the line.
    Reload(ReloadRecord<'e>),
    /// A new configuration was not taken into use. The line has the one that stays.
    ReloadRefused(RefusedReload<'e>),
    /// A signing key, by its id.
    KeyMade(&'e str),
    /// Another gateway or the command line has made it.
    KeyLearned(&'e str),
    KeyRetired(&'e str),
    /// A client in the database that this gateway holds.
    ClientChanged {
        client: &'e str,
        state: &'e str,
    },
    Revocation(Revocation<'e>),
    /// The last line was torn by a crash, and was cut off. `text` is what it held.
    Recovered {
        bytes: u64,
        text: &'e str,
    },
    /// More than the last line was damaged: the file was renamed to this name.
    Damaged {
        file: &'e str,
    },
    /// These lines were written, and no file holds them.
    Missing {
        from: u64,
        up_to: u64,
    },
    /// Another process has made the open file longer or shorter.
    Altered {
        expected: u64,
        found: u64,
    },
    /// Rotation removes a file.
    Removed {
        file: &'e str,
    },
    /// Lines that never reached the writer, because the log could not be written for too long.
    Lost {
        lines: u64,
    },
}

/// A reload: the configuration that it replaced, and its changes in terms of access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReloadRecord<'e> {
    /// The revision before.
    pub(crate) previous: &'e str,
    /// The numbers of changes.
    pub(crate) wider: u64,
    pub(crate) narrower: u64,
    pub(crate) changed: u64,
    /// The first of them, the wider ones before the others; `None` without changes.
    pub(crate) changes: Option<&'e str>,
}

/// Why a configuration was not taken into use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedReload<'e> {
    /// The revision that was refused; `None` if it has none, because its file could not be read.
    pub(crate) refused: Option<&'e str>,
    /// The first error.
    pub(crate) error: &'e str,
    /// The number of errors.
    pub(crate) errors: u64,
}

/// A revocation by other means than a request to this gateway. A token is known by its digest only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Revocation<'e> {
    pub(crate) issuer: &'e str,
    pub(crate) token_digest: Option<&'e str>,
    pub(crate) client: Option<&'e str>,
    pub(crate) subject: Option<&'e str>,
    /// Seconds since 1970.
    pub(crate) issued_before: Option<u64>,
    /// The digest of a revocation by another replica, whose names are not known.
    pub(crate) learned: Option<Digest>,
}

impl Decision {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::WouldDeny => "would_deny",
            Self::Deny => "deny",
            Self::Issue => "issue",
            Self::Error => "error",
        }
    }
}

impl DecisionRecord<'_> {
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        let mut line = LineBuilder::open(buffer);
        line.literal("time", self.time.print())
            .literal("gateway.decision", self.decision.as_str())
            .optional("gateway.reason", self.reason.map(Reason::as_str))
            .optional("gateway.would_deny", self.would_deny.map(Reason::as_str))
            .optional("gateway.rule", self.rule)
            .optional("gateway.found", self.found)
            .optional("gateway.wanted", self.wanted)
            .optional("gateway.ratelimit_mode", self.ratelimit_mode)
            .text("gateway.request_id", self.request_id)
            .literal("gateway.config", self.config)
            .text("client.address", self.client_address)
            .optional("network.peer.address", self.peer_address)
            .optional("http.request.method", self.method)
            .optional("server.address", self.host)
            .optional("url.path", self.path)
            .optional("http.route", self.route)
            .optional("gateway.upstream", self.upstream);
        if let Some(status) = self.status {
            line.number("http.response.status_code", status.into());
        }
        line.number("duration_us", u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX));
        match &self.identity {
            RecordIdentity::Described(caller) => caller.write(&mut line),
            RecordIdentity::Written(part) => line.part(part),
        }
        line.close();
    }
}

impl Described<'_> {
    /// The part of a line that describes the caller: the same in each line about the same token.
    pub(crate) fn written(&self) -> Box<[u8]> {
        let mut part = Vec::new();
        self.write(&mut LineBuilder::open(&mut part));
        part.into()
    }

    fn write(&self, line: &mut LineBuilder<'_>) {
        if self.issuer.is_none() && self.client.is_none() {
            return;
        }
        line.optional("oauth.issuer", self.issuer)
            .optional("oauth.client_id", self.client)
            .optional("oauth.subject", self.subject)
            .optional("oauth.scope", self.scope)
            .optional("oauth.jti", self.token_id)
            .optional("oauth.kid", self.key_id)
            .optional("oauth.auth_method", self.auth_method)
            .optional("oauth.auth_kid", self.auth_key_id)
            .optional("oauth.federated_issuer", self.federated.map(|credential| credential.issuer))
            .optional("oauth.federated_tenant", self.federated.and_then(|credential| credential.tenant))
            .optional("oauth.federated_subject", self.federated.map(|credential| credential.subject));
        if !self.verified {
            line.boolean("oauth.verified", false);
        }
    }
}

impl Event<'_> {
    pub(crate) fn write(self, time: UnixTime, config: &str, batch: &mut Batch) {
        batch.push(|bytes| {
            let mut line = LineBuilder::open(bytes);
            line.plain("time", time).plain("gateway.event", self.name()).plain("gateway.config", config);
            match self {
                Self::Start | Self::Stop => &mut line,
                Self::Reload(ReloadRecord { previous, wider, narrower, changed, changes }) => line
                    .text("gateway.previous_config", previous)
                    .number("gateway.access_wider", wider)
                    .number("gateway.access_narrower", narrower)
                    .number("gateway.access_changed", changed)
                    .optional("gateway.access_changes", changes),
                Self::ReloadRefused(RefusedReload { refused, error, errors }) => line
                    .optional("gateway.refused_config", refused)
                    .text("gateway.error", error)
                    .number("gateway.errors", errors),
                Self::KeyMade(key_id) | Self::KeyLearned(key_id) | Self::KeyRetired(key_id) => {
                    line.text("oauth.kid", key_id)
                }
                Self::ClientChanged { client, state } => {
                    line.text("oauth.client_id", client).text("gateway.client_state", state)
                }
                Self::Revocation(revocation) => revocation.write(&mut line),
                Self::Recovered { bytes, text } => line.number("gateway.cut_bytes", bytes).text("gateway.cut", text),
                Self::Damaged { file } | Self::Removed { file } => line.text("gateway.file", file),
                Self::Lost { lines } => line.number("gateway.lost_lines", lines),
                Self::Missing { from, up_to } => {
                    line.number("gateway.missing_from", from).number("gateway.missing_up_to", up_to)
                }
                Self::Altered { expected, found } => {
                    line.number("gateway.expected_bytes", expected).number("gateway.found_bytes", found)
                }
            }
            .close();
        });
    }

    /// All names.
    pub(crate) const NAMES: [&'static str; 15] = [
        "start",
        "stop",
        "reload",
        "reload_refused",
        "key_made",
        "key_learned",
        "key_retired",
        "client_changed",
        "revocation",
        "recovered",
        "damaged",
        "missing",
        "altered",
        "removed",
        "lost",
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload(_) => "reload",
            Self::ReloadRefused(_) => "reload_refused",
            Self::KeyMade(_) => "key_made",
            Self::KeyLearned(_) => "key_learned",
            Self::KeyRetired(_) => "key_retired",
            Self::ClientChanged { .. } => "client_changed",
            Self::Revocation(_) => "revocation",
            Self::Recovered { .. } => "recovered",
            Self::Damaged { .. } => "damaged",
            Self::Missing { .. } => "missing",
            Self::Altered { .. } => "altered",
            Self::Removed { .. } => "removed",
            Self::Lost { .. } => "lost",
        }
    }
}

impl Revocation<'_> {
    fn write<'l, 'b>(&self, line: &'l mut LineBuilder<'b>) -> &'l mut LineBuilder<'b> {
        if let Some(digest) = self.learned {
            line.text("gateway.revocation", &format!("{:032x}", digest.0));
        } else {
            line.text("oauth.issuer", self.issuer);
        }
        line.optional("oauth.client_id", self.client)
            .optional("oauth.subject", self.subject)
            .optional("oauth.jti_sha256", self.token_digest);
        match self.issued_before {
            Some(before) => line.plain("oauth.issued_before", UnixTime::from_seconds(before)),
            None => line,
        }
    }
}
