"""Routes of directories."""

from fastapi import APIRouter

from app.api.dependencies import (
    Admin,
    ChangingDep,
    Deleter,
    ExpectedPolicy,
    FindingDep,
    PermissionFirstRoute,
    Reader,
    RemovingDep,
    Within,
)
from app.api.schemas.answers import DirectoryOut, DirectoryPage
from app.api.schemas.parameters import DirectoryName, PageSize, PageToken
from app.api.schemas.requests import PolicyIn
from app.api.schemas.retention import ClearedOut
from app.core.errors import DirectoryNotFound, InvalidName, NameTaken, PolicyChanged, TooLarge
from app.http.page_tokens import read_token, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/directories", tags=["directories"], route_class=PermissionFirstRoute)


@router.get("", responses=refuses(InvalidName, DirectoryNotFound))
def list_directories(
    finding: FindingDep, _: Reader, prefix: Within, page_size: PageSize = 100, page_token: PageToken = None
) -> DirectoryPage:
    """The directories at or below a prefix, by name, each with its counts, bytes, latest and best checkpoint."""
    after = read_token(page_token, "directories", prefix, length=1)
    summaries, following = finding.directories(prefix, after=str(after[0]) if after else "", limit=page_size)
    token = write_token((following,), "directories", prefix) if following is not None else None
    return DirectoryPage(directories=[DirectoryOut.of(summary) for summary in summaries], next_page_token=token)


@router.get("/{directory:path}", responses=refuses(InvalidName, DirectoryNotFound))
def get_directory(directory: DirectoryName, finding: FindingDep, _: Reader) -> DirectoryOut:
    """One directory: its policy, and what it holds."""
    return DirectoryOut.of(finding.directory(directory))


@router.put("/{directory:path}", responses=refuses(InvalidName, DirectoryNotFound, NameTaken, PolicyChanged, TooLarge))
def set_policy(
    directory: DirectoryName,
    policy: PolicyIn,
    changing: ChangingDep,
    finding: FindingDep,
    is_expected: ExpectedPolicy,
    _: Admin,
) -> DirectoryOut:
    """Set a directory's policy as its operator.

    Limits that are named are stronger than those of saves from now on; limits that are left out go back to saves. What
    no longer stays goes at the next save or prune. With `If-Match: <policy_etag>`, only the policy that was read is
    changed; with `If-None-Match: *`, only that of a directory that does not exist yet.
    """
    ordered = changing.order(directory, policy.asked(), is_expected=is_expected)
    return DirectoryOut.of(finding.summary(ordered))


@router.delete("/{directory:path}", responses=refuses(InvalidName, DirectoryNotFound))
def clear_directory(
    directory: DirectoryName,
    removing: RemovingDep,
    may: Deleter,
    include_pinned: bool = False,
    only_empty: bool = False,
) -> ClearedOut:
    """Remove all checkpoints that the directory holds at this moment.

    Its sub-directories, files that this server did not write and, unless asked for, pinned checkpoints stay. A
    directory that holds none is removed itself; where an operator set its policy, by a token with the scope `admin`.
    With `only_empty`, no checkpoint is removed, and a directory that holds any stays as it is.
    """
    cleared = removing.clear(
        directory, include_pinned=include_pinned, only_empty=only_empty, may_forget_policy=may.allows("admin")
    )
    return ClearedOut.of(cleared)
