//! The client certificate that a trusted proxy states in `Client-Cert` (RFC 9440).
//!
//! The proxy has verified it, and takes out what clients send in this field. The statement counts for one request.

use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};

use super::connection_cache::{ConnectionCache, StatedCertificate};
use super::headers::FieldFault;
use crate::jose::client_certificate::ClientCertificate;

/// A byte sequence (RFC 8941 §3.3.5) with the certificate in DER.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// The stated certificate, if there is one. It is read once for requests in a row that state the same.
pub(super) fn stated_certificate(
    headers: &HeaderMap,
    cache: &ConnectionCache,
) -> Result<Option<Rc<ClientCertificate>>, FieldFault> {
    let mut values = headers.get_all(CLIENT_CERT).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.as_bytes(),
        (Some(_), Some(_)) => return Err(FieldFault::ClientCertificate),
    };
    let mut last = cache.last_certificate.borrow_mut();
    if let Some(known) = last.as_ref().filter(|known| *known.text == *value) {
        return Ok(Some(Rc::clone(&known.certificate)));
    }
    let read = Rc::new(read(value).ok_or(FieldFault::ClientCertificate)?);
    *last = Some(StatedCertificate { text: value.into(), certificate: Rc::clone(&read) });
    Ok(Some(read))
}

fn read(value: &[u8]) -> Option<ClientCertificate> {
    let encoded = value.strip_prefix(b":")?.strip_suffix(b":")?;
    ClientCertificate::read(&STANDARD.decode(encoded).ok()?)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::jose::x509::client_certificate;

    fn stated(values: &[&str]) -> Result<Option<ClientCertificate>, FieldFault> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CLIENT_CERT, HeaderValue::from_str(value).unwrap());
        }
        stated_certificate(&headers, &ConnectionCache::default()).map(|read| read.map(|read| (*read).clone()))
    }

    #[test]
    fn one_byte_sequence_is_a_certificate() {
        let der = client_certificate(["", "a"], &[], &[], 2030);
        assert_eq!(stated(&[&format!(":{}:", STANDARD.encode(&der))]), Ok(ClientCertificate::read(&der)));
        assert_eq!(stated(&[]), Ok(None));
    }

    #[test]
    fn anything_else_is_refused() {
        let text = STANDARD.encode(client_certificate(["", "a"], &[], &[], 2030));
        let item = format!(":{text}:");
        for values in [
            &[&*item, &*item][..],
            &[&format!("{item}, {item}")],
            &[&format!("{item};a=1")],
            &[&text],
            &[&format!(":{text}")],
            &[&format!(":{}:", &text[4..])],
            &[&format!(":{text}AAAA:")],
            &[&format!(":{} {}:", &text[..8], &text[8..])],
            &["::"],
            &[":"],
            &[""],
            &["?0"],
        ] {
            assert_eq!(stated(values), Err(FieldFault::ClientCertificate), "{values:?}");
        }
    }

    #[test]
    fn a_statement_counts_for_its_own_request() {
        let cache = ConnectionCache::default();
        let item = |name| HeaderValue::from_str(&format!(":{}:", STANDARD.encode(name))).unwrap();
        let [one, other] = ["a", "b"].map(|name| client_certificate(["", name], &[], &[], 2030));
        for der in [&one, &other, &other, &one] {
            let headers = HeaderMap::from_iter([(CLIENT_CERT, item(der))]);
            let read = stated_certificate(&headers, &cache).unwrap().unwrap();
            assert_eq!(Some((*read).clone()), ClientCertificate::read(der));
        }
        assert!(stated_certificate(&HeaderMap::new(), &cache).unwrap().is_none(), "nothing is kept");
    }
}
