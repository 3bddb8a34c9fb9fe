"""A signed-in browser, and saves with an admin token."""

from urllib.parse import urlencode

import httpx

from tests.support.deadlines import DEADLINE_S
from tests.support.tokens import mint

HTML = {"Accept": "text/html"}


class Browser(httpx.Client):
    """A browser that is signed in with a token of the given scopes."""

    def __init__(self, live, *scopes, prefix=""):
        super().__init__(base_url=live.url, headers=HTML, timeout=DEADLINE_S)
        self.token = mint(live.root, *scopes, prefix=prefix)

    def __enter__(self):
        super().__enter__()
        self.send_form("/sign-in", token=self.token)
        return self

    def send_form(self, address, **fields):
        return self.post(address, content=urlencode(fields))


def save(live, directory, **query):
    answer = live.http.post(
        "/v1/checkpoints", params={"directory": directory, **query}, content=b"bytes", headers=live.admin
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def facts(live, saved):
    return live.http.get(f"/v1/checkpoints/{saved['id']}", headers=live.admin).json()
