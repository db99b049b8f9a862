//! Who is at the other end of a connection, and by which listener it came.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use http::HeaderValue;

use super::canonical::Authority;

/// The facts of one connection, with the header values that follow from them.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) entrance: Entrance,
    /// `X-Forwarded-For`.
    pub(crate) forwarded_for: HeaderValue,
    /// The host that the last request named: it rarely changes on a connection.
    pub(crate) last_authority: RefCell<Option<Rc<Authority>>>,
    /// The `Forwarded` that was made for it.
    last_forwarded: RefCell<Option<(Rc<Authority>, HeaderValue)>>,
}

/// What a listener is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Tls,
    /// Routes in clear text; token requests only where the traffic can't leave the machine.
    Plain {
        loopback: bool,
    },
    /// Answers nothing but 308 to this origin.
    Redirect {
        origin: String,
    },
}

impl Peer {
    pub(crate) fn new(address: IpAddr, entrance: Entrance) -> Self {
        // An address is always a header value.
        let forwarded_for = HeaderValue::try_from(address.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Self {
            address,
            entrance,
            forwarded_for,
            last_authority: RefCell::default(),
            last_forwarded: RefCell::default(),
        }
    }

    /// `X-Forwarded-Proto`.
    pub(crate) fn proto(&self) -> HeaderValue {
        HeaderValue::from_static(self.scheme())
    }

    /// `Forwarded` (RFC 7239 §4).
    pub(crate) fn forwarded(&self, authority: &Rc<Authority>) -> HeaderValue {
        let mut last = self.last_forwarded.borrow_mut();
        if let Some((_, forwarded)) = last.as_ref().filter(|(known, _)| Rc::ptr_eq(known, authority)) {
            return forwarded.clone();
        }
        let made = self.make_forwarded(&authority.header).unwrap_or_else(|| HeaderValue::from_static("for=unknown"));
        *last = Some((Rc::clone(authority), made.clone()));
        made
    }

    fn make_forwarded(&self, host: &HeaderValue) -> Option<HeaderValue> {
        let node = match self.address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        // A host with a port or brackets is no token and must be quoted; it was checked to have no quote in it.
        let host = host.to_str().ok()?;
        HeaderValue::try_from(format!("for={node};host=\"{host}\";proto={}", self.scheme())).ok()
    }

    /// What the connection speaks, and `X-Forwarded-Proto`.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.entrance {
            Entrance::Tls => "https",
            Entrance::Plain { .. } | Entrance::Redirect { .. } => "http",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_says_who_asked_for_which_host_and_how() {
        let host = HeaderValue::from_static("a.example:8443");
        let v4 = Peer::new("10.0.0.1".parse().unwrap(), Entrance::Tls);
        assert_eq!(v4.make_forwarded(&host).unwrap(), "for=10.0.0.1;host=\"a.example:8443\";proto=https");
        assert_eq!(v4.make_forwarded(&HeaderValue::from_static("b")).unwrap(), "for=10.0.0.1;host=\"b\";proto=https");
        let v6 = Peer::new("2001:db8::1".parse().unwrap(), Entrance::Plain { loopback: false });
        assert_eq!(v6.make_forwarded(&host).unwrap(), "for=\"[2001:db8::1]\";host=\"a.example:8443\";proto=http");
    }
}
