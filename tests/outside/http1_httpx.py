"""httpx: all cases over one client."""

import ssl

import httpx
from http1_cases import CASES, interest, pieces

from surroundings import CA, ORIGIN, tell


def ask(client, method, path, headers, body):
    content = pieces() if body == "pieces" else body
    answer = client.request(method, ORIGIN + path, headers=headers, content=content)
    return interest(answer.status_code, answer.headers.get_list, answer.content)


with httpx.Client(verify=ssl.create_default_context(cafile=CA), timeout=20) as client:
    found = {name: ask(client, *case) for name, case in CASES.items()}
    found["version"] = client.get(f"{ORIGIN}/plain").http_version
    found["zipped"] = client.get(f"{ORIGIN}/gzip").text == "hello" * 1000
    found["followed"] = client.get(f"{ORIGIN}/moved", follow_redirects=True).text
tell(**found)
