"""The route of the tree: directories, checkpoints and files as one namespace."""

from fastapi import APIRouter

from app.api.dependencies import PermissionFirstRoute, Reader, ServiceDep
from app.api.schemas.parameters import PageSize, PageToken, TreePathQuery
from app.api.schemas.tree import TreeOut
from app.core.errors import InvalidName, NoBest, PathNotFound, RecordUnreadable
from app.http.page_tokens import read_token, write_token
from app.http.problems import refuses

router = APIRouter(prefix="/tree", tags=["tree"], route_class=PermissionFirstRoute)


@router.get("", responses=refuses(InvalidName, PathNotFound, NoBest, RecordUnreadable))
def get_tree(
    service: ServiceDep,
    may: Reader,
    path: TreePathQuery = "",
    page_size: PageSize = 100,
    page_token: PageToken = None,
) -> TreeOut:
    """Get what is at a path, and list the level below it, by name.

    Directories without a live checkpoint at or below them are not there. Without a path, it is the root.
    """
    key = read_token(page_token, "tree", path, length=2)
    after = (str(key[0]), str(key[1])) if key is not None else None
    page = service.trees.page(may, path, after=after, limit=page_size)
    token = write_token(page.next_key, "tree", path) if page.next_key is not None else None
    return TreeOut.of_page(page, token)
