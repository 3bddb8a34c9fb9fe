"""Pages of a list, and page tokens."""

import base64
import json

import pytest


def get(server, what, **query):
    return server.http.get(f"/v1/{what}", params=query)


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def numbered(names):
    """Return the epochs in generated names."""
    return [int(name.removesuffix(".pt").rpartition("_")[2]) for name in names]


@pytest.fixture(scope="module")
def varied(server):
    """A directory of eleven checkpoints, with equal and missing values of every kind."""
    for number in range(11):
        facts = {"epoch": number % 3} if number % 4 else {}
        facts |= {"metric": number % 2} if number % 3 else {"is_best": True}
        server.save("finding/varied", b"x" * (number % 5 + 1), name=f"{number}.pt", **facts)
    return "finding/varied"


@pytest.mark.parametrize("size", [1, 4, 11])
@pytest.mark.parametrize(
    "order",
    ["position", "-position", "best", "epoch", "-epoch", "metric", "-metric", "name", "-name", "size_bytes"],
)
def test_pages_add_up_to_the_whole_list(server, varied, order, size):
    names, token = [], {}
    while token is not None:
        page = get(server, "checkpoints", directory=varied, order_by=order, page_size=size, **token).json()
        assert 0 < len(page["checkpoints"]) <= size
        names += [checkpoint["name"] for checkpoint in page["checkpoints"]]
        token = {"page_token": page["next_page_token"]} if page["next_page_token"] else None
    assert names == server.names(varied, order_by=order)
    assert len(set(names)) == 11


def test_pages_are_stable_while_checkpoints_come_and_go(server, directory):
    saved = [server.save(directory, epoch=epoch) for epoch in range(6)]
    page = get(server, "checkpoints", directory=directory, page_size=3).json()
    server.http.delete(f"/v1/checkpoints/{saved[2]['id']}").raise_for_status()
    server.save(directory, epoch=6)
    assert numbered(server.names(directory, page_token=page["next_page_token"])) == [3, 4, 5, 6]


def token_of(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("x", id="not base64"),
        pytest.param("é", id="not ascii"),
        pytest.param("AAAA", id="not json"),
        pytest.param("", id="empty"),
        pytest.param(token_of(7), id="a number"),
        pytest.param(token_of([["directories", ""], [1]]), id="of another listing"),
    ],
)
def test_a_damaged_page_token_is_refused(server, varied, token):
    assert refusal(get(server, "checkpoints", directory=varied, page_token=token)) == (422, "invalid_request")


@pytest.mark.parametrize(
    "key",
    [
        pytest.param([1], id="too short"),
        pytest.param([], id="empty"),
        pytest.param(["a", "b", "c", "d"], id="too long"),
        pytest.param([2**70, 1], id="a number beyond SQL"),
        pytest.param([None, {}], id="no values"),
        pytest.param(5, id="no list"),
        pytest.param(["\ud800", 1], id="no text"),
        pytest.param(["a\0", 1], id="a text with NUL"),
    ],
)
def test_a_page_token_of_our_shape_with_another_key_is_refused(server, varied, key):
    token = token_of([[varied, "position", "min", None], key])
    assert refusal(get(server, "checkpoints", directory=varied, page_token=token)) == (422, "invalid_request")
