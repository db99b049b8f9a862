//! The client that a trusted proxy names. Takes `X-Forwarded-For` and `Forwarded` (RFC 7239); gives the addresses that
//! can be believed.
//!
//! Entries are read from right to left, the latest first. Each trusted proxy vouches for the address left of its own,
//! and the first address that is not trusted is the client. Reading ends at an entry that cannot be read: nothing left
//! of it is believed, and the client is *uncertain*. An uncertain client counts as the last proxy that could be
//! believed, and passes no list of addresses. Two headers that name different clients are a contradiction, and the
//! request is refused: one of them came from outside.
//!
//! Not used for a peer that is not a trusted proxy.

use std::net::IpAddr;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};

use super::headers::X_FORWARDED_FOR;
use crate::network::Networks;

/// The content of the headers, as far as it is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardedChain {
    /// The client, then every proxy but the peer itself. Empty where the peer names no client.
    pub(crate) hops: Vec<IpAddr>,
    /// False where an entry could not be read as an address.
    pub(crate) is_certain: bool,
}

/// An element of `Forwarded`, as far as it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardedElement<'h> {
    node: Option<&'h str>,
    pub(crate) host: Option<&'h str>,
    pub(crate) proto: Option<&'h str>,
}

/// The two headers name different clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contradiction;

/// Trusted proxies in a row. Entries behind more of them are not believed.
const MAX_HOPS: usize = 16;

/// The source of a request, as a trusted peer describes it.
pub(crate) fn chain(headers: &HeaderMap, trusted: &Networks) -> Result<ForwardedChain, Contradiction> {
    let says_something = |chain: &ForwardedChain| !chain.hops.is_empty() || !chain.is_certain;
    let plain = Some(back(x_forwarded_for(headers), trusted)).filter(says_something);
    let standard = Some(back(forwarded(headers), trusted)).filter(says_something);
    match (plain, standard) {
        (None, None) => Ok(ForwardedChain { hops: Vec::new(), is_certain: true }),
        (Some(chain), None) | (None, Some(chain)) => Ok(chain),
        (Some(plain), Some(standard)) => {
            let agree = plain.hops.first() == standard.hops.first() && plain.is_certain == standard.is_certain;
            if agree { Ok(plain) } else { Err(Contradiction) }
        }
    }
}

/// The element of `Forwarded` that names the client; an empty one if none does.
pub(crate) fn client_element<'h>(headers: &'h HeaderMap, trusted: &Networks) -> ForwardedElement<'h> {
    let elements = all_elements(headers).unwrap_or_default();
    let chain = back(elements.iter().rev().map(|element| element.node.and_then(node)), trusted);
    let client = elements.len().checked_sub(chain.hops.len()).filter(|_| chain.is_certain);
    client.and_then(|client| elements.get(client)).copied().unwrap_or_default()
}

/// Goes back over the hops, the nearest first; `None` is an entry that cannot be read.
fn back(hops: impl Iterator<Item = Option<IpAddr>>, trusted: &Networks) -> ForwardedChain {
    let mut chain = ForwardedChain { hops: Vec::new(), is_certain: true };
    for hop in hops {
        match hop {
            Some(address) if chain.hops.len() < MAX_HOPS => {
                chain.hops.push(address);
                if !trusted.contains(address) {
                    break;
                }
            }
            Some(_) | None => {
                chain.is_certain = false;
                break;
            }
        }
    }
    chain.hops.reverse();
    chain
}

/// Every line is one more part of the list; empty parts are skipped (RFC 9110 §5.6.1).
fn x_forwarded_for(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let parts = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    parts.filter(|part| !part.is_empty()).map(|part| node(std::str::from_utf8(part).ok()?))
}

/// The `for` of each element. A header that breaks the grammar counts as empty: a quotation mark that is never closed
/// could otherwise swallow the text that a proxy appended.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
    let elements = all_elements(headers).unwrap_or_else(|| vec![ForwardedElement::default()]);
    elements.into_iter().rev().map(|element| element.node.and_then(node))
}

fn all_elements(headers: &HeaderMap) -> Option<Vec<ForwardedElement<'_>>> {
    let lines = headers.get_all(FORWARDED).iter().map(elements);
    lines.collect::<Option<Vec<_>>>().map(|lines| lines.concat())
}

/// `None` where it is no list of elements (RFC 7239 §4). An element has each parameter once at most.
fn elements(line: &HeaderValue) -> Option<Vec<ForwardedElement<'_>>> {
    let text = line.to_str().ok()?;
    let mut elements = Vec::new();
    // Commas and semicolons do not occur between quotation marks, where only an address or a host can be.
    for element in text.split(',').map(str::trim).filter(|element| !element.is_empty()) {
        let mut parameters = ForwardedElement::default();
        for pair in element.split(';').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=')?;
            let value = unquoted(value)?;
            if !is_token(name) {
                return None;
            }
            if parameters.parameter(name).is_some_and(|parameter| parameter.replace(value).is_some()) {
                return None;
            }
        }
        elements.push(parameters);
    }
    Some(elements)
}

