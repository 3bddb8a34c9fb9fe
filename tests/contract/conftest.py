"""The real client against the real server."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from holdfast import CheckpointManager
from holdfast.cli import main
from tests.support.live import LiveServer
from tests.support.tokens import mint


@pytest.fixture
def make_manager(server: LiveServer, directory: str) -> Callable[..., CheckpointManager]:
    """Makes managers of the test's own directory."""

    def make(*arguments: Any, **options: Any) -> CheckpointManager:
        return CheckpointManager(options.pop("checkpoint_dir", directory), *arguments, server=server.url, **options)

    return make


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that needs a token, and keeps removed bytes for a while."""
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root", undo_window="3600") as live:
        live.save("team/runs", epoch=1, metric=0.5)
        mint(live.root, "admin")
        yield live


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
