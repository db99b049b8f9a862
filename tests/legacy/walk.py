"""A session of a browser on one of the old servers: `walk.py PROGRAM`. Prints the steps, and what came of each, as JSON."""

import json
import sys

from browser import Browser

FILE = bytes(range(256)) * 300


def pieces():
    """A body whose length is not known beforehand: chunks over HTTP/1.1, frames over HTTP/2."""
    for at in range(0, len(FILE), 10_000):
        yield FILE[at : at + 10_000]


def apache():
    browser, script = Browser(), "/cgi-bin/legacy.cgi"
    yield "start", browser.visit("/")
    yield "folder without a slash", browser.visit("/docs")
    yield "moved for good", browser.visit("/old/page.html")
    yield "negotiated", browser.visit("/greeting")
    yield "members, unknown", browser.visit("/members/")
    yield "members, wrong password", browser.visit("/members/", auth=("ali", "sesame"))
    yield "members, without a slash", browser.visit("/members", auth=("ali", "open sesame"))
    yield "login", browser.post(f"{script}/login", data={"user": "ali"})
    yield "relative redirect", browser.visit(f"{script}/relative")
    yield "redirect from the root", browser.visit(f"{script}/from-the-root")
    yield "redirect inside the server", browser.visit(f"{script}/inside")
    yield "refresh", browser.visit(f"{script}/wait")
    yield "upload", browser.post(f"{script}/upload", content=FILE)
    yield "upload without a length", browser.post(f"{script}/upload", content=pieces())
    yield "post without a body", browser.post(f"{script}/upload")
    yield "escapes", browser.visit(f"{script}/a%2Bb%40c%7Ed%20e")
    yield "slash in a name", browser.visit(f"{script}/items/a%2Fb")
    yield "kept after login", browser.kept()
    yield "logout", browser.visit(f"{script}/logout")
    yield "kept at the end", browser.kept()
    yield "not found", browser.visit("/nowhere")


def tomcat():
    browser = Browser()
    yield "first page", browser.visit("/shop/shop.jsp")
    yield "add by a link", browser.visit(browser.link("a pen"))
    yield "add by a form", browser.post("shop.jsp?do=add", data={"item": "book"})
    yield "upload", browser.post("shop.jsp?do=upload", files={"file": ("list.txt", FILE)})
    yield "refresh", browser.visit("shop.jsp?do=later")
    yield "folder without a slash", browser.visit("/shop")
    yield "account, unknown", browser.visit("/shop/account")
    yield "account, login", browser.post(browser.action(), data={"j_username": "ali", "j_password": "open sesame"})
    yield "kept", browser.kept()
    yield "leave", browser.visit("/shop/shop.jsp?do=leave")
    yield "account, after all", browser.visit("/shop/account/")
    # The session is in the URL, and only there.
    browser = Browser(cookies=False)
    yield "without cookies", browser.visit("/shop/shop.jsp")
    yield "without cookies, add by a link", browser.visit(browser.link("a pen"))
    yield "without cookies, add by another link", browser.visit(browser.link("a pen"))
    yield "without cookies, post", browser.post(browser.action(), data={"do": "add", "item": "book"})
    yield "without cookies, refresh", browser.post(browser.action(), data={"do": "later"})
    yield "without cookies, kept", browser.kept()


def php():
    browser = Browser()
    yield "login first", browser.visit("/")
    yield "login", browser.post(browser.action(), data={"user": "ali"})
    yield "form with a file", browser.post(browser.link("Upload"), data={"note": "für dich"}, files={"file": ("a.bin", FILE)})
    yield "upload", browser.visit("/upload.php", "PUT", content=FILE)
    yield "post without a body", browser.post("/upload.php")
    yield "kept", browser.kept()
    yield "logout", browser.visit("/logout.php")
    yield "login again", browser.visit("/index.php")
    yield "kept at the end", browser.kept()


def nginx():
    """The same before PHP, and a page that insists on https."""
    yield from php()
    browser = Browser()
    yield "secure", browser.visit("/secure.php")
    yield "secure, again", browser.visit("/secure.php")


def wsgi():
    browser = Browser()
    yield "start", browser.visit("/")
    yield "login", browser.post("/login", data={"user": "ali"})
    yield "upload", browser.post("/upload", content=FILE)
    yield "upload, sent again", browser.post("/again", content=FILE)
    yield "put", browser.visit("/upload", "PUT", content=FILE)
    yield "kept", browser.kept()
    yield "upload without a length", browser.post("/upload", content=pieces())


def node():
    browser = Browser()
    yield "application without a slash", browser.visit("/app")
    yield "login", browser.post("/app/login", data={"user": "ali"})
    yield "another path", browser.visit("/")
    yield "relative redirect", browser.visit("/app/settings")
    yield "upload", browser.post("/app/upload", content=FILE)
    yield "upload without a length", browser.post("/app/upload", content=pieces())
    yield "patch without a length", browser.visit("/app/upload", "PATCH", content=pieces())
    yield "post without a body", browser.post("/app/upload")
    yield "answer in pieces", browser.visit("/app/pieces")
    yield "item", browser.visit("/app/item")
    yield "escapes", browser.visit("/app/a%2Bb%40c%7Ed")
    yield "kept", browser.kept()


print(json.dumps(list(globals()[sys.argv[1]]())))
