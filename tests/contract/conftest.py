"""The real client against the real server."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import CheckpointManager
from holdfast.cli import main
from tests.live import LiveServer


@pytest.fixture
def make_manager(server: LiveServer, directory: str) -> Callable[..., CheckpointManager]:
    """Makes managers of the test's own directory."""

    def make(*arguments: Any, **options: Any) -> CheckpointManager:
        return CheckpointManager(options.pop("checkpoint_dir", directory), *arguments, server=server.url, **options)

    return make


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    status: int
    raw: bytes
    complaints: str

    @property
    def said(self) -> str:
        return self.raw.decode()

    @property
    def rows(self) -> list[list[str]]:
        """The columns of each line."""
        return [line.split("\t") for line in self.said.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.said)


@pytest.fixture
def holdfast(
    server: LiveServer, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Callable[..., Done]:
    """Runs the command ``holdfast`` in this process, as in a pipe."""
    monkeypatch.setenv("HOLDFAST_URL", server.url)

    def run(*arguments: object) -> Done:
        capsysbinary.readouterr()
        status = main([str(argument) for argument in arguments])
        found = capsysbinary.readouterr()
        return Done(status, found.out, found.err.decode())

    return run
