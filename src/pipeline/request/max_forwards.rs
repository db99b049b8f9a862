//! `Max-Forwards` (RFC 9110 §7.6.2): how many more proxies may forward an OPTIONS request. TRACE is never forwarded.

use http::header::MAX_FORWARDS;
use http::{HeaderMap, Method};

/// Counts one more proxy. False if the request may not be forwarded, and the gateway itself has to answer it.
pub(crate) fn count_hop(method: &Method, headers: &mut HeaderMap) -> bool {
    if *method != Method::OPTIONS {
        return true;
    }
    // A value that is no number is no limit.
    let left = headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match left {
        None => true,
        Some(0) => false,
        Some(left) => {
            headers.insert(MAX_FORWARDS, (left - 1).into());
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_options_request_is_forwarded_as_often_as_it_says() {
        for (method, value, forwarded, left) in [
            (Method::OPTIONS, "0", false, "0"),
            (Method::OPTIONS, "1", true, "0"),
            (Method::OPTIONS, "10", true, "9"),
            (Method::OPTIONS, "many", true, "many"),
            (Method::GET, "0", true, "0"),
        ] {
            let mut headers = HeaderMap::from_iter([(MAX_FORWARDS, HeaderValue::from_static(value))]);
            assert_eq!(count_hop(&method, &mut headers), forwarded, "{method} {value}");
            assert_eq!(headers[MAX_FORWARDS], left, "{method} {value}");
        }
        assert!(count_hop(&Method::OPTIONS, &mut HeaderMap::new()));
    }
}
