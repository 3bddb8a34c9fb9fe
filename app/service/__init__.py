"""The use cases: everything that can be done with checkpoints, for the API, the dashboard and the command line alike.

Decides how catalog and storage change together, and what a crash between the two leaves.
May import `core`, `catalog` and the storage port; never HTTP, never a path on the disk.
"""

from app.service.commit.commit import Committing
from app.service.commit.single_request import SingleShot
from app.service.lifecycle.edit import Changing
from app.service.lifecycle.purge import Freeing
from app.service.lifecycle.remove import Removing
from app.service.lifecycle.restore import Restoring
from app.service.query.compare import Comparing
from app.service.query.find import Finding
from app.service.query.overview import Viewing
from app.service.query.usage import Holdings
from app.service.state.context import Parts
from app.service.state.open_uploads import Transfers
from app.service.state.quota_claims import Allowance
from app.service.upload.abort import Abandoning
from app.service.upload.dedup import Borrowing
from app.service.upload.disk_space import Space
from app.service.upload.reserve import Uploading

__all__ = ["Checkpoints", "Parts"]


class Checkpoints:
    """The use cases, one attribute for each family of verbs."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.finding = Finding(parts)
        self.borrowing = Borrowing(parts, self.finding)
        transfers = Transfers(parts.storage, self.borrowing.promise)
        self.freeing = Freeing(parts)
        self.allowance = Allowance(parts)
        space = Space(parts, transfers, self.freeing)
        self.abandoning = Abandoning(parts, transfers, self.allowance)
        self.uploading = Uploading(
            parts,
            transfers,
            space,
            self.allowance,
            self.abandoning,
            finish_earlier=lambda name: self.committing.finish_earlier(name),
        )
        self.committing = Committing(parts, transfers, self.uploading, self.borrowing, self.freeing, self.allowance)
        self.single_shot = SingleShot(self.uploading, self.abandoning, self.committing)
        self.removing = Removing(parts, self.freeing)
        self.restoring = Restoring(parts, self.freeing, self.allowance, self.committing.finish_earlier)
        self.changing = Changing(parts)
        self.comparing = Comparing(parts, self.finding)
        self.viewing = Viewing(parts, transfers)
        self.holdings = Holdings(parts, transfers)

    def close(self) -> None:
        """Finish what was begun in the background, then let go of the catalog and the storage."""
        self.borrowing.close()
        self.freeing.close()
        self.parts.catalog.close()
        self.parts.storage.close()
