"""Authlib's session, with both ways to send a secret."""

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session

from surroundings import CLIENT_ID, CLIENT_SECRET, ORIGIN, tell


def session(method, secret=CLIENT_SECRET):
    return OAuth2Session(CLIENT_ID, secret, scope="read:data", token_endpoint_auth_method=method)


def data(method):
    client = session(method)
    token = client.fetch_token(f"{ORIGIN}/oauth/token", grant_type="client_credentials")
    return [token["scope"], client.get(f"{ORIGIN}/data").status_code]


def refusal(method):
    try:
        session(method, "not the secret").fetch_token(f"{ORIGIN}/oauth/token", grant_type="client_credentials")
    except OAuthError as error:
        return error.error
    return None


tell(
    basic=data("client_secret_basic"),
    post=data("client_secret_post"),
    refused=[refusal("client_secret_basic"), refusal("client_secret_post")],
)
