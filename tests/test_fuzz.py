"""Fuzzing by the API's description: every answer is one that it describes, and none is a 5xx."""

import json
import os
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error, response_schema_conformance, status_code_conformance

from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer
from tests.support.tokens import bearer, mint

pytestmark = pytest.mark.alone  # its tests share names, so they must run in one process

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
TIMES = 15 if os.environ.get("HOLDFAST_TORTURE") == "long" else 1
"""About 3,000 requests in all, or 50,000."""
QUIETLY = {"deadline": None, "suppress_health_check": list(HealthCheck)}
schema = schemathesis.openapi.from_dict(json.loads((PROJECT / "openapi.json").read_text()))
answered = schema.exclude(operation_id="stream_events").exclude(operation_id="save_small")
"""All but a stream without an end, and a body that is no JSON but a line of it before bytes, which has its own test."""


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory):
    """A server with something in it, whose log is looked at afterwards."""
    root = Path(tmp_path_factory.mktemp("fuzzed")) / "root"
    with LiveServer(root, max_json_bytes="100000", undo_window="1h") as live:
        live.tokens = {
            "full": bearer(mint(root, "admin")),
            "low": bearer(mint(root, "read", "write", prefix="runs/a")),
        }
        for directory in ("runs/a", "runs/b"):
            for epoch in range(3):
                query = {"directory": directory, "epoch": epoch, "metric": epoch, "metadata": '{"accuracy": 0.5}'}
                saved = live.http.post("/v1/checkpoints", params=query, content=bytes(100), headers=live.tokens["full"])
                saved.raise_for_status()
        yield live
        assert live.http.get("/health/ready").status_code == 200
        assert "Traceback" not in live.log()
        names = {found["directory"] for found in theirs(live)}
        assert "runs/b" in names
        assert not {found["directory"] for found in theirs(live, "low")} - {n for n in names if n.startswith("runs/a")}


def theirs(live, who="full"):
    answer = live.http.get("/v1/directories?page_size=1000", headers=live.tokens[who])
    return answer.json()["directories"]


@answered.parametrize()
@settings(max_examples=20 * TIMES, **QUIETLY)
def test_no_request_of_an_admin_is_a_server_error(case, fuzzed):
    case.call_and_validate(base_url=fuzzed.url, checks=CHECKS, timeout=DEADLINE_S, headers=fuzzed.tokens["full"])


@answered.parametrize()
@settings(max_examples=14 * TIMES, **QUIETLY)
def test_no_request_of_a_token_with_few_rights_is_a_server_error(case, fuzzed):
    case.call_and_validate(base_url=fuzzed.url, checks=CHECKS, timeout=DEADLINE_S, headers=fuzzed.tokens["low"])


reservations = schema.include(operation_id="reserve_upload")


@reservations.parametrize()
@settings(max_examples=40 * TIMES, **QUIETLY)
def test_no_small_save_is_a_server_error(case, fuzzed):
    """The description of a reservation, as the line before the bytes of a small save."""
    body = json.dumps(case.body if isinstance(case.body, dict) else {"made up": str(case.body)}).encode()
    headers = {"Content-Type": "application/vnd.holdfast.save"}
    for who in fuzzed.tokens.values():
        answer = fuzzed.http.post("/v1/saves", content=body + b"\n" + bytes(5), headers=headers | who)
        assert answer.status_code < 500 or answer.status_code == 507, answer.text


@pytest.mark.parametrize("who", ["full", "low"])
def test_what_one_answer_names_the_next_request_uses(who, fuzzed):
    class Workflow(answered.as_state_machine()):
        def get_call_kwargs(self, case):
            return {"base_url": fuzzed.url, "headers": fuzzed.tokens[who], "timeout": 30}

        def validate_response(self, response, case, additional_checks=(), **kwargs):
            case.validate_response(response, checks=CHECKS)

    Workflow.run(settings=settings(max_examples=25 * TIMES, stateful_step_count=10, **QUIETLY))
