"""Following the best or the latest checkpoint of a directory."""

import threading

import pytest

from holdfast import Client, watch


def test_the_one_that_is_there_comes_first_and_then_each_that_succeeds_it(server, directory):
    server.save(directory, b"a", epoch=1, metric=0.5)
    best = watch(directory, server=server.url)
    assert next(best).epoch == 1
    server.save(directory, b"b", epoch=2, metric=0.7)
    server.save(f"{directory}/below", b"c", epoch=3, metric=0.1)
    server.save(directory, b"d", epoch=4, metric=0.2)
    assert next(best).epoch == 4
    client = Client(server.url)
    client.change(client.best(directory), metric=0.9)
    assert next(best).epoch == 1


def test_of_several_that_succeed_each_other_only_the_last_is_given(server, directory):
    latest = watch(directory, "latest", server=server.url)
    for epoch in range(3):
        server.save(directory, b"%d" % epoch, epoch=epoch)
    assert next(latest).epoch == 2


def test_it_ranks_as_it_is_told(server, directory):
    server.save(directory, b"a", epoch=1, metric=0.1, metadata='{"accuracy": 0.9}')
    server.save(directory, b"b", epoch=2, metric=0.2, metadata='{"accuracy": 0.8}')
    assert next(watch(directory, by="accuracy", mode="max", server=server.url)).epoch == 1
    assert next(watch(directory, by="accuracy", mode="min", server=server.url)).epoch == 2


def test_a_directory_that_does_not_exist_yet_is_waited_for(server, directory):
    best, found = watch(directory, server=server.url), []
    waiting = threading.Thread(target=lambda: found.append(next(best)))
    waiting.start()
    server.save(directory, b"a", epoch=1, metric=0.5)
    waiting.join(60)
    assert [each.epoch for each in found] == [1]


def test_an_outage_is_survived(own_server, caplog):
    own_server.save("runs/a", b"a", epoch=1, metric=0.5)
    best = watch("runs/a", server=own_server.url, patience_s=0.1)
    assert next(best).epoch == 1
    own_server.kill()
    found = []
    waiting = threading.Thread(target=lambda: found.append(next(best)))
    waiting.start()
    own_server.start()
    own_server.save("runs/a", b"b", epoch=2, metric=0.4)
    waiting.join(60)
    assert [each.epoch for each in found] == [2]


@pytest.mark.parametrize("wrong", [{"which": "newest"}, {"which": "latest", "by": "loss"}])
def test_what_cannot_be_followed_is_refused_at_once(directory, wrong):
    with pytest.raises(ValueError, match="which"):
        watch(directory, **wrong)
