"""The digits example trains while its server is killed and started again: it ends as if nothing had happened."""

import os
import signal
import subprocess
import sys

from tests.crash.harness.rounds import rounds
from tests.support.live import PROJECT, LiveServer, eventually

DIRECTORY = "runs/digits"
RESTARTS = rounds(20, 200)
LONG = 2
"""One of so many restarts is so long that the training continues without the server."""
FACTS = ("name", "epoch", "metric", "metadata", "digest", "kind", "is_best", "pinned")


def trainer(server: LiveServer, epochs: int) -> "subprocess.Popen[str]":
    """The example, as a user runs it."""
    command = [sys.executable, "examples/train_digits.py", DIRECTORY, "--epochs", str(epochs)]
    environment = {**os.environ, "HOLDFAST_URL": server.url, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)


def answers(server: LiveServer) -> dict[str, object]:
    """Return the answers about the directory at the end."""

    def facts(checkpoint):
        return {name: checkpoint[name] for name in FACTS}

    def get(path, **query):
        return server.http.get(f"/v1/checkpoints{path}", params={"directory": DIRECTORY, **query}).json()

    return {
        "retained": [facts(found) for found in get("")["checkpoints"]],
        "ranked": server.names(DIRECTORY, order_by="best"),
        "best": facts(get("/best")),
        "latest": facts(get("/latest")),
        "all": sorted(found["epoch"] for found in get("", include_removed=True, page_size=1000)["checkpoints"]),
    }


def test_twenty_restarts_change_nothing_about_the_end_of_a_training_run(tmp_path, spool):
    epochs = 2 * RESTARTS + 4
    with LiveServer(tmp_path / "quiet") as quiet:
        undisturbed = trainer(quiet, epochs)
        undisturbed.communicate()
        assert undisturbed.returncode == 0
        expected = answers(quiet)
    with LiveServer(tmp_path / "restless") as server, trainer(server, epochs) as training:
        lines = []

        def go_on(count):
            """Let so many epochs end, and stop in the next one."""
            training.send_signal(signal.SIGCONT)
            lines.extend(training.stdout.readline() for _ in range(count))
            training.send_signal(signal.SIGSTOP)

        for number in range(RESTARTS):
            go_on(1)
            server.kill()
            if number % (RESTARTS // LONG) == 1:  # until a save has gone to the spool, and one behind it
                go_on(2)
            training.send_signal(signal.SIGCONT)
            server.start()
        lines += training.stdout.readlines()
        assert training.wait() == 0
        assert [line.split()[:2] for line in lines] == [["epoch", str(epoch)] for epoch in range(epochs)]
        delivered = [sys.executable, "-m", "holdfast.cli", "sync"]
        assert eventually(lambda: subprocess.run(delivered, check=False, stdout=subprocess.DEVNULL).returncode == 0)
        assert answers(server) == expected
        assert expected["all"] == list(range(epochs))
        assert not list(spool.glob("*/*-*-*/"))
