"""Proxies that the environment names for a URL, and hosts that need none."""

import sys

import pytest

from holdfast import CheckpointManager, InvalidRequest
from holdfast._connection.no_proxy import is_exempt
from holdfast._connection.proxies import Proxies

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    for name in (*NAMES, *map(str.upper, NAMES)):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("entries", "host", "port", "is_one"),
    [
        pytest.param("*", "anything.example", 80, True, id="all"),
        pytest.param("a.example, b.example", "b.example", 80, True, id="one of several"),
        pytest.param("a.example b.example", "b.example", 80, True, id="with a space between"),
        pytest.param("example.com", "deep.below.example.com", 80, True, id="below a name"),
        pytest.param(".example.com", "example.com", 80, True, id="a dot before the name itself"),
        pytest.param("*.example.com", "a.example.com", 80, True, id="a star before a name"),
        pytest.param("*.example.com", "example.com", 80, True, id="a star, and the name itself"),
        pytest.param("example.com", "notexample.com", 80, False, id="a name that ends alike"),
        pytest.param("EXAMPLE.com", "example.com.", 80, True, id="capitals and a dot at the end"),
        pytest.param("example.com:8420", "example.com", 8420, True, id="its port"),
        pytest.param("example.com:8420", "example.com", 80, False, id="another port"),
        pytest.param("http://example.com", "example.com", 80, True, id="a URL"),
        pytest.param("10.0.0.0/8", "10.2.3.4", 80, True, id="a network"),
        pytest.param("10.0.0.0/8", "11.2.3.4", 80, False, id="beside a network"),
        pytest.param("10.1.2.3/8", "10.9.9.9", 80, True, id="a network by one of its hosts"),
        pytest.param("192.168.*", "192.168.7.7", 80, True, id="a pattern"),
        pytest.param("127.0.0.1:8420", "127.0.0.1", 8420, True, id="an address and its port"),
        pytest.param("0.0.1", "127.0.0.1", 80, False, id="the end of an address"),
        pytest.param("::1", "::1", 80, True, id="IPv6"),
        pytest.param("0:0:0:0:0:0:0:1", "::1", 80, True, id="IPv6, written out"),
        pytest.param("[::1]", "::1", 80, True, id="IPv6 in brackets"),
        pytest.param("[::1]:8420", "::1", 8420, True, id="IPv6 with its port"),
        pytest.param("[::1]:8420", "::1", 80, False, id="IPv6 with another port"),
        pytest.param("fd00::/8", "fd12::7", 80, True, id="an IPv6 network"),
        pytest.param("[fd00::]/8", "fd12::7", 80, True, id="an IPv6 network in brackets"),
        pytest.param("fe80::1%eth0", "fe80::1%eth1", 80, True, id="IPv6 with a zone"),
        pytest.param("10.0.0.0/8", "::ffff:10.1.1.1", 80, True, id="IPv4 within IPv6"),
        pytest.param("fd00::/8", "10.0.0.1", 80, False, id="a network of the other kind"),
        pytest.param(
            "10.0.0.0/99,[::1,:::,/,[],*[,localhost", "localhost", 80, True, id="behind entries that are none"
        ),
        pytest.param("10.0.0.0/99,[::1,:::,/,[],*[", "localhost", 80, False, id="entries that are none"),
        pytest.param(" , ,", "localhost", 80, False, id="nothing"),
    ],
)
def test_no_proxy_has_a_host(entries, host, port, is_one):
    assert is_exempt(entries, host, port) is is_one


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("proxy:3128", "http://proxy:3128"),
        (" http://proxy:3128/ ", "http://proxy:3128"),
        ("https://proxy", "https://proxy"),
        ("socks://proxy:1080/", "socks5://proxy:1080"),
        ("socks5h://user:word@proxy:1080", "socks5://user:word@proxy:1080"),
    ],
)
def test_a_proxy_may_be_written_in_several_ways(monkeypatch, value, url):
    monkeypatch.setenv("all_proxy", value)
    found = Proxies().of("http://server:8420/v1")
    assert (found.url, found.variable) == (url, "all_proxy")
    assert "word" not in repr(found) + found.shown


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("socks4://user:pass-word@proxy:1", "ALL_PROXY names a proxy with the scheme 'socks4'"),
        ("http://user:pass-word@proxy:port", "ALL_PROXY is no URL of a proxy"),
        ("http://user:pass-word@", "ALL_PROXY is no URL of a proxy"),
        ("http://pass-word @proxy", "ALL_PROXY is no URL of a proxy"),
        ("http://[pass-word", "ALL_PROXY is no URL of a proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_at_once_where_it_would_be_needed(monkeypatch, value, says):
    monkeypatch.setenv("ALL_PROXY", value)
    with pytest.raises(InvalidRequest, match=says) as raised:
        CheckpointManager("runs/a", server="http://127.0.0.1:1")
    assert raised.value.code == "invalid_setting"
    assert "NO_PROXY" in str(raised.value)
    assert "pass-word" not in str(raised.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
    CheckpointManager("runs/a", server="http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    CheckpointManager("runs/a", server="https://elsewhere")


def test_a_socks_proxy_without_its_extra_is_said_at_once_with_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setattr("holdfast._connection.proxies.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(InvalidRequest, match=r'ALL_PROXY .*pip install "socksio>=1.0"'):
        CheckpointManager("runs/a", server="http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    CheckpointManager("runs/a", server="http://127.0.0.1:1")
