"""Whatever the API's description allows, and much that it does not, is answered; never with a 5xx."""

import json
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error, response_schema_conformance, status_code_conformance

from tests.live import PROJECT, LiveServer

CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
schema = schemathesis.openapi.from_dict(json.loads((PROJECT / "openapi.json").read_text()))


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory):
    """A server with something in it, whose log is looked at afterwards."""
    with LiveServer(Path(tmp_path_factory.mktemp("fuzzed")) / "root", max_json_bytes="100000") as live:
        for epoch in range(3):
            live.save("runs/a", bytes(100), epoch=epoch, metric=epoch, metadata='{"accuracy": 0.5}')
        yield live
        assert live.http.get("/health/ready").status_code == 200
        assert "Traceback" not in live.log()


@schema.exclude(operation_id="stream_events").parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_is_a_server_error(case, fuzzed):
    case.call_and_validate(base_url=fuzzed.url, checks=CHECKS, timeout=30)
