//! A request as it is sent to an upstream, by either version of HTTP.

use std::rc::Rc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri, Version};
use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::body::expect_continue::ContinueSender;
use super::body::request_body::RequestBody;
use super::connect::target::DialTarget;
use super::fault::UpstreamFault;
use super::host::RequestHost;
use crate::http1::field_block::FieldBlock;
use crate::http1::target::OriginForm;

/// `Host`, `Via`, the credential of the service and the fields that frame the body are set where the request is written
/// to a server.
#[derive(Debug)]
pub(crate) struct UpstreamRequest {
    pub(crate) method: Method,
    pub(crate) target: OriginForm,
    pub(crate) host: RequestHost,
    pub(crate) headers: HeaderMap,
    pub(crate) added: AddedFields,
    /// The protocol by which it has come, for `Via`. `None` for a request without that field.
    pub(crate) received_by: Option<Version>,
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
    received_by: Option<Version>,
}

/// The characters of a query that RFC 3986 does not allow there and that an HTTP/1.1 request may still have.
const NOT_IN_URIS: &AsciiSet = &AsciiSet::EMPTY.add(b'"').add(b'<').add(b'>');

impl UpstreamRequest {
    pub(crate) fn new(method: Method, target: OriginForm, headers: HeaderMap, body: RequestBody) -> Self {
        let (host, added) = (RequestHost::default(), AddedFields::default());
        Self { method, target, host, headers, added, received_by: None, continue_sender: None, body }
    }

    /// The path and the query as a URI may have them.
    pub(super) fn path_and_query(&self) -> Result<PathAndQuery, UpstreamFault> {
        let text = utf8_percent_encode(self.target.as_str(), NOT_IN_URIS).to_string();
        PathAndQuery::try_from(text).map_err(|error| UpstreamFault::Protocol(error.into()))
    }

    /// With all fields for this server but `Host` in its header map. A host other than the configured one is in its
    /// extensions.
    pub(super) fn into_http(self, server: &DialTarget) -> Result<Request<RequestBody>, UpstreamFault> {
        let target = self.path_and_query()?;
        let via = server.via_of(self.received_by);
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = self.headers;
        if !matches!(self.host, RequestHost::Configured) {
            request.extensions_mut().insert(self.host);
        }
        let headers = request.headers_mut();
        for (name, value) in self.added.iter().flatten().map(|block| &**block).chain(via).flat_map(FieldBlock::fields) {
            headers.append(name, value.clone());
        }
        if let Some(credential) = &server.credential {
            credential.remove_from(headers);
            headers.insert(credential.name().clone(), credential.value().clone());
        }
        Ok(request)
    }
}

impl HeadCopy {
    pub(crate) fn of(request: &UpstreamRequest) -> Self {
        let UpstreamRequest { method, target, host, headers, added, received_by, .. } = request;
        Self {
            method: method.clone(),
            target: target.clone(),
            host: host.clone(),
            headers: headers.clone(),
            added: added.clone(),
            received_by: *received_by,
        }
    }

    pub(crate) fn with(self, body: RequestBody) -> UpstreamRequest {
        let Self { method, target, host, headers, added, received_by } = self;
        UpstreamRequest { method, target, host, headers, added, received_by, continue_sender: None, body }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{AUTHORIZATION, VIA};
    use http::{HeaderName, HeaderValue};

    use super::super::service::tests::upstream;
    use super::super::service_credential::ServiceCredential;
    use super::super::settings::UpstreamSettings;
    use super::*;

    /// A request with two added fields and `Authorization`, as a server of such an upstream gets it.
    fn as_http(change: impl FnOnce(&mut UpstreamSettings)) -> Request<RequestBody> {
        let upstream = upstream(&[1], change);
        let target = OriginForm::from_bytes(Bytes::from_static(b"/a%20b?x=\"<y>\"&z='{|}")).unwrap();
        let (body, _) = RequestBody::whole(Bytes::new());
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("theirs"))]);
        let mut request = UpstreamRequest::new(Method::GET, target, headers, body);
        let added = |text| (HeaderName::from_static("x-added"), HeaderValue::from_static(text));
        request.added[2] = Some(Rc::new(FieldBlock::new(vec![added("a"), added("b")])));
        request.received_by = Some(Version::HTTP_10);
        let server = DialTarget::new(&upstream.name, &upstream.servers[0], &upstream.settings);
        request.into_http(&server).unwrap()
    }

    #[test]
    fn an_http2_request_has_all_fields_and_a_valid_uri() {
        let request = as_http(|_| {});
        assert_eq!(request.uri().path_and_query().unwrap(), "/a%20b?x=%22%3Cy%3E%22&z='{|}");
        assert_eq!(request.headers().get_all("x-added").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(request.headers()[VIA], "1.0 portcullis");
        assert_eq!(request.headers()[AUTHORIZATION], "theirs");
    }

    #[test]
    fn an_http2_request_has_the_fields_of_its_upstream() {
        let request = as_http(|settings| {
            settings.via = false;
            settings.authorization = Some(ServiceCredential::new(AUTHORIZATION, HeaderValue::from_static("ours")));
        });
        assert!(!request.headers().contains_key(VIA));
        let authorization: Vec<&HeaderValue> = request.headers().get_all(AUTHORIZATION).iter().collect();
        assert_eq!(authorization, ["ours"]);
        assert!(authorization[0].is_sensitive());
    }
}
