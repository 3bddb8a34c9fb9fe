"""Quotas are parsed strictly, cover whole components, and refuse only changes that add to an excess."""

import re

import pytest

from app.core.quotas import Excess, Quota, Usage, covering, excess, read


@pytest.mark.parametrize(
    ("written", "quotas"),
    [
        pytest.param({}, (), id="none"),
        pytest.param({"": {"max_bytes": 5}}, (Quota("", 5),), id="everything"),
        pytest.param({"b": {"max_checkpoints": 0}, "a/b": {"max_bytes": 7, "max_checkpoints": 2}},
                     (Quota("a/b", 7, 2), Quota("b", None, 0)), id="two, in order"),
        pytest.param({"a": {"max_bytes": "2TB"}}, (Quota("a", 2 * 10**12),), id="powers of a thousand"),
        pytest.param({"a": {"max_bytes": "500 GiB"}}, (Quota("a", 500 * 2**30),), id="powers of 1024"),
        pytest.param({"a": {"max_bytes": "1.5MB"}}, (Quota("a", 1_500_000),), id="a fraction"),
        pytest.param({"a": {"max_bytes": "12"}}, (Quota("a", 12),), id="no unit"),
        pytest.param({"a": {"max_bytes": "12B"}}, (Quota("a", 12),), id="bytes"),
    ],
)  # fmt: skip
def test_quotas_are_read(written, quotas):
    assert read(written) == quotas


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param([], "a JSON object of prefixes", id="a list"),
        pytest.param(None, "a JSON object of prefixes", id="null"),
        pytest.param({"a/": {"max_bytes": 1}}, "'a/': ", id="a prefix that is no name"),
        pytest.param({"../a": {"max_bytes": 1}}, "'../a': ", id="a prefix that climbs"),
        pytest.param({"a": 5}, "'a': a quota has", id="no limits"),
        pytest.param({"a": {}}, "'a': a quota has", id="empty limits"),
        pytest.param({"a": {"max_byte": 1}}, "'a': a quota has", id="a misspelt limit"),
        pytest.param({"a": {"max_bytes": -1}}, "max_bytes is a number", id="less than nothing"),
        pytest.param({"a": {"max_bytes": "2XB"}}, "not '2XB'", id="an unknown unit"),
        pytest.param({"a": {"max_bytes": "2iB"}}, "not '2iB'", id="half a unit"),
        pytest.param({"a": {"max_bytes": "TB"}}, "not 'TB'", id="a unit alone"),
        pytest.param({"a": {"max_bytes": 1.5}}, "not 1.5", id="half a byte"),
        pytest.param({"a": {"max_checkpoints": True}}, "not True", id="true"),
        pytest.param({"a": {"max_checkpoints": "5k"}}, "not '5k'", id="a number of checkpoints as text"),
    ],
)
def test_what_is_no_quota_is_refused(written, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        read(written)


@pytest.mark.parametrize(
    ("directory", "prefixes"),
    [
        pytest.param("a", ["", "a"], id="itself"),
        pytest.param("a/b", ["", "a", "a/b"], id="below two"),
        pytest.param("a/bc", ["", "a"], id="a component that begins alike"),
        pytest.param("ab", [""], id="a name that begins alike"),
        pytest.param("b/a", [""], id="elsewhere"),
    ],
)
def test_prefixes_cover_whole_components(directory, prefixes):
    quotas = [Quota(""), Quota("a"), Quota("a/b")]
    assert [quota.prefix for quota in covering(quotas, directory)] == prefixes


@pytest.mark.parametrize(
    ("used", "wanted", "found"),
    [
        pytest.param(Usage(4, 90), Usage(1, 10), None, id="just fits"),
        pytest.param(Usage(4, 90), Usage(1, 11), ("bytes", 100, 90, 11), id="a byte too many"),
        pytest.param(Usage(5, 10), Usage(1, 1), ("checkpoints", 5, 5, 1), id="one too many"),
        pytest.param(Usage(5, 100), Usage(1, 1), ("checkpoints", 5, 5, 1), id="both"),
        pytest.param(Usage(5, 100), Usage(0, 0), None, id="a replacement of the same size"),
        pytest.param(Usage(9, 500), Usage(0, -1), None, id="less, where there is too much"),
        pytest.param(Usage(9, 50), Usage(-1, 1), None, id="fewer, where there are too many"),
        pytest.param(Usage(9, 500), Usage(-1, 1), ("bytes", 100, 500, 1), id="fewer but larger"),
    ],
)
def test_what_would_exceed_a_quota(used, wanted, found):
    assert excess(Quota("a", 100, 5), used, wanted) == (found and Excess("a", *found))


def test_a_quota_without_limits_refuses_nothing():
    assert excess(Quota("a"), Usage(10**9, 10**18), Usage(1, 1)) is None
