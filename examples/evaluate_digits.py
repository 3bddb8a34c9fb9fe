"""Fetch the best and the latest checkpoint of a directory, load them into a model, and say how good they are.

Run it as ``python examples/evaluate_digits.py runs/digits``.
"""

import argparse
import os
from typing import Any

import digits
import httpx

from holdfast import CheckpointManager

URL = os.environ.get("HOLDFAST_URL", "http://127.0.0.1:8420")


def accuracy(state: dict[str, Any]) -> float:
    network = digits.model()
    network.load_state_dict(state["model"])
    return digits.judge(network, digits.data()[1])[1]


def evaluate(checkpoint_dir: str) -> None:
    manager = CheckpointManager(checkpoint_dir)
    best, latest = manager.load_best(), manager.load_latest()
    if best is None or latest is None:
        raise SystemExit(f"{checkpoint_dir} holds no checkpoint")

    answer = httpx.post(f"{URL}/v1/prune", json={"directory": checkpoint_dir, "dry_run": True}).raise_for_status()
    print(f"\n{'checkpoint':<28}{'loss':>8}{'accuracy':>10}  kept because")
    for verdict in reversed(answer.json()["directories"][0]["verdicts"]):
        found = verdict["checkpoint"]
        reasons = ", ".join(reason["text"] for reason in verdict["reasons"])
        print(f"{found['name']:<28}{found['metric']:>8.4f}{found['metadata']['accuracy']:>10.4f}  {reasons}")

    root = httpx.get(f"{URL}/v1/info").raise_for_status().json()["root"]
    print(f"\nbest metric         {manager.get_best_metric():.4f} (epoch {best['epoch']})")
    print(f"accuracy of best    {accuracy(best):.4f}, loaded and judged in this process")
    print(f"accuracy of latest  {accuracy(latest):.4f} (epoch {latest['epoch']})")
    print(f"the files           {root}/{checkpoint_dir}")
    print(f"API documentation   {URL}/docs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint_dir")
    evaluate(parser.parse_args().checkpoint_dir)
