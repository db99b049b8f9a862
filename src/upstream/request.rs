//! A request as it is sent to an upstream, by either version of HTTP.

use std::rc::Rc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri};
use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::body::expect_continue::ContinueSender;
use super::body::request_body::RequestBody;
use super::fault::UpstreamFault;
use super::host::RequestHost;
use crate::http1::field_block::FieldBlock;
use crate::http1::target::OriginForm;

/// The field `Host` and those that frame the body are set by the connection to the upstream.
#[derive(Debug)]
pub(crate) struct UpstreamRequest {
    pub(crate) method: Method,
    pub(crate) target: OriginForm,
    pub(crate) host: RequestHost,
    pub(crate) headers: HeaderMap,
    pub(crate) added: AddedFields,
    /// The body is requested from the client only after `100 Continue` from the upstream, which is asked for it.
    pub(crate) continue_sender: Option<ContinueSender>,
    pub(crate) body: RequestBody,
}

/// Fields that are rendered once and sent many times. Their names are not in the header map.
pub(crate) type AddedFields = [Option<Rc<FieldBlock>>; 3];

/// A copy of a request without its body.
#[derive(Debug)]
pub(crate) struct HeadCopy {
    method: Method,
    target: OriginForm,
    pub(crate) host: RequestHost,
    pub(crate) headers: HeaderMap,
    added: AddedFields,
}

/// The characters of a query that RFC 3986 does not allow there and that an HTTP/1.1 request may still have.
const NOT_IN_URIS: &AsciiSet = &AsciiSet::EMPTY.add(b'"').add(b'<').add(b'>');

impl UpstreamRequest {
    pub(crate) fn new(method: Method, target: OriginForm, headers: HeaderMap, body: RequestBody) -> Self {
        let (host, added) = (RequestHost::default(), AddedFields::default());
        Self { method, target, host, headers, added, continue_sender: None, body }
    }

    /// The path and the query as a URI may have them.
    pub(super) fn path_and_query(&self) -> Result<PathAndQuery, UpstreamFault> {
        let text = utf8_percent_encode(self.target.as_str(), NOT_IN_URIS).to_string();
        PathAndQuery::try_from(text).map_err(|error| UpstreamFault::Protocol(error.into()))
    }

    /// With all fields but `Host` in its header map. A host other than the configured one is in its extensions.
    pub(super) fn into_http(self) -> Result<Request<RequestBody>, UpstreamFault> {
        let target = self.path_and_query()?;
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = self.headers;
        if !matches!(self.host, RequestHost::Configured) {
            request.extensions_mut().insert(self.host);
        }
        for (name, value) in self.added.iter().flatten().flat_map(|block| block.fields()) {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }
}

impl HeadCopy {
    pub(crate) fn of(request: &UpstreamRequest) -> Self {
        let UpstreamRequest { method, target, host, headers, added, .. } = request;
        Self {
            method: method.clone(),
            target: target.clone(),
            host: host.clone(),
            headers: headers.clone(),
            added: added.clone(),
        }
    }

    pub(crate) fn with(self, body: RequestBody) -> UpstreamRequest {
        let Self { method, target, host, headers, added } = self;
        UpstreamRequest { method, target, host, headers, added, continue_sender: None, body }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;
    use http::header::VIA;

    use super::*;

    #[test]
    fn an_http2_request_has_all_fields_and_a_valid_uri() {
        let target = OriginForm::from_bytes(Bytes::from_static(b"/a%20b?x=\"<y>\"&z='{|}")).unwrap();
        let (body, _) = RequestBody::whole(Bytes::new());
        let mut request = UpstreamRequest::new(Method::GET, target, HeaderMap::new(), body);
        let via = |text| (VIA, HeaderValue::from_static(text));
        request.added[2] = Some(Rc::new(FieldBlock::new(vec![via("1.1 a"), via("1.1 b")])));
        let request = request.into_http().unwrap();
        assert_eq!(request.uri().path_and_query().unwrap(), "/a%20b?x=%22%3Cy%3E%22&z='{|}");
        assert_eq!(request.headers().get_all(VIA).iter().collect::<Vec<_>>(), ["1.1 a", "1.1 b"]);
    }
}
