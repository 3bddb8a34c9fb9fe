"""The route of pruning, for real or as a dry run."""

from fastapi import APIRouter

from app.api.dependencies import AskingFirst, Deleter, RemovingDep
from app.api.problems import refuses
from app.api.schemas.requests import PruneIn
from app.api.schemas.retention import DirectoryPruneOut, PruneOut
from app.errors import DirectoryNotFound, InvalidName, TooLarge

router = APIRouter(prefix="/prune", tags=["retention"], route_class=AskingFirst)


@router.post("", responses=refuses(InvalidName, DirectoryNotFound, TooLarge))
def prune(wanted: PruneIn, removing: RemovingDep, may: Deleter) -> PruneOut:
    """Judge directories by their policies: every verdict with its reasons, and the bytes that go.

    With `dry_run` nothing is removed, and `policy` may say by which policy to judge instead of the directory's. A
    directory without a policy keeps everything.
    """
    if wanted.directory is not None:
        may.reach(wanted.directory)
        if wanted.policy is not None:
            prunings = [removing.preview(wanted.directory, wanted.policy.asked())]
        else:
            prunings = [removing.prune(wanted.directory, dry_run=wanted.dry_run)]
    else:
        prunings = removing.prune_below(may.narrowed(wanted.prefix or ""), dry_run=wanted.dry_run)
    directories = [DirectoryPruneOut.of(pruning) for pruning in prunings]
    freed_bytes = sum(directory.freed_bytes for directory in directories)
    return PruneOut(dry_run=wanted.dry_run, directories=directories, freed_bytes=freed_bytes)
