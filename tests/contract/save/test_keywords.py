"""Keywords of a save: parameters, metadata, and misspelt parameters, which are kept with a warning."""

import warnings

import pytest

from holdfast import CheckpointManager, HoldfastWarning
from tests.support.commands import piped


def warned(save, *arguments, **keywords):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save(*arguments, **keywords)
    return [str(each.message) for each in caught if issubclass(each.category, HoldfastWarning)]


def test_tags_and_pinned_are_facts(make_manager, server):
    manager = make_manager()
    manager.save({}, epoch=1, loss=0.5, tags=["a", "b"], pinned=True)
    manager.save_best_if_improved({}, 0.4, 2, tags="c", pinned=True, name="champion.pt")
    first, best = manager.checkpoints[0], manager.best_checkpoints[0]
    assert (first["tags"], first["pinned"], first["metadata"]) == (["a", "b"], True, {"loss": 0.5})
    assert (best["tags"], best["pinned"], best["path"].name) == (["c"], True, "champion.pt")


def test_a_save_is_called_as_it_says(make_manager, directory):
    manager = make_manager()
    path = manager.save({"n": 1}, epoch=3, name="last.pt")
    assert path == manager.checkpoint_dir / "last.pt"
    manager.save({"n": 2}, epoch=4, name="last.pt")
    assert manager.load("last.pt") == {"n": 2}
    assert [found["epoch"] for found in manager.checkpoints] == [4]


def test_facts_wait_with_their_checkpoint_while_the_server_is_away(own_server):
    manager = CheckpointManager("runs/a", server=own_server.url, patience_s=0.1)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match="kept in"):
        manager.save({}, epoch=1, tags=["a"], pinned=True, name="x.pt")
    own_server.start()
    manager.close(timeout_s=30)
    found = manager.checkpoints[0]
    assert (found["tags"], found["pinned"], found["path"].name) == (["a"], True, "x.pt")


@pytest.mark.parametrize(
    ("keyword", "value", "meant"),
    [
        ("metrics", 0.4, "metric"),
        ("metrcis", 0.4, "metric"),
        ("metric_", 0.4, "metric"),
        ("epoch_", 3, "epoch"),
        ("is_best_", True, "is_best"),
        ("pinned_", True, "pinned"),
        ("tasg", ["a"], "tags"),
        ("is_bset", True, "is_best"),
        ("epochs", 3, "epoch"),
        ("pined", True, "pinned"),
        ("pin", True, "pinned"),
        ("tag", "a", "tags"),
        ("filename", "a.pt", "name"),
    ],
)
def test_what_looks_misspelt_is_kept_and_warned_of_once(make_manager, keyword, value, meant):
    manager = make_manager()
    assert [f"did you mean {meant}=?" in each for each in warned(manager.save, {}, **{keyword: value})] == [True]
    assert warned(manager.save, {}, **{keyword: value}) == []
    assert manager.checkpoints[-1]["metadata"] == {keyword: value}


@pytest.mark.parametrize(
    "keywords",
    [
        {"loss": 0.5, "accuracy": 0.9, "lr": 1e-3, "step": 7},
        {"epoch": 3},
        {"epoch": 3, "epochs": 100},
        {"metric": 0.5, "metrics": 0.4},
        {"metric1": 0.1, "metric_2": 0.2, "mean": 0.3, "tag_2": "a"},
        {"mode": "train", "monitor": 0.5, "background": "white", "server": "node17", "max_checkpoints": "many"},
        {"metrics": {"acc": 0.9}},
        {"weight": 0.1, "weights": [1, 2], "date": "today", "pages": 3, "status": "ok", "stage": "a"},
        {"is_best": True, "val_accuracy": 0.5},
        {"epoch": 1, "seed": 2**64 - 1, "model": "vit", "best_acc": 0.5, "best": 0.5, "gloss": "x", "class": 3},
    ],
    ids=lambda keywords: ",".join(keywords),
)
def test_other_keywords_are_metadata_without_a_word(make_manager, keywords):
    manager = make_manager()
    assert warned(manager.save, {}, **keywords) == []
    facts = {"epoch", "step", "metric", "is_best"}
    expected = {key: value for key, value in keywords.items() if key not in facts}
    assert manager.checkpoints[0]["metadata"] == expected


