"""Authlib's rules for the metadata of an authorization server and of an OpenID provider."""

import requests
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata, get_well_known_url
from authlib.oidc.discovery import OpenIDProviderMetadata
from authlib.oidc.discovery import get_well_known_url as get_openid_url

from surroundings import CASES, tell


def fault(kind, url):
    metadata = kind(requests.get(url, timeout=10).json())
    try:
        metadata.validate()
    except ValueError as error:
        return str(error)
    return None


found = {}
for case in CASES:
    url = get_well_known_url(case["issuer"], external=True)
    openid_url = get_openid_url(case["issuer"], external=True)
    found[case["algorithm"]] = [fault(AuthorizationServerMetadata, url), fault(OpenIDProviderMetadata, openid_url)]
tell(**found)
