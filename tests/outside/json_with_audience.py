"""The token request that services coming from a hosted identity provider send: an audience, no scope."""

import requests

from surroundings import AUDIENCE, CLIENT_ID, CLIENT_SECRET, ORIGIN, tell

body = {
    "client_id": CLIENT_ID,
    "client_secret": CLIENT_SECRET,
    "audience": AUDIENCE,
    "grant_type": "client_credentials",
}
answer = requests.post(f"{ORIGIN}/oauth/token", json=body, headers={"content-type": "application/json"}, timeout=20)
granted = answer.json()
data = requests.get(
    f"{ORIGIN}/data",
    headers={"Authorization": f"{granted['token_type']} {granted['access_token']}"},
    timeout=20,
)
tell(
    status=answer.status_code,
    members=sorted(granted),
    token_type=granted["token_type"],
    expires_in=granted["expires_in"],
    scope=granted["scope"],
    data=data.status_code,
)
