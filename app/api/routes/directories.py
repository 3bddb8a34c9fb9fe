"""Routes of directories."""

from fastapi import APIRouter

from app.api.dependencies import (
    Admin,
    Deleter,
    EditsDep,
    ExpectedPolicy,
    LookupsDep,
    PermissionFirstRoute,
    Reader,
    RemovalsDep,
    Within,
)
from app.api.schemas.checkpoints import DirectoryOut, DirectoryPage
from app.api.schemas.parameters import DirectoryName, PageSize, PageToken
from app.api.schemas.prune import ClearedOut
from app.api.schemas.requests import PolicyIn
from app.core.errors import DirectoryNotFound, InvalidName, NameTaken, PolicyChanged, TooLarge
from app.http.page_tokens import read_token, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/directories", tags=["directories"], route_class=PermissionFirstRoute)


@router.get("", responses=refuses(InvalidName, DirectoryNotFound))
def list_directories(
    lookups: LookupsDep, _: Reader, prefix: Within, page_size: PageSize = 100, page_token: PageToken = None
) -> DirectoryPage:
    """List directories at or below a prefix, by name.

    Each comes with its policy, counts, bytes, latest and best checkpoint.
    """
    after = read_token(page_token, "directories", prefix, length=1)
    summaries, following = lookups.directories(prefix, after=str(after[0]) if after else "", limit=page_size)
    token = write_token((following,), "directories", prefix) if following is not None else None
    return DirectoryPage(directories=[DirectoryOut.of(summary) for summary in summaries], next_page_token=token)


@router.get("/{directory:path}", responses=refuses(InvalidName, DirectoryNotFound))
def get_directory(directory: DirectoryName, lookups: LookupsDep, _: Reader) -> DirectoryOut:
    """Get a directory: its policy, counts, bytes, latest and best checkpoint."""
    return DirectoryOut.of(lookups.directory(directory))


@router.put("/{directory:path}", responses=refuses(InvalidName, DirectoryNotFound, NameTaken, PolicyChanged, TooLarge))
def set_policy(
    directory: DirectoryName,
    policy: PolicyIn,
    edits: EditsDep,
    lookups: LookupsDep,
    is_expected: ExpectedPolicy,
    _: Admin,
) -> DirectoryOut:
    """Set the policy of a directory as its operator.

    Limits in the body override those that saves bring; limits left out are again decided by saves. Checkpoints that
    the policy no longer keeps are removed at the next save or prune. `If-Match: <policy_etag>` requires that the policy
    is unchanged; `If-None-Match: *` that the directory does not exist yet.
    """
    changed = edits.set_policy(directory, policy.asked(), is_expected=is_expected)
    return DirectoryOut.of(lookups.summary(changed))


@router.delete("/{directory:path}", responses=refuses(InvalidName, DirectoryNotFound))
def clear_directory(
    directory: DirectoryName,
    removals: RemovalsDep,
    may: Deleter,
    include_pinned: bool = False,
    only_empty: bool = False,
) -> ClearedOut:
    """Remove all checkpoints of a directory, and the directory if it is then empty.

    Subdirectories and files that the server did not write stay, and so do pinned checkpoints unless `include_pinned` is
    set. If an operator has set the policy, removing the directory itself needs the scope `admin`. With `only_empty` no
    checkpoint is removed, and a directory that holds one stays.
    """
    cleared = removals.clear(
        directory, include_pinned=include_pinned, only_empty=only_empty, may_forget_policy=may.allows("admin")
    )
    return ClearedOut.of(cleared)
