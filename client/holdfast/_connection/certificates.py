"""Trusted certificate authorities, the same for every connection of the client."""

import os
import ssl
from functools import lru_cache

import httpx

from ..errors import InvalidRequest
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
        variable, place = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
        why = error.strerror or str(error)
        raise InvalidRequest(
            f"{variable} names {place}: the certificates in {place} cannot be read: {why}", code=CODE
        ) from error


def no_tls_context() -> ssl.SSLContext:
    """Return a context that trusts no authority, for connections without TLS."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def advice(reason: str) -> str:
    """Return advice for a server's certificate that is not trusted; empty for any other reason."""
    if "CERTIFICATE_VERIFY_FAILED" not in reason:
        return ""
    other = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    also = f" ({other} is not read)" if other else ""
    return f". SSL_CERT_FILE names the trusted authorities{also}"


@lru_cache(maxsize=4)
def _configured_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    if file is None and folder is not None and not any(map(os.path.isdir, folder.split(os.pathsep))):
        raise NotADirectoryError(20, "no such folder", folder)  # OpenSSL would silently trust no authority
    return httpx.create_ssl_context()
