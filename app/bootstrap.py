"""Open a root and build the parts of the server from the settings: storage, catalog, use cases, authentication."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from app import __version__
from app.auth.authenticator import Authenticator
from app.auth.exposure import refuse_weak
from app.auth.token_issuer import TokenIssuer
from app.catalog import Catalog, default_url
from app.core.errors import Refusal, RootMissing, UnusableToken
from app.core.names import RESERVED
from app.runtime import logs
from app.runtime.actor import Actor
from app.service import Context, Rules, Service
from app.service.maintenance import janitor
from app.service.maintenance.catalog_agreement import mark_pair, reason_to_rebuild
from app.service.maintenance.reindex import Rebuilt, rebuild
from app.settings import Settings
from app.storage.local.root import is_root
from app.storage.local.store import LocalStorage
from app.storage.ports import Storage

logger = logging.getLogger("holdfast")


def utc_now() -> datetime:
    """Return the time of the system clock, in UTC."""
    return datetime.now(UTC)


def build_authenticator(settings: Settings, service: Service) -> Authenticator:
    """Build the authenticator of a root; bootstrap the admin token if its file is configured.

    Raises
    ------
    UnusableToken
        The token file cannot be used, or its token can be guessed.
    """
    context = service.context
    issuer = build_token_issuer(context)
    issuer.revoke_again()
    configured = settings.admin_token_text
    if configured is None and settings.admin_token_file is not None:
        try:
            configured = issuer.bootstrap(settings.admin_token_file)
        except (OSError, UnicodeError) as error:
            raise UnusableToken(f"HOLDFAST_ADMIN_TOKEN_FILE: {error}") from error
        refuse_weak(configured, "HOLDFAST_ADMIN_TOKEN_FILE")
    logs.hide(configured)
    if configured is not None or issuer.all():
        try:
            context.storage.marks.protect()  # so that the root stays closed if the setting or the catalog is lost
        except OSError as error:  # a full disk is no reason not to start
            logger.warning("only its settings keep this server closed, as the root cannot record that: %s", error)
    return Authenticator(
        context.catalog, clock=context.clock, configured=configured, protected=context.storage.marks.is_protected
    )


def build_token_issuer(context: Context) -> TokenIssuer:
    """Build the issuer of a root's tokens."""
    return TokenIssuer(context.catalog, context.storage.marks, clock=context.clock)


def command_line_actor() -> Actor:
    """Return the actor of a command: the user of the operating system."""
    return Actor("command", os.environ.get("USER", ""))


def inspect_root(settings: Settings) -> Context:
    """Open a root for reading, without its lock, also while a server has it open.

    Raises
    ------
    RootUnusable, CatalogUnusable
        There is no root, or no catalog of this version.
    """
    require_root(settings)
    storage = LocalStorage(settings.root, version=__version__, only_look=True)
    try:
        return Context(_catalog(settings, read_only=True), storage, utc_now)
    except BaseException:
        storage.close()
        raise


def require_root(settings: Settings) -> None:
    """Raise `RootMissing` if there is no root."""
    if not is_root(settings.root):  # the server restores a lost one
        raise RootMissing(f"There is no root at {settings.root}.")


def open_root(settings: Settings, *, clock: Callable[[], datetime] = utc_now, closely: bool = True) -> Service:
    """Open a root for this process and recover it; rebuild a catalog that is lost or older than the root.

    ``closely`` also compares each directory with its rows; `fsck` leaves that out, as it checks everything later.

    Raises
    ------
    RootUnusable, CatalogUnusable
        Another process has the root open, its layout is newer, or the catalog cannot be used or is of another root.
    """
    return open_root_with_report(settings, clock=clock, closely=closely)[0]


