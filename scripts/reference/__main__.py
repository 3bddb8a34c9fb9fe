"""``python -m scripts.reference`` writes the generated parts anew; ``--check`` only says which are not current."""

import sys

from scripts.reference.pages import PAGES, stale, write

if "--check" in sys.argv[1:]:
    if pages := stale():
        sys.exit(f"not current: {', '.join(pages)}; scripts/check --fix writes them anew")
else:
    for page in PAGES:
        write(page)
