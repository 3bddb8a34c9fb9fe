"""What the command refuses, in one line and with a status that scripts can use."""

import os
import subprocess
import sys

import pytest

import app
from tests.live import PROJECT


def run(*arguments, **environment):
    command = [sys.executable, "-m", "app", *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"HOLDFAST_PORT": "many"}, "HOLDFAST_PORT", id="a port that is no number"),
        pytest.param({"HOLDFAST_ALLOWED_HOSTS": "[foo"}, "ALLOWED_HOSTS", id="hosts that are no list"),
        pytest.param({"HOLDFAST_DATABASE_URL": "postgresql://x/y"}, "postgresql", id="another database"),
        pytest.param({"HOLDFAST_DATABASE_URL": "nonsense"}, "database", id="no URL"),
        pytest.param({"HOLDFAST_DATABASE_URL": "sqlite:////nowhere/x.db"}, "nowhere", id="a database out of reach"),
        pytest.param({"HOLDFAST_HOST": "0.0.0.0"}, "HOLDFAST_TOKEN", id="open to all without a token"),
        pytest.param({"HOLDFAST_ROOT": "/dev/null"}, "/dev/null", id="a root that is a file"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_words(tmp_path, environment, said):
    done = run("serve", **{"HOLDFAST_ROOT": str(tmp_path / "root"), "HOLDFAST_PORT": "0", **environment})
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_version_is_told():
    assert run("--version").stdout.strip() == app.__version__


def test_every_command_explains_itself():
    assert {"serve", "reindex", "openapi"} <= set(run("--help").stdout.replace(",", " ").split())
    assert "--root" in run("serve", "--help").stdout


def test_the_token_cannot_be_given_where_others_see_it():
    assert "--token " not in run("serve", "--help").stdout
