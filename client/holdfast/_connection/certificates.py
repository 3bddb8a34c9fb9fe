"""Trusted certificate authorities, the same for every connection of the client."""

import os
import ssl
from functools import lru_cache

import certifi

from .._runtime.interruption import reraise
from ..errors import InvalidRequest, ServerUnreachable
from .base_url import CODE


def tls_context() -> ssl.SSLContext:
    """Return the TLS context for all connections. It is expensive to make, so it is cached.

    Raises
    ------
    InvalidRequest
        ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` cannot be read.
    """
    file, folder = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    try:
        return _configured_context(file, folder)
    except OSError as error:  # a FileNotFoundError would tell the caller of `load` that the checkpoint is missing
        reraise(error)
        variable, place = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
        why = error.strerror or str(error)
        raise InvalidRequest(
            f"{variable} names {place}: the certificates in {place} cannot be read: {why}", code=CODE
        ) from error


def tls_context_of_request() -> ssl.SSLContext:
    """Return the TLS context for a request; raise `ServerUnreachable` if the certificates cannot be read."""
    try:
        return tls_context()
    except InvalidRequest as error:
        raise ServerUnreachable(str(error)) from error


def no_tls_context() -> ssl.SSLContext:
    """Return a context that trusts no authority, for connections without TLS."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@lru_cache(maxsize=4)
def _configured_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    if file is None and folder is not None and not any(map(os.path.isdir, folder.split(os.pathsep))):
        raise NotADirectoryError(20, "no such folder", folder)  # OpenSSL would silently trust no authority
    if file is None and folder is None:
        file = certifi.where()
    context = ssl.create_default_context(cafile=file, capath=None if file else folder)
    context.set_alpn_protocols(["http/1.1"])
    return context
