"""Content-Digest as the client writes and checks it; the server's is tested over sockets."""

import pytest

from app.core import digests
from holdfast._connection.content_digest import content_digest, is_digest_of

BODY = b'{"hello": "world"}\n'
DIGEST = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_client_and_server_write_what_the_rfc_has():
    assert content_digest(BODY) == digests.of_message(BODY) == DIGEST


@pytest.mark.parametrize(
    ("field", "is_true"),
    [
        pytest.param(DIGEST, True, id="right"),
        pytest.param(f"sha-512=:YWJj: , {DIGEST};a=1", True, id="among others"),
        pytest.param("sha-512=:YWJj:", True, id="unknown"),
        pytest.param(DIGEST.replace("RK", "RL"), False, id="wrong"),
        pytest.param(f"{DIGEST}, {DIGEST.replace('RK', 'RL')}", False, id="right and wrong"),
        pytest.param(DIGEST.replace("=:", "=", 1), False, id="no bytes"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_a_digest_is_true_of_a_body_or_not(field, is_true):
    assert is_digest_of(field, BODY) is is_true
