"""What the test gives each program, in its environment."""

import json
import os

ORIGIN = os.environ["ORIGIN"]
CA = os.environ["CA"]
CLIENT_ID = os.environ["CLIENT_ID"]
CLIENT_SECRET = os.environ["CLIENT_SECRET"]
TOKEN = os.environ.get("TOKEN", "")
AUDIENCE = "https://api.example.com"
# Gateways of one signing algorithm each, and a token of each.
CASES = json.loads(os.environ.get("CASES", "[]"))


def tell(**found):
    """What was found, for the test to judge."""
    print(json.dumps(found))


def changed(token):
    """The token with another signature."""
    head, body, signature = token.split(".")
    return f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def tell_of_each(verify, refusal):
    """For each algorithm: the subject of its token, and the name of the error for a changed signature."""
    found = {}
    for case in CASES:
        try:
            subject = verify(case, case["token"])
            verify(case, changed(case["token"]))
            found[case["algorithm"]] = [subject, None]
        except refusal as error:
            found[case["algorithm"]] = [subject, type(error).__name__]
    tell(**found)
