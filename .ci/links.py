#!/usr/bin/env python3
"""Relative links of the Markdown pages: each leads to a file that exists, and its anchor to a heading of that file."""

import pathlib
import re
import subprocess
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
NAMED = re.compile(r'<a id="([^"]+)"')


def main():
    pages = subprocess.run(["git", "ls-files", "*.md"], check=True, capture_output=True, text=True).stdout.split()
    broken = [problem for page in pages for problem in problems(pathlib.Path(page))]
    print("\n".join(broken) if broken else f"{len(pages)} pages: every relative link leads somewhere")
    sys.exit(1 if broken else 0)


def problems(page):
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page if not path else page.parent / path
        if not file.exists():
            yield f"{page}: {target}: there is no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield f"{page}: {target}: there is no such heading"


def anchors(text):
    """As hosts of repositories make them: lower case, punctuation dropped, spaces as hyphens."""
    found = set(NAMED.findall(text))
    for heading in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower().replace(" ", "-")
        count = sum(1 for anchor in found if anchor == plain or re.fullmatch(re.escape(plain) + r"-\d+", anchor))
        found.add(plain if not count else f"{plain}-{count}")
    return found


if __name__ == "__main__":
    main()
