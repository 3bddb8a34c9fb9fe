"""Moves files with MLflow's own client and says how long each took. Runs in MLflow's environment, without ours.

Run as ``python -P mlflow_client.py URL``. It answers first with MLflow's version, then each line of its input, a list
in JSON: ``["upload", path, folder of the artifact]`` or ``["download", path of the artifact, to]``. The answer is a
list, too: how many seconds it took, and what MLflow gave.
"""

import json
import os
import sys
import time

import mlflow  # type: ignore[import-not-found, unused-ignore]


def main(url: str) -> None:
    """Answer every line of the input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other output of MLflow must not look like an answer
    client = mlflow.MlflowClient(url)
    run = client.create_run(client.create_experiment("benchmark")).info.run_id
    print(json.dumps(mlflow.__version__), file=answers, flush=True)
    for line in sys.stdin:
        verb, what, where = json.loads(line)
        move = {"upload": client.log_artifact, "download": client.download_artifacts}[verb]
        started = time.perf_counter()
        given = move(run, what, where)
        print(json.dumps([time.perf_counter() - started, given]), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
