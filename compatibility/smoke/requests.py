"""A request built and prepared, and a response of an adapter of its own; no network."""

import requests
from requests.adapters import BaseAdapter


class Canned(BaseAdapter):
    def send(self, request, **options):
        response = requests.Response()
        response.status_code = 200
        response.url = request.url
        response.headers["Content-Type"] = "application/json"
        response._content = b'{"ok": true}'
        return response

    def close(self):
        pass


session = requests.Session()
session.trust_env = False
session.mount("canned://", Canned())
request = requests.Request(
    "POST", "https://example.org/a", params={"q": "x y"}, json={"n": 1}, auth=("me", "word")
)
prepared = session.prepare_request(request)
all(
    (
        prepared.url == "https://example.org/a?q=x+y",
        prepared.body == b'{"n": 1}',
        prepared.headers["Authorization"].startswith("Basic "),
        session.get("canned://host/").json() == {"ok": True},
    )
)
