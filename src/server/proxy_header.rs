//! The PROXY protocol, versions 1 and 2: a load balancer names the client of a connection in its first bytes.
//!
//! The parser is pure and strict: any deviation from the specification ends the connection. Of version 2 it reads the
//! addresses and skips the extensions, whose size is limited. The caller checks whether the sender may send the header.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The client that the header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyHeader {
    Client(IpAddr),
    /// The load balancer itself, for a health check.
    Itself,
    /// A client without an IP address.
    Unknown,
}

/// The result of parsing the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ParsedHeader {
    /// A header and its length.
    Header(ProxyHeader, usize),
    /// The beginning of a header.
    Partial,
    Malformed,
}

const SIGNATURE_V1: &[u8] = b"PROXY ";
/// Includes the line break.
const LONGEST_V1: usize = 107;
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const HEAD_V2: usize = 16;
/// Addresses and extensions together.
const LONGEST_REST_V2: usize = 4096;

/// Reads the header from the stream, and nothing after it.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<ProxyHeader> {
    let mut header = Vec::new();
    loop {
        let mut more = [0; 512];
        let came = stream.peek(&mut more).await?;
        if came == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let known = header.len();
        header.extend_from_slice(more.get(..came).unwrap_or_default());
        let parsed = parse(&header);
        let wanted = match parsed {
            ParsedHeader::Header(_, length) => length - known,
            ParsedHeader::Partial => came,
            ParsedHeader::Malformed => return Err(io::ErrorKind::InvalidData.into()),
        };
        // These bytes were peeked before, so this does not wait.
        stream.read_exact(more.get_mut(..wanted).unwrap_or_default()).await?;
        if let ParsedHeader::Header(proxy_header, _) = parsed {
            return Ok(proxy_header);
        }
    }
}

/// The length of the header at the start of these bytes; `None` if there is none, or only a part of one.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    match parse(bytes) {
        ParsedHeader::Header(_, length) => Some(length),
        ParsedHeader::Partial | ParsedHeader::Malformed => None,
    }
}

fn parse(bytes: &[u8]) -> ParsedHeader {
    if begins(bytes, SIGNATURE_V2) {
        parse_v2(bytes)
    } else if begins(bytes, SIGNATURE_V1) {
        parse_v1(bytes)
    } else {
        ParsedHeader::Malformed
    }
}

/// Whether the bytes match the signature, as far as both go.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> ParsedHeader {
    let Some(end) = bytes.iter().take(LONGEST_V1).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LONGEST_V1 { ParsedHeader::Partial } else { ParsedHeader::Malformed };
    };
    let line = bytes.get(..end).and_then(|line| line.strip_prefix(SIGNATURE_V1)?.strip_suffix(b"\r"));
    let proxy_header = line.and_then(|line| std::str::from_utf8(line).ok()).and_then(parse_line_v1);
    proxy_header.map_or(ParsedHeader::Malformed, |proxy_header| ParsedHeader::Header(proxy_header, end + 1))
}

/// Parses the text between `PROXY ` and the line break.
fn parse_line_v1(line: &str) -> Option<ProxyHeader> {
    // The specification says to ignore the rest of the line.
    if line.strip_prefix("UNKNOWN").is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
        return Some(ProxyHeader::Unknown);
    }
    let mut words = line.split(' ');
    let (family, source, target) = (words.next()?, words.next()?, words.next()?);
    let (from, to) = (words.next()?, words.next()?);
    let address: IpAddr = match family {
        "TCP4" => (source.parse::<Ipv4Addr>().ok()?, target.parse::<Ipv4Addr>().ok()?).0.into(),
        "TCP6" => (source.parse::<Ipv6Addr>().ok()?, target.parse::<Ipv6Addr>().ok()?).0.into(),
        _ => return None,
    };
    let whole = words.next().is_none() && is_port(from) && is_port(to);
    whole.then(|| ProxyHeader::Client(address.to_canonical()))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port.to_string() == text)
}

fn parse_v2(bytes: &[u8]) -> ParsedHeader {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_V2>() else {
        return ParsedHeader::Partial;
    };
    let [.., version_and_command, family, high, low] = *head;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_REST_V2 || !matches!(version_and_command, 0x20 | 0x21) {
        return ParsedHeader::Malformed;
    }
    let Some(rest) = rest.get(..length) else {
        return ParsedHeader::Partial;
    };
    let proxy_header = match (version_and_command, family) {
        (0x20, _) => Some(ProxyHeader::Itself),
        (_, 0x11) => rest.first_chunk::<12>().map(|[a, b, c, d, ..]| client(Ipv4Addr::new(*a, *b, *c, *d).into())),
        (_, 0x21) => {
            let addresses = rest.first_chunk::<36>().and_then(|addresses| addresses.first_chunk::<16>());
            addresses.map(|address| client(Ipv6Addr::from(*address).into()))
        }
        // Unspecified, and Unix sockets.
        (_, 0x00 | 0x31) => Some(ProxyHeader::Unknown),
        // Datagrams are not possible over TCP; other values are undefined.
        _ => None,
    };
    proxy_header.map_or(ParsedHeader::Malformed, |proxy_header| ParsedHeader::Header(proxy_header, HEAD_V2 + length))
}