def open_root_with_report(
    settings: Settings, *, clock: Callable[[], datetime] = utc_now, closely: bool = True
) -> tuple[Service, Rebuilt | None]:
    """Open a root as `open_root` does; return also the report if the catalog was rebuilt.

    Raises
    ------
    RootUnusable, CatalogUnusable
    """
    service, rebuilt = _open(settings, clock, closely=closely)
    if rebuilt is not None:
        message = "rebuilt the catalog: %d checkpoints, %d removed ones in the trash, %d faults"
        logger.warning(message, rebuilt.checkpoints, rebuilt.removed, len(rebuilt.faults))
        for fault in rebuilt.faults:
            logger.warning("left alone: %s", fault)
        for remark in rebuilt.remarks:
            logger.warning("taken in, but %s", remark)
    return service, rebuilt


def reindex_root(settings: Settings, *, read: Callable[[int], object] = lambda _: None) -> Rebuilt:
    """Open a root, rebuild its catalog in any case, close the root, and return the report.

    ``read`` is called with the number of manifests read so far.

    Raises
    ------
    RootUnusable, CatalogUnusable
    """
    if not settings.root.is_dir():
        raise RootMissing(f"There is no root at {settings.root}.")
    service, rebuilt = _open(settings, utc_now, read, must_exist=True)
    try:
        return rebuilt or rebuild(service.context, read=read)
    finally:
        service.close()


def _open(
    settings: Settings,
    clock: Callable[[], datetime],
    read: Callable[[int], object] = lambda _: None,
    *,
    closely: bool = True,
    must_exist: bool = False,
) -> tuple[Service, Rebuilt | None]:
    storage = LocalStorage(settings.root, version=__version__, must_exist=must_exist)
    return open_storage(settings, storage, clock, read, closely=closely)


def open_storage(
    settings: Settings,
    storage: Storage,
    clock: Callable[[], datetime] = utc_now,
    read: Callable[[int], object] = lambda _: None,
    *,
    closely: bool = True,
) -> tuple[Service, Rebuilt | None]:
    """Bring an open storage and its catalog to order, as `open_root` does for a local root. Closes it on failure.

    Raises
    ------
    StartupError
    """
    try:
        catalog = _catalog(settings)
    except BaseException:
        storage.close()
        raise
    context = Context(catalog, storage, clock)
    service = Service(context, _rules(settings))
    try:
        why = reason_to_rebuild(context, str(settings.root.resolve()), closely=closely)
        if why is not None:
            logger.warning("the catalog is rebuilt from the files: %s", why)
            if kept := catalog.keep_backup(clock()):
                logger.warning("%s is a copy of the old one, with its tokens and its audit log", kept)
        is_lost = catalog.is_new
        rebuilt = janitor.recover(
            service, rebuild_catalog=why is not None, is_behind=why is not None and not is_lost, read=read
        )
        rebuilt = rebuilt and replace(rebuilt, why=why or "")
        catalog.mark_complete()
        storage.marks.upgrade()
        _mark_pair(context)
    except BaseException:
        service.close()
        raise
    return service, rebuilt


def _rules(settings: Settings) -> Rules:
    return Rules(
        lease=timedelta(seconds=settings.upload_lease_s),
        writer_window=timedelta(seconds=settings.writer_window_s),
        undo_window=timedelta(seconds=settings.undo_window),
        reserve_bytes=settings.reserve_bytes,
        most_uploads=settings.max_uploads_per_token,
        copy_catalog_every=timedelta(seconds=settings.copy_catalog_every),
        keep_events=_duration(settings.keep_events),
        keep_audit=_duration(settings.keep_audit),
        keep_removed=_duration(settings.keep_removed),
        quotas=settings.quotas,
        limits=settings.limits,
    )


def _duration(seconds: float | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds is not None else None


def _catalog(settings: Settings, *, read_only: bool = False) -> Catalog:
    """Open the catalog of a root: the database that is configured, or one beside the root's own records."""
    return Catalog(settings.database_url or default_url(settings.root.resolve() / RESERVED), read_only=read_only)


def _mark_pair(context: Context) -> None:
    try:
        mark_pair(context)
    except (OSError, Refusal) as error:  # a full disk is no reason not to start
        logger.warning("the root cannot be marked, so that an older catalog would not be recognised: %s", error)
