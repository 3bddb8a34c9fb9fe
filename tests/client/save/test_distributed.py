"""Ranks of a job: one process saves, and the others guess the results of its saves."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from holdfast._api.directory import Best
from holdfast._api.wire import Checkpoint
from holdfast._save.distributed import NonZeroRank, rank_of_process

NAME = "best_epoch_0007.pt"


@pytest.mark.parametrize(
    ("given", "environment", "rank"),
    [
        pytest.param(None, {}, 0, id="a process of its own"),
        pytest.param(2, {}, 2, id="given"),
        pytest.param(0, {"RANK": "3", "WORLD_SIZE": "4"}, 0, id="given is stronger"),
        pytest.param(None, {"RANK": "3", "WORLD_SIZE": "4"}, 3, id="as torchrun sets it"),
        pytest.param(None, {"RANK": "3"}, 0, id="a rank without a size"),
        pytest.param(None, {"RANK": "3", "WORLD_SIZE": "1"}, 0, id="a job of one"),
        pytest.param(None, {"WORLD_SIZE": "4"}, 0, id="a size without a rank"),
        pytest.param(None, {"RANK": "", "WORLD_SIZE": "4"}, 0, id="an empty rank"),
        pytest.param(None, {"RANK": "-1", "WORLD_SIZE": "4"}, 0, id="a negative rank"),
        pytest.param(None, {"RANK": "first", "WORLD_SIZE": "4"}, 0, id="no number"),
        pytest.param(None, {"RANK": "1", "WORLD_SIZE": "many"}, 0, id="no size"),
    ],
)
def test_the_rank_is_what_was_given_or_what_the_environment_says(given, environment, rank):
    assert rank_of_process(given, environment) == rank


def best(metric, mode="min", name="checkpoint_epoch_0001.pt", id="1"):
    """Make the best checkpoint that the server holds."""
    created_at = datetime(2026, 1, 1, tzinfo=UTC)
    checkpoint = Checkpoint(id, "a", name, "best", 1, 1, None, metric, False, False, (), {}, 1, "", created_at)
    return Best(checkpoint, mode)


@pytest.mark.parametrize(
    ("metric", "held", "improves"),
    [
        pytest.param(0.5, None, True, id="nothing is there"),
        pytest.param(0.5, best(None), True, id="only a flagged one is there"),
        pytest.param(0.4, best(0.5), True, id="smaller"),
        pytest.param(0.6, best(0.5), False, id="not smaller"),
        pytest.param(0.6, best(0.5, "max"), True, id="larger"),
        pytest.param(0.4, best(0.5, "max"), False, id="not larger"),
        pytest.param(0.5, best(0.5), False, id="the same of another"),
        pytest.param(0.5, best(0.5, name=NAME), True, id="the very one that is asked about"),
        pytest.param(0.6, best(0.5, name=NAME), False, id="an earlier one of that name, which was better"),
    ],
)
def test_whether_rank_0_saves_is_guessed_from_what_the_server_holds(metric, held, improves):
    assert NonZeroRank().improves(metric, held, NAME) is improves


def test_without_a_name_a_best_with_this_metric_counts_the_first_time_it_is_seen():
    rank, held = NonZeroRank(), best(0.5)
    assert rank.improves(0.5, held, None)
    assert not rank.improves(0.5, held, None)
    assert rank.improves(0.5, held._replace(checkpoint=replace(held.checkpoint, id="2")), None)
