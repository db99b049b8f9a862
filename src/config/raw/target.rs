//! The target of a route: upstreams with weights, a redirect or a fixed response; and the mirror.

use http::StatusCode;

use super::super::decode::{Decode, MapField, Named, Required, form_of, mirror};
use super::super::diagnostics::Reported;
use super::super::form::ValueForm;
use super::super::reader::Reader;
use super::super::source::At;
use super::super::tree::YamlNode;
use super::super::values::{Hint, Period, PositiveCount, Quotes, ScalarValue, count, seconds};

/// A name, or several with their weights.
#[derive(Debug)]
pub(crate) enum RawUpstreams {
    One(String),
    Weighed(Named<PositiveCount>),
}

mirror! {
    struct RawMirror {
        /// The upstream that gets the copies, by name.
        upstream: Required<String>,
        /// The share of requests that are copied. Default: `100`.
        percent: At<PositiveCount> = count(100),
        /// The time for the whole exchange. Default: `30s`.
        timeout: At<Period> = seconds(30),
    }
}

mirror! {
    struct RawRedirect {
        /// A path, or an origin and a path, with the captures of the route's `path`.
        to: Required<String>,
        /// 301, 302, 303, 307 or 308. Default: `308`.
        status: At<RedirectStatus> = RedirectStatus(StatusCode::PERMANENT_REDIRECT),
    }
}

mirror! {
    struct RawRespond {
        /// The status. Default: `200`.
        status: At<AnswerStatus> = AnswerStatus(StatusCode::OK),
        /// The body, 64 KiB at most; `"${file:…}"` takes the content of a file. Default: none.
        body: Option<At<String>>,
        /// Default: `text/plain; charset=utf-8`.
        content_type: Option<At<String>>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RedirectStatus(pub(crate) StatusCode);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerStatus(pub(crate) StatusCode);

impl Decode for RawUpstreams {
    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![ValueForm::Text, form_of::<PositiveCount>().named(1)])
    }

    fn decode(node: &At<YamlNode<'_>>, reader: &mut Reader<'_>) -> Result<Self, Reported> {
        const EXPECTED: &str = "an upstream's name, or a map of names and weights such as `{stable: 95, canary: 5}`";
        match &node.value {
            YamlNode::Map(pairs) if !pairs.is_empty() => Ok(Self::Weighed(Named::given(node, reader))),
            YamlNode::Map(_) | YamlNode::List(_) => Err(reader.mismatch(node, EXPECTED, "")),
            YamlNode::Scalar(_) | YamlNode::Refused => String::decode(node, reader).map(Self::One),
        }
    }
}

impl ScalarValue for RedirectStatus {
    const QUOTES: Quotes = Quotes::MustNot;

    fn expected() -> String {
        "`301`, `302`, `303`, `307` or `308`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::AnyOf(vec![ValueForm::Integer(301, 303), ValueForm::Integer(307, 308)])
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        match text {
            "301" => Ok(Self(StatusCode::MOVED_PERMANENTLY)),
            "302" => Ok(Self(StatusCode::FOUND)),
            "303" => Ok(Self(StatusCode::SEE_OTHER)),
            "307" => Ok(Self(StatusCode::TEMPORARY_REDIRECT)),
            "308" => Ok(Self(StatusCode::PERMANENT_REDIRECT)),
            _ => Err(""),
        }
    }
}

impl ScalarValue for AnswerStatus {
    const QUOTES: Quotes = Quotes::MustNot;

    fn expected() -> String {
        "a status from `200` to `599`".to_owned()
    }

    fn form() -> ValueForm {
        ValueForm::Integer(200, 599)
    }

    fn parse(text: &str) -> Result<Self, Hint> {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        match StatusCode::from_bytes(text.as_bytes()) {
            Ok(status) if digits && (200..600).contains(&status.as_u16()) => Ok(Self(status)),
            Ok(_) | Err(_) => Err(""),
        }
    }
}