fn client(address: IpAddr) -> ProxyHeader {
    ProxyHeader::Client(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE_V2, &[version_and_command, family], &length, rest].concat()
    }

    fn named(text: &str) -> ProxyHeader {
        ProxyHeader::Client(text.parse().unwrap())
    }

    #[track_caller]
    fn is(bytes: &[u8], expected: ProxyHeader) {
        let followed = [bytes, b"\x16\x03\x01 what follows\r\n"].concat();
        for bytes in [bytes, &followed] {
            assert_eq!(
                parse(bytes),
                ParsedHeader::Header(expected, followed.len() - 18),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn version_1_names_the_client() {
        is(b"PROXY TCP4 203.0.113.9 10.0.0.1 65535 443\r\n", named("203.0.113.9"));
        is(b"PROXY TCP6 2001:db8::1 2001:db8::2 0 443\r\n", named("2001:db8::1"));
        is(b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1 2\r\n", named("203.0.113.9"));
        is(b"PROXY UNKNOWN\r\n", ProxyHeader::Unknown);
        is(b"PROXY UNKNOWN ffff::1 whatever 1 2\r\n", ProxyHeader::Unknown);
    }

    #[test]
    fn version_2_names_the_client_and_extensions_are_skipped() {
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 1, 2, 3, 4];
        let v6: Vec<u8> = [[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2]
            .concat()
            .into_iter()
            .chain([1, 2, 3, 4])
            .collect();
        is(&v2(0x21, 0x11, &v4), named("203.0.113.9"));
        is(&v2(0x21, 0x21, &v6), named("2001:db8::1"));
        is(&v2(0x21, 0x11, &[&v4[..], &[0xEA; 4084]].concat()), named("203.0.113.9"));
        is(&v2(0x20, 0x00, b""), ProxyHeader::Itself);
        is(&v2(0x20, 0x11, &v4), ProxyHeader::Itself);
        is(&v2(0x21, 0x00, b""), ProxyHeader::Unknown);
        is(&v2(0x21, 0x31, &[0; 216]), ProxyHeader::Unknown);
    }

    #[test]
    fn any_deviation_is_malformed() {
        for line in [
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY unknown\r\n",
            "proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
            "PROXY TCP4 1.1.1.01 1.1.1.1 1 1\r\n",
            "PROXY TCP4 ::1 ::1 1 1\r\n",
            "PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
            "PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n",
            "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\n\r\n\0\r\nQUIX\n",
        ] {
            assert_eq!(parse(line.as_bytes()), ParsedHeader::Malformed, "{line:?}");
        }
        assert_eq!(parse(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).as_bytes()), ParsedHeader::Malformed);
        let v4 = [0; 12];
        for (version_and_command, family, rest) in [
            (0x11, 0x11, &v4[..]),
            (0x22, 0x11, &v4),
            (0x21, 0x12, &v4),
            (0x21, 0x11, &v4[..11]),
            (0x21, 0x21, &[0; 35]),
            (0x21, 0x41, &v4),
            (0x21, 0x11, &[0; 4097]),
        ] {
            assert_eq!(
                parse(&v2(version_and_command, family, rest)),
                ParsedHeader::Malformed,
                "{version_and_command:x} {family:x}"
            );
        }
    }

    fn headers() -> impl Strategy<Value = (Vec<u8>, ProxyHeader)> {
        let v1 = (any::<IpAddr>(), any::<u16>(), any::<u16>()).prop_map(|(address, from, to)| {
            let family = if address.is_ipv4() { "TCP4" } else { "TCP6" };
            (format!("PROXY {family} {address} {address} {from} {to}\r\n").into_bytes(), client(address))
        });
        let v2 = (any::<IpAddr>(), prop::collection::vec(any::<u8>(), 0..4000)).prop_map(|(address, extensions)| {
            let (family, address_bytes) = match address {
                IpAddr::V4(v4) => (0x11, v4.octets().to_vec()),
                IpAddr::V6(v6) => (0x21, v6.octets().to_vec()),
            };
            (v2(0x21, family, &[&address_bytes[..], &address_bytes, &[0; 4], &extensions].concat()), client(address))
        });
        prop_oneof![v1, v2]
    }

    proptest! {
        #[test]
        fn every_proxy_header_is_read_to_its_end_and_parts_waited_for(
            (header, proxy_header) in headers(), cut in any::<prop::sample::Index>(), rest in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            prop_assert_eq!(parse(&[&header[..], &rest].concat()), ParsedHeader::Header(proxy_header, header.len()));
            prop_assert_eq!(parse(&header[..cut.index(header.len())]), ParsedHeader::Partial);
        }

        #[test]
        fn no_bytes_make_it_panic_or_wait_for_ever(
            start in prop::sample::select(vec![&b""[..], SIGNATURE_V1, SIGNATURE_V2, b"PROXY TCP4 "]), bytes in prop::collection::vec(any::<u8>(), 0..5000),
        ) {
            let bytes = [start, &bytes].concat();
            let parsed = parse(&bytes);
            prop_assert!(parsed != ParsedHeader::Partial || bytes.len() < HEAD_V2 + LONGEST_REST_V2);
        }
    }
}
