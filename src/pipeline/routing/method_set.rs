//! The methods that a route takes.

use http::Method;

/// A set of methods. HEAD follows GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodSet(Vec<Method>);

/// The methods of a set that are among [`STANDARD`], as a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StandardMethods(u8);

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

    pub(crate) fn standard(&self) -> StandardMethods {
        StandardMethods(self.0.iter().filter_map(standard_bit).fold(0, |bits, bit| bits | bit))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Method::as_str)
    }
}

impl StandardMethods {
    /// `None`: the method is none of these, so that the set itself must be asked.
    pub(crate) fn contains(self, method: &Method) -> Option<bool> {
        standard_bit(method).map(|bit| self.0 & bit != 0)
    }
}

fn standard_bit(method: &Method) -> Option<u8> {
    let place = match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => return None,
    };
    Some(1 << place)
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

    #[test]
    fn bits_of_a_set_hold_the_standard_methods_it_has() {
        let other = MethodSet::parse_method("PROPFIND").unwrap();
        let some = MethodSet::new([Method::GET, Method::DELETE, other.clone()]).standard();
        for method in STANDARD {
            assert_eq!(MethodSet::all().standard().contains(&method), Some(true));
            let expected = [Method::GET, Method::HEAD, Method::DELETE].contains(&method);
            assert_eq!(some.contains(&method), Some(expected), "{method}");
        }
        assert_eq!(some.contains(&other), None);
    }
}
