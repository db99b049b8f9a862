//! The methods that a route takes.

use http::Method;

/// A set of methods. HEAD follows GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodSet(Vec<Method>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidMethod {
    #[error("methods are upper case, such as `GET`")]
    Case,
    #[error("CONNECT and TRACE are never forwarded")]
    Never,
    #[error("a method is a token such as `GET`")]
    Token,
}

/// The methods of a route that lists none.
pub(crate) const STANDARD: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

impl MethodSet {
    pub(crate) fn all() -> Self {
        Self(STANDARD.to_vec())
    }

    pub(crate) fn new(methods: impl IntoIterator<Item = Method>) -> Self {
        let mut all: Vec<Method> = Vec::new();
        for method in methods {
            let follows = (method == Method::GET).then_some(Method::HEAD);
            for method in std::iter::once(method).chain(follows) {
                if !all.contains(&method) {
                    all.push(method);
                }
            }
        }
        Self(all)
    }

    pub(crate) fn parse_method(text: &str) -> Result<Method, InvalidMethod> {
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(InvalidMethod::Case);
        }
        match Method::from_bytes(text.as_bytes()).map_err(|_| InvalidMethod::Token)? {
            Method::CONNECT | Method::TRACE => Err(InvalidMethod::Never),
            method => Ok(method),
        }
    }

    pub(crate) fn contains(&self, method: &Method) -> bool {
        self.0.contains(method)
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        self.0.iter().any(|method| other.contains(method))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Method::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_upper_case_tokens_and_never_connect_or_trace() {
        assert_eq!(MethodSet::parse_method("get"), Err(InvalidMethod::Case));
        assert_eq!(MethodSet::parse_method("TRACE"), Err(InvalidMethod::Never));
        assert_eq!(MethodSet::parse_method("G T"), Err(InvalidMethod::Token));
        assert!(MethodSet::parse_method("PROPFIND").is_ok());
    }
}