def test_a_name_that_each_epoch_replaces_is_warned_of(make_manager):
    manager = make_manager()
    assert warned(manager.save, {}, epoch=1, name="resnet50") == []
    assert ["replaces that of epoch 1" in each for each in warned(manager.save, {}, epoch=2, name="resnet50")] == [True]
    assert warned(manager.save, {}, epoch=3, name="last.pt") == warned(manager.save, {}, epoch=4, name="last.pt") == []


@pytest.mark.parametrize(
    ("options", "keywords", "text"),
    [
        pytest.param({"monitor": "val_loss"}, {"loss": 0.5}, "did you mean monitor='loss'?", id="absent"),
        pytest.param({"monitor": "val_loss"}, {}, "is not among the values", id="absent, and nothing near"),
        pytest.param({"monitor": "loss"}, {"loss": "0.5"}, "is not a number", id="text"),
        pytest.param({}, {"loss": None}, "is not a number", id="none, by default"),
        pytest.param({}, {"val_loss": 0.5}, "did you mean monitor='val_loss'?", id="near, by default"),
        pytest.param({}, {"trainLoss": 0.5}, "did you mean monitor='trainLoss'?", id="in the other spelling"),
        pytest.param({"mode": "max", "monitor": "acc"}, {"val_acc": 0.5}, "monitor='val_acc'", id="by the max"),
    ],
)
def test_a_monitor_that_ranks_nothing_is_warned_of_once(make_manager, options, keywords, text):
    manager = make_manager(**options)
    assert [text in each for each in warned(manager.save, {}, epoch=1, **keywords)] == [True]
    assert warned(manager.save, {}, epoch=2, **keywords) == []
    assert warned(make_manager(**options).save, {}, epoch=3, metric=0.5, **keywords) == []


def test_a_monitored_value_that_is_not_finite_is_a_number(make_manager):
    assert warned(make_manager().save, {}, epoch=1, loss=float("nan")) == []
    assert warned(make_manager(mode="max", checkpoint_dir="runs/max").save, {}, epoch=1, val_acc=0.5) == []


@pytest.mark.parametrize("value", [2**63, 2**64 - 1, -(2**80), 10**4299], ids=["2^63", "2^64-1", "-2^80", "10^4299"])
def test_an_integer_of_any_size_is_kept_exactly(make_manager, server, directory, value):
    manager = make_manager()
    manager.save({}, epoch=1, seed=value, nested={"list": [value]})
    assert manager.checkpoints[0]["metadata"] == {"seed": value, "nested": {"list": [value]}}
    answer = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert answer["metadata"]["seed"] == value
    assert server.http.get(f"/directories/{directory}").status_code == 200
    if value < 2**100:
        found = server.http.get("/v1/checkpoints/best", params={"directory": directory, "by": "seed"}).json()
        assert found["metadata"]["seed"] == value


def test_an_integer_survives_the_spool_a_reindex_and_fsck(own_server):
    manager = CheckpointManager("runs/a", server=own_server.url, patience_s=0.1)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match="kept in"):
        manager.save({}, epoch=1, seed=2**64 - 1, large=[10**4000])
    own_server.start()
    manager.close(timeout_s=30)
    own_server.kill()
    for path in (own_server.root / ".holdfast").glob("catalog.db*"):
        path.unlink()
    assert piped("reindex", "--root", own_server.root).status == 0
    assert piped("fsck", "--root", own_server.root).status == 0
    own_server.start()
    assert manager.checkpoints[0]["metadata"] == {"seed": 2**64 - 1, "large": [10**4000]}


def test_a_flag_that_a_method_does_not_have_is_warned_of(make_manager):
    manager = make_manager()
    said = warned(manager.save_best_if_improved, {}, 0.5, 1, is_best=True, kind="best", metadata={"lr": 0.1})
    assert [each.partition("=")[0] for each in said] == ["is_best", "kind", "metadata"]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("mode", "max"), ("monitor", "val_loss"), ("max_checkpoints", 5), ("background", True), ("server", "http://a")],
)
def test_a_parameter_of_the_manager_is_warned_of_at_a_save(make_manager, keyword, value):
    found = warned(make_manager().save, {}, **{keyword: value})
    assert [
        each.startswith(f"{keyword}= is only") and "a parameter of CheckpointManager" in each for each in found
    ] == [True]


def test_metadata_in_one_keyword_is_warned_of(make_manager):
    for keyword in ("meta", "metadata"):
        found = warned(make_manager().save, {}, **{keyword: {"lr": 0.1}})
        assert [f"save(..., **{keyword})" in each for each in found] == [True]
