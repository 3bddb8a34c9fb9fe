"""Permissions of pages and forms, sign-in redirects and error pages."""

import httpx
import pytest

from tests.app.dashboard.signed_in import HTML, Browser, save

READING = ("/", "/directories/{0}", "/checkpoints/{1}", "/series/{0}", "/names", "/previews/{0}")
CHANGING = {
    "/checkpoints/{1}/pin": "write",
    "/checkpoints/{1}/tags": "write",
    "/checkpoints/{2}/restore": "write",
    "/checkpoints/{1}/delete": "delete",
    "/prunings/{0}": "delete",
    "/policies/{0}": "admin",
}


@pytest.mark.parametrize("scope", ["read", "write", "delete", "admin"])
@pytest.mark.parametrize("prefix", ["", "team", "team/a", "team/ab"])
def test_pages_and_forms_go_by_scope_and_prefix(live, place, scope, prefix):
    reaches = prefix != "team/ab"
    with Browser(live, scope, prefix=prefix) as browser:
        for address in READING:
            may = scope in {"read", "admin"}
            named = "{" in address
            status = 403 if not may and (reaches or not named) else 404 if named and not reaches else 200
            answer = browser.get(address.format(*place))
            assert answer.status_code == status, address
            if not reaches:
                assert "live.pt" not in answer.text
        for address, needed in CHANGING.items():
            if scope not in {"admin", needed}:
                answer = browser.send_form(address.format(*place))
                assert answer.status_code == (403 if reaches else 404), address
            elif not reaches:
                assert browser.send_form(address.format(*place)).status_code == 404, address


def test_pages_offer_only_actions_of_the_token(live, place):
    directory = place[0]
    with Browser(live, "read") as browser:
        page = browser.get(f"/directories/{directory}").text
        assert "/pin" not in page
        assert "/delete" not in page
        assert "data-apply" not in page


def test_without_a_session_every_page_asks_to_sign_in_and_leads_back(live, place):
    with httpx.Client(base_url=live.url, headers=HTML) as visitor:
        for address in READING[1:]:
            path = address.format(*place)
            answer = visitor.get(path, params={"q": "a b"})
            assert answer.status_code == 303
            asked = httpx.URL(answer.headers["location"])
            assert asked.params["to"] == f"{path}?q=a+b"
        for address in CHANGING:
            assert visitor.post(address.format(*place)).headers["location"] == "/sign-in?to=/"
            assert visitor.post(address.format(*place), headers={"Accept": "*/*"}).status_code == 401


def test_refusals_are_pages_for_people_and_problems_for_programs(admin):
    answer = admin.get("/directories/no/such")
    assert answer.status_code == 404
    assert "There is no directory" in answer.text
    assert "directory_not_found" in answer.text
    assert admin.get("/directories/no/such", headers={"Accept": "*/*"}).json()["code"] == "directory_not_found"
    assert admin.get("/directories/a//b").status_code == 422


@pytest.mark.parametrize("ask", ["get", "post"])
def test_so_are_those_of_addresses_that_do_not_exist(admin, ask):
    answer = getattr(admin, ask)("/no/such/page")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "not_found" in answer.text
    answer = getattr(admin, ask)("/no/such/page", headers={"Accept": "*/*"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert getattr(admin, ask)("/v1/no/such").json()["code"] == "unauthorized"  # browsers have no token for the API


def test_so_is_a_wrong_method(admin):
    answer = admin.post("/storage")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert "method_not_allowed" in answer.text
    answer = admin.get("/?q=" + "x" * 2000)
    assert answer.status_code == 422
    assert "q must have at most 1000 characters" in answer.text


def test_nothing_is_compared_with_what_is_out_of_reach(live, place):
    other = save(live, "team/ab", name="secret.pt")
    with Browser(live, "read", prefix="team/a") as browser:
        for query in ({"against": other["id"]}, {"path": "team/ab/secret.pt"}):
            answer = browser.get(f"/checkpoints/{place[1]}/comparison", params=query)
            assert answer.status_code == 404
            assert "secret.pt" not in answer.text.replace("team/ab/secret.pt", "")
