"""A small browser: keeps cookies, follows redirects and `Refresh`, and remembers what it saw.

The environment names the server: `BASE` is its origin with the prefix under which it is reached, `CA` the file with the
certificate of an `https` origin, `HTTP2` is set for HTTP/2. Names that end in `.internal` are this machine.
"""

import http.cookiejar
import os
import re
import socket
import ssl
from urllib.parse import urljoin, urlsplit

import httpx

BASE = os.environ["BASE"]
ROOT = urlsplit(BASE)

# These fields of answers are compared. Others, such as `Date`, differ between two answers of the same server.
COMPARED = ("content-type", "content-location", "www-authenticate", "etag")
# Their values are drawn by the server for each session.
DRAWN = re.compile(r"(JSESSIONID=|jsessionid=|PHPSESSID=)[0-9A-Za-z,-]+")

_resolve = socket.getaddrinfo


def _resolve_here(host, *rest, **options):
    return _resolve("127.0.0.1" if host.endswith(".internal") else host, *rest, **options)


socket.getaddrinfo = _resolve_here


class Browser:
    """With `cookies=False` it takes none, as a browser that is set so."""

    def __init__(self, cookies=True):
        verify = ssl.create_default_context(cafile=os.environ["CA"]) if ROOT.scheme == "https" else False
        jar = http.cookiejar.CookieJar(None if cookies else http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
        self.client = httpx.Client(
            verify=verify, http2="HTTP2" in os.environ, cookies=jar, trust_env=False, timeout=60, headers={"Accept-Language": "en"}
        )
        self.url = BASE + "/"
        self.page = ""

    def visit(self, target, method="GET", **request):
        """Requests a page and follows it to where it leads. Gives each request with what came of it, and the last page."""
        url = BASE + target if target.startswith("/") else urljoin(self.url, target)
        steps = []
        while url:
            answer = self.client.request(method, url, follow_redirects=False, **request)
            steps.append(self._seen(answer))
            self.url, self.page = url, answer.text
            url = _next(answer)
            if url and _relative(url).startswith("elsewhere"):
                return {"steps": steps, "page": f"leads {_relative(url)}"}
            if answer.status_code not in (307, 308):
                method, request = "GET", {"auth": request["auth"]} if "auth" in request else {}
            if len(steps) > 10:
                return {"steps": steps, "page": "a loop"}
        return {"steps": steps, "page": _neutral(self.page)}

    def post(self, target, **request):
        return self.visit(target, "POST", **request)

    def link(self, text):
        """The target of the link with this text on the present page."""
        return self._found(r'href="([^"]*)">' + re.escape(text))

    def action(self):
        """The target of the form on the present page."""
        return self._found(r'action="([^"]*)"')

    def _found(self, pattern):
        """A walk that has lost its way goes on, so that the test sees where."""
        found = re.search(pattern, self.page)
        return found[1] if found else "/not-on-the-page"

    def kept(self):
        """The cookies in the jar: name and path."""
        return sorted([cookie.name, _path_below(cookie.path)] for cookie in self.client.cookies.jar)

    def _seen(self, answer):
        asked = answer.request
        sent = sorted(filter(None, re.split(r"; *", asked.headers.get("cookie", ""))))
        fields = {name: answer.headers[name] for name in COMPARED if name in answer.headers}
        if "content-location" in fields:
            fields["content-location"] = _relative(urljoin(str(asked.url), fields["content-location"]))
        return {
            "request": f"{asked.method} {_relative(str(asked.url))}",
            "cookies": [_neutral(cookie) for cookie in sent],
            "status": answer.status_code,
            "fields": fields,
        }


def _next(answer):
    """Where the answer leads, by redirect or by `Refresh`."""
    target = answer.headers.get("location") if answer.is_redirect else None
    if target is None and "refresh" in answer.headers:
        target = re.search(r"url=(.*)", answer.headers["refresh"], re.IGNORECASE)[1].strip("'\"")
    return target and urljoin(str(answer.request.url), target)


def _relative(url):
    """The URL below the base, so that it is the same wherever the server stands; another URL as it is."""
    parts = urlsplit(url)
    if (parts.scheme, parts.netloc) != (ROOT.scheme, ROOT.netloc):
        return f"elsewhere: {url}"
    path = _path_below(parts.path) + (f"?{parts.query}" if parts.query else "")
    return DRAWN.sub(r"\1…", path)


def _path_below(path):
    if path.rstrip("/") == ROOT.path:
        return "/"
    return path.removeprefix(ROOT.path) if path.startswith(ROOT.path + "/") else f"elsewhere: {path}"


def _neutral(text):
    """Without what is drawn, and without the names of where the server stands."""
    return DRAWN.sub(r"\1…", text).replace(BASE, "BASE").replace(f"{ROOT.scheme}://{ROOT.netloc}", "ORIGIN")
