"""requests-oauthlib's session for programs without users."""

from oauthlib.oauth2 import BackendApplicationClient, InvalidScopeError
from requests_oauthlib import OAuth2Session

from surroundings import CLIENT_ID, CLIENT_SECRET, ORIGIN, tell


def session(scope):
    client = OAuth2Session(client=BackendApplicationClient(client_id=CLIENT_ID, scope=scope))
    token = client.fetch_token(f"{ORIGIN}/oauth/token", client_id=CLIENT_ID, client_secret=CLIENT_SECRET)
    return client, token


client, token = session(["read:data"])
try:
    session(["admin:all"])
    refused = None
except InvalidScopeError as error:
    refused = error.error
tell(scope=token["scope"], data=client.get(f"{ORIGIN}/data").status_code, refused=refused)
