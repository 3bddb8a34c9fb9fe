"""The route of pruning, with a dry run."""

from fastapi import APIRouter

from app.api.dependencies import Deleter, PermissionFirstRoute, RemovalsDep
from app.api.schemas.prune import DirectoryPruneOut, PruneOut
from app.api.schemas.requests import PruneIn
from app.core.access import Access
from app.core.errors import DirectoryNotFound, InvalidName, TooLarge
from app.http.page_tokens import read_token, write_token
from app.http.problems import refuses
from app.service.lifecycle.bulk_prune import PageStart, PruneRun, dry_run, real_run

router = APIRouter(prefix="/prune", tags=["retention"], route_class=PermissionFirstRoute)


@router.post("", responses=refuses(InvalidName, DirectoryNotFound, TooLarge))
def prune(wanted: PruneIn, removals: RemovalsDep, may: Deleter) -> PruneOut:
    """Prune directories by their policies: remove every checkpoint that no rule keeps.

    The response lists a verdict with its reasons for each checkpoint, and the bytes freed. With `dry_run` nothing is
    removed, and `policy` may replace the directory's own. A directory without a policy keeps everything. The page size
    limits the verdicts in the response, never the checkpoints removed.
    """
    prefix, limit, shown = _prefix(wanted, may), wanted.page_size, wanted.verdicts
    if not wanted.dry_run:
        return _answer(real_run(removals, wanted.directory, prefix, limit=limit, shown=shown), wanted, None)
    policy = wanted.policy.asked() if wanted.policy is not None else None
    listing = ("prune", wanted.directory, prefix, shown, wanted.policy and wanted.policy.model_dump_json())
    begin = PageStart.at(read_token(wanted.page_token, *listing, length=3))
    found = dry_run(removals, wanted.directory, prefix, policy=policy, begin=begin, limit=limit, shown=shown)
    return _answer(found, wanted, write_token(found.following, *listing) if found.following is not None else None)


def _prefix(wanted: PruneIn, may: Access) -> str:
    if wanted.directory is None:
        return may.narrowed(wanted.prefix or "")
    may.reach(wanted.directory)
    return ""


def _answer(found: PruneRun, wanted: PruneIn, token: str | None) -> PruneOut:
    return PruneOut(
        dry_run=wanted.dry_run,
        directories=[DirectoryPruneOut.of(page) for page in found.pages],
        stays=found.tally.stays,
        goes=found.tally.goes,
        freed_bytes=found.tally.freed_bytes,
        omitted=found.omitted,
        next_page_token=token,
    )
