"""What the test gives each program, in its environment."""

import json
import os

ORIGIN = os.environ["ORIGIN"]
CA = os.environ["CA"]
CLIENT_ID = os.environ["CLIENT_ID"]
CLIENT_SECRET = os.environ["CLIENT_SECRET"]
TOKEN = os.environ.get("TOKEN", "")
AUDIENCE = "https://api.example.com"


def tell(**found):
    """What was found, for the test to judge."""
    print(json.dumps(found))
