"""Format of tokens: ``hfst_``, an id, 32 random bytes, a checksum. Pure.

A token consists of letters and digits and has a fixed length: secret scanners find it by ``hfst_[0-9A-Za-z]{59}``,
confirm it by the checksum, and a double click selects the whole token.
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
    """Compose a token from 7 random bytes for its id and 32 for its secret."""
    unchecked = PREFIX + _base62(int.from_bytes(id_bytes), _ID) + _base62(int.from_bytes(secret), _SECRET)
    return unchecked + _checksum(unchecked)


def id_of(text: str) -> str | None:
    """Return the id in a token; None if form or checksum is wrong."""
    match = PATTERN.fullmatch(text)
    if match is None or text[-_CHECKSUM:] != _checksum(text[:-_CHECKSUM]):
        return None
    return match[1]


def hash_of(text: str) -> str:
    """Hash a secret for storage: SHA-256, in hex. The secret is random, so a slow hash would not help."""
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def public_id_of(text: str) -> str:
    """Return a public id for a token that the operator chose. It is a slow hash, so that guessing the token is slow."""
    return f"configured-{scrypt(text.encode(), salt=b'holdfast', n=2**14, r=8, p=1, dklen=4).hex()}"


def _checksum(unchecked: str) -> str:
    return _base62(crc32(unchecked.encode()), _CHECKSUM)


def _base62(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits.rjust(width, "0")
