"""Background maintenance: recovery at start-up, then periodic passes that finish interrupted work."""

import logging
import threading
from collections.abc import Callable
from functools import partial

from app.service import Service
from app.service.lifecycle.restore import finish_restoration
from app.service.maintenance.reindex import Rebuilt, rebuild
from app.service.maintenance.trim import Trim
from app.service.state.rewrite_records import rewrite_directory

logger = logging.getLogger("holdfast")


def recover(
    service: Service,
    *,
    rebuild_catalog: bool = False,
    is_behind: bool = False,
    read: Callable[[int], object] = lambda _: None,
) -> Rebuilt | None:
    """Make catalog and files agree after a crash or any other end of the last process; give the result of a rebuild.

    A stale catalog is rebuilt first, as none of its rows can be trusted. Otherwise acknowledged removals come first,
    then the rebuild of a lost catalog, then sealed commits. Orphans that cannot be deleted do not prevent the start:
    those of uploads are retried by every pass, those of unknown checkpoints at the next start.
    """
    context = service.context
    rebuilt = rebuild(context, is_behind=True, read=read) if is_behind else None
    tidy(service)
    if rebuild_catalog and rebuilt is None:
        rebuilt = rebuild(context, read=read)
    sealed = context.storage.content.sealed()
    for upload_id, manifest in sealed:
        try:
            service.pending_commits.roll_forward(upload_id, manifest)
        except Exception:  # one broken upload holds up neither the others nor the start
            logger.exception("upload %s is sealed but cannot be published yet", upload_id)
    if rebuilt is not None:
        service.purge.run()  # some checkpoints that only the trash knew may be due
    _attempt("delete what single requests left", service.aborts.empty_unresumable)
    with context.catalog.reading() as session:
        trash = context.storage.content.trash()  # one snapshot: removals that a commit above began go on
        known, kept = session.uploads.ids(), session.checkpoints.ids_with_bytes(trash)
    for upload_id in context.storage.content.uploads() - known:
        if not context.storage.content.is_sealed(upload_id):
            _attempt(f"discard upload {upload_id}", partial(context.storage.content.discard, upload_id))
    for checkpoint_id in trash - kept:
        _attempt(f"purge {checkpoint_id}", partial(context.storage.content.purge, checkpoint_id))
    return rebuilt


def tidy(service: Service) -> None:
    """Finish commits and removals, rewrite stale manifests, and abort expired uploads.

    Pending commits come first: the checkpoints that they replace cannot be read until they are finished.
    """
    context = service.context
    service.pending_commits.finish_all()
    with context.catalog.reading() as session:
        stale, behind = session.checkpoints.with_stale_manifest(), session.directories.with_stale_record()
    for directory in behind:
        rewrite_directory(context, directory.name)
    service.purge.run()
    for checkpoint in stale:
        _attempt(
            f"bring {checkpoint.directory}/{checkpoint.name} up to date",
            partial(finish_restoration, context, checkpoint),
        )
    _attempt("abort expired uploads", service.aborts.expire)
    context.storage.content.sweep()
    if context.storage.volume is not None:
        _attempt("keep the reserve file", context.storage.volume.keep_reserve_file)


def _attempt(what: str, act: Callable[[], object]) -> None:
    """Run a best-effort task: failures are logged."""
    try:
        act()
    except Exception:
        logger.exception("could not %s yet", what)


class Janitor:
    """Runs maintenance passes on a thread of its own."""

    def __init__(self, service: Service, *, every_s: float) -> None:
        self._service = service
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="holdfast-janitor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop after the pass under way."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                tidy(self._service)
            except Exception:
                logger.exception("the janitor retries in %s s", self._every_s)
            context = self._service.context
            _attempt("trim the catalog", Trim(context, self._service.rules, self._stop).run)
            if every := self._service.rules.copy_catalog_every:
                _attempt("copy the catalog", partial(context.catalog.back_up, every=every, now=context.clock()))
