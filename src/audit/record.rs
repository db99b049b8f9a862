//! What a line says: names follow OpenTelemetry, flat keys with dots.

use std::time::Duration;

use super::ledger::Batch;
use super::line::Line;
use super::reason::Reason;
use crate::clock::UnixTime;

/// One decision. Holds no token, no secret and no header.
#[derive(Debug)]
pub(crate) struct Record<'r> {
    pub(crate) time: UnixTime,
    pub(crate) decision: Decision,
    pub(crate) reason: Option<Reason>,
    pub(crate) request_id: &'r str,
    /// Which configuration decided.
    pub(crate) config: &'r str,
    pub(crate) client_address: &'r str,
    /// The socket's other end, where it is not the client's.
    pub(crate) peer_address: Option<&'r str>,
    pub(crate) method: Option<&'r str>,
    pub(crate) path: Option<&'r str>,
    pub(crate) route: Option<&'r str>,
    pub(crate) status: Option<u16>,
    pub(crate) duration: Duration,
    pub(crate) identity: Identity<'r>,
}

/// Who a record is about, or the part of a line that was written about them before.
#[derive(Debug)]
pub(crate) enum Identity<'r> {
    Described(Described<'r>),
    Written(&'r [u8]),
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    Allow,
    Deny,
    /// A token was granted.
    Issue,
    /// It failed, by us, by the upstream or because the client went: not a judgement of the request.
    Error,
}

/// Who it was about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Described<'r> {
    /// False where a refused token or request merely said so.
    pub(crate) verified: bool,
    pub(crate) issuer: Option<&'r str>,
    pub(crate) client: Option<&'r str>,
    pub(crate) subject: Option<&'r str>,
    pub(crate) scope: Option<&'r str>,
    pub(crate) token_id: Option<&'r str>,
    pub(crate) key_id: Option<&'r str>,
}

/// Lines that are about the process, its keys or an operator's act, and not about a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'e> {
    Start,
    Stop,
    /// A signing key, by its id.
    KeyMade(&'e str),
    KeyRetired(&'e str),
    Revocation(Revocation<'e>),
}

/// What was revoked by other means than a request to this gateway. Whose token it was is known by its digest alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Revocation<'e> {
    pub(crate) issuer: &'e str,
    pub(crate) token_digest: Option<&'e str>,
    pub(crate) client: Option<&'e str>,
    pub(crate) subject: Option<&'e str>,
    /// Seconds since 1970.
    pub(crate) issued_before: Option<u64>,
}

impl Decision {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Issue => "issue",
            Self::Error => "error",
        }
    }
}

impl Record<'_> {
    pub(crate) fn write(&self, buffer: &mut Vec<u8>) {
        let mut line = Line::open(buffer);
        line.plain("time", self.time)
            .plain("gateway.decision", self.decision.as_str())
            .optional("gateway.reason", self.reason.map(Reason::as_str))
            .text("gateway.request_id", self.request_id)
            .plain("gateway.config", self.config)
            .text("client.address", self.client_address)
            .optional("network.peer.address", self.peer_address)
            .optional("http.request.method", self.method)
            .optional("url.path", self.path)
            .optional("http.route", self.route);
        if let Some(status) = self.status {
            line.number("http.response.status_code", status.into());
        }
        line.number("duration_us", u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX));
        match &self.identity {
            Identity::Described(who) => who.write(&mut line),
            Identity::Written(part) => line.part(part),
        }
        line.close();
    }
}

impl Described<'_> {
    /// The part of a line that says this: the same in each line about the same token.
    pub(crate) fn written(&self) -> Box<[u8]> {
        let mut part = Vec::new();
        self.write(&mut Line::open(&mut part));
        part.into()
    }

    fn write(&self, line: &mut Line<'_>) {
        if self.issuer.is_none() && self.client.is_none() {
            return;
        }
        line.optional("oauth.issuer", self.issuer)
            .optional("oauth.client_id", self.client)
            .optional("oauth.subject", self.subject)
            .optional("oauth.scope", self.scope)
            .optional("oauth.jti", self.token_id)
            .optional("oauth.kid", self.key_id);
        if !self.verified {
            line.truth("oauth.verified", false);
        }
    }
}

impl Event<'_> {
    pub(crate) fn write(self, time: UnixTime, config: &str, batch: &mut Batch) {
        let (name, key_id) = match self {
            Self::Start => ("start", None),
            Self::Stop => ("stop", None),
            Self::KeyMade(key_id) => ("key_made", Some(key_id)),
            Self::KeyRetired(key_id) => ("key_retired", Some(key_id)),
            Self::Revocation(_) => ("revocation", None),
        };
        batch.push(|bytes| {
            let mut line = Line::open(bytes);
            line.plain("time", time).plain("gateway.event", name).plain("gateway.config", config);
            line.optional("oauth.kid", key_id);
            if let Self::Revocation(revocation) = self {
                revocation.write(&mut line);
            }
            line.close();
        });
    }
}

impl Revocation<'_> {
    fn write(&self, line: &mut Line<'_>) {
        line.text("oauth.issuer", self.issuer)
            .optional("oauth.client_id", self.client)
            .optional("oauth.subject", self.subject)
            .optional("oauth.jti_sha256", self.token_digest);
        if let Some(before) = self.issued_before {
            line.plain("oauth.issued_before", UnixTime::from_seconds(before));
        }
    }
}
