"""The use cases: everything that can be done with checkpoints, whoever asks."""

from app.checkpoints.abandoning import Abandoning
from app.checkpoints.allowance import Allowance
from app.checkpoints.borrowing import Borrowing
from app.checkpoints.changing import Changing
from app.checkpoints.committing import Committing
from app.checkpoints.comparing import Comparing
from app.checkpoints.finding import Finding
from app.checkpoints.freeing import Freeing
from app.checkpoints.holdings import Holdings
from app.checkpoints.parts import Parts
from app.checkpoints.removing import Removing
from app.checkpoints.restoring import Restoring
from app.checkpoints.single_shot import SingleShot
from app.checkpoints.space import Space
from app.checkpoints.transfers import Transfers
from app.checkpoints.uploading import Uploading
from app.checkpoints.viewing import Viewing

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
