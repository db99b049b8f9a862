"""requests: all cases over one session."""

import requests
from http1_cases import CASES, interest, pieces

from surroundings import ORIGIN, tell


def ask(session, method, path, headers, body):
    data = pieces() if body == "pieces" else body
    answer = session.request(method, ORIGIN + path, headers=headers, data=data, allow_redirects=False, timeout=20)
    return interest(answer.status_code, lambda name: answer.raw.headers.getlist(name), answer.content)


with requests.Session() as session:
    found = {name: ask(session, *case) for name, case in CASES.items()}
    found["zipped"] = session.get(f"{ORIGIN}/gzip", timeout=20).text == "hello" * 1000
    found["followed"] = session.get(f"{ORIGIN}/moved", timeout=20).text
tell(**found)
