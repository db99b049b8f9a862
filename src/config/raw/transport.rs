//! The connections to the servers of an upstream: their URLs, `tls` and `protocol`.

use std::path::PathBuf;

use super::super::decode::mirror;
use super::super::form::ValueForm;
use super::super::origin::UrlOrigin;
use super::super::source::At;
use super::super::values::{Hint, ScalarValue};
use super::super::word::Word;

mirror! {
    struct RawUpstreamTls {
        /// Default: the system's roots.
        ca: Option<At<PathBuf>>,
        /// Default: the host of the server's URL.
        server_name: Option<At<String>>,
        client_cert: Option<At<PathBuf>>,
        client_key: Option<At<PathBuf>>,
    }
}

/// The URL of a server, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerUrl {
    Origin(UrlOrigin),
    /// Relative to the config file.
    Socket(PathBuf),
}

/// The protocol to the servers of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RawProtocol {
    Http1,
    Http2,
}

impl ScalarValue for ServerUrl {
    fn expected() -> String {
        "a server such as `http://10.0.0.5:9001`, `https://api.internal` or `unix:run/app.sock`".to_owned()
    }

    fn form() -> ValueForm {
        let pattern = "https?://[^/?#\\\\@{} ]+|unix:/?[^/].*";
        let examples = &["http://10.0.0.5:9001", "https://api.internal", "unix:run/app.sock"];
        ValueForm::pattern(pattern, Self::expected(), examples)
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        match text.strip_prefix("unix:") {
            None => UrlOrigin::parse(text).map(Self::Origin).map_err(|hint| match hint {
                "it begins with `http://` or `https://`" => "it begins with `http://`, `https://` or `unix:`",
                hint => hint,
            }),
            Some("") => Err("the socket's path follows `unix:`"),
            Some(path) if path.starts_with("//") => {
                Err("after `unix:` comes the path, without an empty host before it")
            }
            Some(path) => Ok(Self::Socket(PathBuf::from(path))),
        }
    }
}

impl Word for RawProtocol {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("http1", Self::Http1), ("http2", Self::Http2)]
    }
}
