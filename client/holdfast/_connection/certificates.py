"""Certificates: which authorities are believed, the same for every connection, however it is made."""

import os
import ssl
from functools import lru_cache

import httpx

from ..errors import InvalidRequest
from .base_url import CODE


def tls_context() -> ssl.SSLContext:
    """The TLS context for all connections; costly, so made once.

    Raises
    ------
    InvalidRequest
        ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` names what cannot be read.
    """
    file, folder = os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None
    try:
        return _configured_context(file, folder)
    except OSError as error:  # among them FileNotFoundError, which means something else to who loads a checkpoint
        variable, place = ("SSL_CERT_FILE", file) if file else ("SSL_CERT_DIR", folder)
        why = error.strerror or str(error)
        raise InvalidRequest(
            f"{variable} names {place}: the certificates in {place} cannot be read: {why}", code=CODE
        ) from error


def no_tls_context() -> ssl.SSLContext:
    """A context that believes nobody, for where no TLS is spoken."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def advice(reason: str) -> str:
    """What to do where a server's certificate is not believed; empty where that is not the reason."""
    if "CERTIFICATE_VERIFY_FAILED" not in reason:
        return ""
    other = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    also = f" ({other} is not read)" if other else ""
    return f". SSL_CERT_FILE names the authorities that are believed{also}"


@lru_cache(maxsize=4)
def _configured_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    if file is None and folder is not None and not any(map(os.path.isdir, folder.split(os.pathsep))):
        raise NotADirectoryError(20, "no such folder", folder)  # OpenSSL would believe nobody, without a word
    return httpx.create_ssl_context()
