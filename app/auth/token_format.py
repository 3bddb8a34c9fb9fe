"""What tokens look like: ``hfst_``, an id, 32 random bytes, a checksum. Pure.

All of it is letters and digits of fixed length, so that secret scanners find a token by
``hfst_[0-9A-Za-z]{59}`` and tell from the checksum that it is one, and a double click selects it whole.
"""

import re
from hashlib import scrypt, sha256
from zlib import crc32

PREFIX = "hfst_"
SECRET_BYTES = 32
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID, _SECRET, _CHECKSUM = 10, 43, 6
ID_BYTES = 7  # 56 bits fit into 10 digits
PATTERN = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_ID}}})[0-9A-Za-z]{{{_SECRET + _CHECKSUM}}}")


def compose(id_bytes: bytes, secret: bytes) -> str:
    """The token that is made of 7 and 32 random bytes."""
    begun = PREFIX + _base62(int.from_bytes(id_bytes), _ID) + _base62(int.from_bytes(secret), _SECRET)
    return begun + _checksum(begun)


def id_of(text: str) -> str | None:
    """The id in a token; None where the text is no token, by its form or its checksum."""
    match = PATTERN.fullmatch(text)
    if match is None or text[-_CHECKSUM:] != _checksum(text[:-_CHECKSUM]):
        return None
    return match[1]


def hash_of(text: str) -> str:
    """What is kept of a secret in its place: SHA-256, in hex. It is random: a slow hash would not help."""
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def public_id_of(text: str) -> str:
    """What a token that a person made up is called. Whoever guesses it from that spends a while on each guess."""
    return f"configured-{scrypt(text.encode(), salt=b'holdfast', n=2**14, r=8, p=1, dklen=4).hex()}"


def _checksum(begun: str) -> str:
    return _base62(crc32(begun.encode()), _CHECKSUM)


def _base62(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits.rjust(width, "0")
