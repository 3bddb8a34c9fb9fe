"""Caches: each holds a bounded number of entries, and evicts the one that was not used for the longest time."""

from app.service.state.caches import MOST_VERIFIED, Caches, FileState, LruCache


def test_an_entry_is_found_until_it_is_evicted():
    cache = LruCache[str, int](2)
    assert cache.get("a") is None
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1, "and is now the most recently used"
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_a_changed_entry_counts_as_used():
    cache = LruCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.put("a", 10)
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [10, None, 3]


def test_a_cache_never_exceeds_its_capacity():
    cache = LruCache[int, int](5)
    for number in range(100):
        cache.put(number, number)
        assert len(cache) == min(number + 1, 5)
    assert [number for number in range(100) if cache.get(number) is not None] == [95, 96, 97, 98, 99]


def test_verified_files_are_remembered_up_to_a_bound():
    verified = Caches().verified
    for number in range(MOST_VERIFIED + 10):
        verified.put((f"{number}", "model.pt"), FileState(1, number, None))
    assert len(verified) == MOST_VERIFIED
    assert verified.get(("9", "model.pt")) is None
    assert verified.get(("10", "model.pt")) == FileState(1, 10, None)
