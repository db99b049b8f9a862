"""A script as people write them: JSON to the token endpoint, then a call, in four cases."""

import requests

from surroundings import CLIENT_ID, CLIENT_SECRET, ORIGIN, tell


def attempt(secret, scope):
    body = {"client_id": CLIENT_ID, "client_secret": secret, "scope": scope}
    answer = requests.post(f"{ORIGIN}/oauth/token", json=body, timeout=20)
    if answer.status_code != 200:
        return [answer.status_code, answer.json()["error"]]
    token = answer.json()["access_token"]
    data = requests.get(f"{ORIGIN}/data", headers={"Authorization": f"Bearer {token}"}, timeout=20)
    return [data.status_code, data.text]


tell(
    granted=attempt(CLIENT_SECRET, "read:data"),
    wrong_secret=attempt("not the secret", "read:data"),
    scope_not_allowed=attempt(CLIENT_SECRET, "read:data admin:all"),
    no_token=[requests.get(f"{ORIGIN}/data", timeout=20).status_code],
)
