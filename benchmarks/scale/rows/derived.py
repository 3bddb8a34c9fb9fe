"""Rows that a server derives from other rows, made anew by the checkout's own code after rows were added in bulk."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.checkout import Checkout

REBUILDERS: Sequence[str] = ("app.catalog.rows.counters:rebuild", "app.catalog.rows.rollups:rebuild")
"""Functions as ``module:name`` that take an open `Session` for writing. A checkout that lacks one does without it."""

_SCRIPT = """
import sys
from importlib import import_module
from pathlib import Path

rebuilds = []
for place in sys.argv[2:]:
    module, _, name = place.partition(":")
    try:
        rebuilds.append(getattr(import_module(module), name))
    except ModuleNotFoundError:
        continue
if rebuilds:
    from app.catalog import Catalog, default_url

    catalog = Catalog(default_url(Path(sys.argv[1])))
    for rebuild in rebuilds:
        with catalog.writing() as session:
            rebuild(session)
    catalog.close()
"""


def rebuild(checkout: Checkout, catalog: Path, rebuilders: Sequence[str] = REBUILDERS) -> None:
    """Make the derived rows of a catalog anew. No server has it open."""
    command = [str(checkout.python), "-c", _SCRIPT, str(catalog.parent), *rebuilders]
    subprocess.run(command, cwd=checkout.folder, check=True)
