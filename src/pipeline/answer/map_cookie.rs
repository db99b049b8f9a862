//! Maps the attributes of a `Set-Cookie` field (RFC 6265 §4.1.1) from the upstream to the public side.
//!
//! `Path` is mapped, and a `Domain` that is the upstream's own host is removed: browsers would refuse the cookie. All
//! other bytes stay as they are. So does a cookie named `__Host-…`: its path must be `/`, without a domain. A cookie
//! named `__Secure-…` needs its `Secure`, which is not touched.

use super::url_reference::dots;

/// The new value; `None` if nothing changes. `public_path` gives the public path of a path at the upstream.
pub(super) fn map_cookie(
    cookie: &str,
    public_path: impl Fn(&str) -> Option<String>,
    is_own_host: impl Fn(&str) -> bool,
) -> Option<String> {
    let mut attributes = cookie.split(';');
    let pair = attributes.next()?;
    let begin = pair.trim_start().get(..HOST_PREFIX.len());
    if begin.is_some_and(|begin| begin.eq_ignore_ascii_case(HOST_PREFIX)) {
        return None;
    }
    let mut mapped = pair.to_owned();
    for attribute in attributes {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        let (name, value) = (name.trim(), value.trim());
        if name.eq_ignore_ascii_case("domain") && is_own_host(value.strip_prefix('.').unwrap_or(value)) {
            continue;
        }
        mapped.push(';');
        let path = Some(value).filter(|_| name.eq_ignore_ascii_case("path")).filter(|path| is_plain(path));
        match path.and_then(|path| cookie_path(path, &public_path)) {
            Some(public) => {
                let before = &attribute[..=attribute.find('=').unwrap_or(0)];
                mapped += before;
                mapped += &public;
            }
            None => mapped += attribute,
        }
    }
    (mapped != cookie).then_some(mapped)
}

const HOST_PREFIX: &str = "__Host-";

/// A path that is compared with the path of requests as it is. Others mean the path of the request (RFC 6265 §5.2.4),
/// or never match.
fn is_plain(path: &str) -> bool {
    let is_odd = |c: char| c == '\\' || c.is_control();
    path.starts_with('/') && !path.contains(is_odd) && !path.split('/').any(|segment| dots(segment).is_some())
}

/// `Path=/api/` would not match a request for `/api`.
fn cookie_path(path: &str, public_path: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut public = public_path(path)?;
    if path == "/" && public.len() > 1 && public.ends_with('/') {
        public.pop();
    }
    Some(public)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(cookie: &str) -> Option<String> {
        let public_path = |path: &str| (!path.starts_with("/none")).then(|| format!("/api{path}"));
        map_cookie(cookie, public_path, |host| host.eq_ignore_ascii_case("legacy.internal"))
    }

    #[track_caller]
    fn becomes(cookie: &str, expected: &str) {
        assert_eq!(mapped(cookie).as_deref(), Some(expected), "{cookie}");
    }

    #[test]
    fn path_and_own_domain_are_mapped_and_the_rest_stays() {
        becomes("a=b; Path=/x; Secure", "a=b; Path=/api/x; Secure");
        becomes("a=b; Path=/", "a=b; Path=/api");
        becomes("a=b;path=/;HttpOnly", "a=b;path=/api;HttpOnly");
        becomes("a=\"b=c\" ; Domain=legacy.internal ; Max-Age=1", "a=\"b=c\" ; Max-Age=1");
        becomes("a; DOMAIN=.Legacy.internal; pAtH = /x ", "a; pAtH =/api/x");
        becomes("a=; Path=/x; Path=/y", "a=; Path=/api/x; Path=/api/y");
        becomes("__Secure-a=b; Secure; Path=/x", "__Secure-a=b; Secure; Path=/api/x");
        becomes("__Hos\u{fc}a=b; Path=/x", "__Hos\u{fc}a=b; Path=/api/x");
    }

    #[test]
    fn a_cookie_without_a_mapping_stays_as_it_was() {
        for cookie in [
            "a=b",
            "a=b; Secure; SameSite=Lax; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
            "a=b; Domain=example.com",
            "a=b; Domain=internal",
            "a=b; Path",
            "a=b; Path=",
            "a=b; Path=x",
            "a=b; Path=\"/\"",
            "a=b; Path=/x/../y",
            "a=b; Path=/x\\y",
            "a=b; Path=/none",
            "a=path=/x",
            "__Host-a=b; Secure; Path=/",
            "__host-a=b; Secure; Path=/; Domain=legacy.internal",
            "",
        ] {
            assert_eq!(mapped(cookie), None, "{cookie}");
        }
    }
}