impl<'h> ForwardedElement<'h> {
    fn parameter(&mut self, name: &str) -> Option<&mut Option<&'h str>> {
        match name {
            _ if name.eq_ignore_ascii_case("for") => Some(&mut self.node),
            _ if name.eq_ignore_ascii_case("host") => Some(&mut self.host),
            _ if name.eq_ignore_ascii_case("proto") => Some(&mut self.proto),
            _ => None,
        }
    }
}

fn unquoted(value: &str) -> Option<&str> {
    match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|inside| !inside.contains(['"', '\\'])),
        None => Some(value).filter(|value| is_token(value) || is_bare_node(value)),
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(legal)
}

/// Many proxies leave out the quotation marks that a port or IPv6 requires.
fn is_bare_node(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b":.[]_-".contains(&b);
    !text.is_empty() && text.bytes().all(legal)
}

/// An address, with or without the brackets of IPv6 and a port. `unknown`, names and zones are not addresses.
fn node(text: &str) -> Option<IpAddr> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
            (IpAddr::V6(address.parse().ok()?), port)
        }
        None => match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => (IpAddr::V4(address.parse().ok()?), Some(port)),
            Some(_) | None => (text.parse().ok()?, None),
        },
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => is_token(hidden),
        None => text.len() <= 5 && text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;
    use http::HeaderName;
    use proptest::prelude::*;

    /// 10.0.0.0/8 and 2001:db8:1::/48 are trusted.
    fn said(fields: &[(HeaderName, &[u8])]) -> Result<ForwardedChain, Contradiction> {
        let trusted = ["10.0.0.0/8", "2001:db8:1::/48"].iter().map(|text| Network::parse(text).unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        chain(&headers, &trusted)
    }

    fn believed(chain: &ForwardedChain) -> String {
        let hops: Vec<String> = chain.hops.iter().map(IpAddr::to_string).collect();
        format!("{}{}", hops.join(" "), if chain.is_certain { "" } else { " ?" })
    }

    #[track_caller]
    fn plain(value: &str, expected: &str) {
        assert_eq!(believed(&said(&[(X_FORWARDED_FOR, value.as_bytes())]).unwrap()), expected, "{value}");
    }

    #[track_caller]
    fn standard(value: &str, expected: &str) {
        assert_eq!(believed(&said(&[(FORWARDED, value.as_bytes())]).unwrap()), expected, "{value}");
    }

    #[test]
    fn the_first_untrusted_address_from_the_right_is_the_client() {
        plain("203.0.113.9", "203.0.113.9");
        plain("1.1.1.1, 203.0.113.9", "203.0.113.9");
        plain("1.1.1.1, 203.0.113.9, 10.0.0.7,10.0.0.8", "203.0.113.9 10.0.0.7 10.0.0.8");
        plain("10.0.0.7, 10.0.0.8", "10.0.0.7 10.0.0.8");
        plain("2001:db8::1, 2001:db8:1::7", "2001:db8::1 2001:db8:1::7");
        plain("::ffff:203.0.113.9", "203.0.113.9");
    }

    #[test]
    fn ports_and_brackets_are_read_and_left_out() {
        plain("203.0.113.9:4711", "203.0.113.9");
        plain("[2001:db8::1]:443", "2001:db8::1");
        plain("[2001:db8::1]", "2001:db8::1");
        standard("for=\"[2001:db8::1]:4711\"", "2001:db8::1");
        standard("for=203.0.113.9:4711", "203.0.113.9");
        standard("for=\"203.0.113.9:_hidden\"", "203.0.113.9");
    }

    #[test]
    fn an_invalid_address_ends_the_chain_and_makes_it_uncertain() {
        for garbage in [
            "unknown",
            "_hidden",
            "localhost",
            "fe80::1%eth0",
            "[fe80::1%25eth0]",
            "203.0.113",
            "203.0.113.09",
            "203.0.113.9.",
            "203.0.113.9 ;",
            "203.0.113.9:",
            "203.0.113.9:99999",
            "203.0.113.9:+80",
            "[203.0.113.9]",
            "[::1",
            "::1]",
            "\"203.0.113.9\"",
            "0x7f.1",
            "-",
        ] {
            plain(garbage, " ?");
            plain(&format!("{garbage}, 10.0.0.7"), "10.0.0.7 ?");
            plain(&format!("{garbage}, 203.0.113.9"), "203.0.113.9");
        }
        assert_eq!(believed(&said(&[(X_FORWARDED_FOR, b"\xff, 203.0.113.9")]).unwrap()), "203.0.113.9");
    }

    #[test]
    fn empty_parts_say_nothing() {
        plain("", "");
        plain(", ,", "");
        plain(", 203.0.113.9,", "203.0.113.9");
    }

    #[test]
    fn lines_are_parts_of_one_list() {
        let lines: [(HeaderName, &[u8]); 3] = [
            (X_FORWARDED_FOR, b"1.1.1.1"),
            (X_FORWARDED_FOR, b"203.0.113.9, 10.0.0.7"),
            (X_FORWARDED_FOR, b"10.0.0.8"),
        ];
        assert_eq!(believed(&said(&lines).unwrap()), "203.0.113.9 10.0.0.7 10.0.0.8");
    }

    #[test]
    fn a_thousand_hops_are_believed_for_sixteen() {
        plain(&"1.1.1.1,".repeat(1000), "1.1.1.1");
        let all_trusted = said(&[(X_FORWARDED_FOR, "10.0.0.7,".repeat(1000).as_bytes())]).unwrap();
        assert_eq!((all_trusted.hops.len(), all_trusted.is_certain), (MAX_HOPS, false));
    }

    #[test]
    fn the_standard_header_says_the_same_in_its_own_way() {
        standard("for=203.0.113.9", "203.0.113.9");
        standard("For=\"203.0.113.9\";proto=https;by=10.0.0.7;host=\"a:8443\"", "203.0.113.9");
        standard("for=1.1.1.1, for=203.0.113.9;proto=https, FOR=10.0.0.7", "203.0.113.9 10.0.0.7");
        standard("for=unknown, for=10.0.0.7", "10.0.0.7 ?");
        standard("for=_gazonk", " ?");
        standard("proto=https", " ?");
    }

    #[test]
    fn a_broken_standard_header_is_not_believed_at_all() {
        for broken in [
            "for=\", for=10.0.0.7",
            "for=\"1.1.1.1, for=\"[2001:db8::1]\"",
            "for=1.1.1.1;x=\", for=\"[2001:db8::1]\"",
            "for=1.1.1.1;x=\"\\\", for=203.0.113.9;host=\"a\"",
            "for=1.1.1.1;for=203.0.113.9",
            "for=1.1.1.1;proto=http;Proto=https",
            "for=1.1.1.1;host=a;host=b",
            "for 203.0.113.9",
            "203.0.113.9",
            "f or=203.0.113.9",
            "for=\"a\\\"b\"",
        ] {
            standard(broken, " ?");
        }
        let lines: [(HeaderName, &[u8]); 2] = [(FORWARDED, b"for=\""), (FORWARDED, b"for=203.0.113.9")];
        assert_eq!(believed(&said(&lines).unwrap()), " ?");
    }

    #[test]
    fn origin_is_read_from_the_element_of_the_client() {
        let trusted = [Network::parse("10.0.0.0/8").unwrap()].into_iter().collect();
        for (value, host, proto) in [
            ("for=1.1.1.1;host=a;proto=https", Some("a"), Some("https")),
            ("for=9.9.9.9;host=x, for=1.1.1.1;Host=\"a:8443\", for=10.0.0.7;host=b;proto=http", Some("a:8443"), None),
            ("for=10.0.0.8;host=a, for=10.0.0.7;host=b", Some("a"), None),
            ("host=a;proto=https", None, None),
            ("for=unknown;host=a, for=10.0.0.7;host=b", None, None),
            ("for=1.1.1.1;host=a, for=\"", None, None),
            ("", None, None),
        ] {
            let headers = HeaderMap::from_iter([(FORWARDED, value.parse().unwrap())]);
            let element = client_element(&headers, &trusted);
            assert_eq!((element.host, element.proto), (host, proto), "{value}");
        }
    }

    #[test]
    fn two_headers_agree_on_the_client_or_contradict_each_other() {
        let both = |plain: &'static str, standard: &'static str| {
            said(&[(X_FORWARDED_FOR, plain.as_bytes()), (FORWARDED, standard.as_bytes())])
        };
        assert_eq!(believed(&both("203.0.113.9, 10.0.0.7", "for=203.0.113.9").unwrap()), "203.0.113.9 10.0.0.7");
        assert_eq!(believed(&both("", "for=203.0.113.9").unwrap()), "203.0.113.9");
        assert_eq!(both("203.0.113.9", "for=10.0.0.9"), Err(Contradiction));
        assert_eq!(both("203.0.113.9", "for=\""), Err(Contradiction));
        assert_eq!(both("10.0.0.9", "for=unknown, for=10.0.0.9"), Err(Contradiction));
    }

    proptest! {
        /// Text from a client is to the left of the entries that trusted proxies add, and does not change how these are
        /// read.
        #[test]
        fn no_field_of_a_client_passes_for_a_proxys(
            forged in "[ -~]{0,60}|(for=)?[0-9\"\\\\,;=. ]{0,30}", same_line in any::<bool>(),
        ) {
            let honest = |chain: ForwardedChain| chain.hops.first() == Some(&"203.0.113.9".parse().unwrap());
            for (name, added) in [(X_FORWARDED_FOR, "203.0.113.9, 10.0.0.7"), (FORWARDED, "for=203.0.113.9;host=\"a\", for=\"[2001:db8:1::7]\"")] {
                let joined = format!("{forged}, {added}");
                let lines: Vec<(HeaderName, &[u8])> = if same_line { vec![(name.clone(), joined.as_bytes())] }
                    else { vec![(name.clone(), forged.as_bytes()), (name.clone(), added.as_bytes())] };
                let chain = said(&lines).unwrap();
                let unreadable = chain.hops.is_empty() && !chain.is_certain && name == FORWARDED;
                prop_assert!(unreadable || honest(chain), "{}", joined);
            }
        }
    }
}
