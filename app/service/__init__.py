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
from app.service.state.context import Context, Rules
from app.service.state.open_uploads import Transfers
from app.service.state.quota_claims import Allowance
from app.service.upload.abort import Abandoning
from app.service.upload.dedup import Borrowing
from app.service.upload.disk_space import Space
from app.service.upload.reserve import Uploading

__all__ = ["Checkpoints", "Context", "Rules"]


class Checkpoints:
    """The use cases, one attribute for each family of verbs."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self.context = context
        self.rules = rules
        self.finding = Finding(context, rules)
        self.borrowing = Borrowing(context, self.finding)
        transfers = Transfers(context.storage, self.borrowing.promise)
        self.freeing = Freeing(context, rules)
        self.allowance = Allowance(context, rules)
        space = Space(context, rules, transfers, self.freeing)
        self.abandoning = Abandoning(context, transfers, self.allowance)
        self.uploading = Uploading(
            context,
            rules,
            transfers,
            space,
            self.allowance,
            self.abandoning,
            finish_earlier=lambda name: self.committing.finish_earlier(name),
        )
        self.committing = Committing(
            context, rules, transfers, self.uploading, self.borrowing, self.freeing, self.allowance
        )
        self.single_shot = SingleShot(self.uploading, self.abandoning, self.committing)
        self.removing = Removing(context, self.freeing)
        self.restoring = Restoring(context, self.freeing, self.allowance, self.committing.finish_earlier)
        self.changing = Changing(context, rules)
        self.comparing = Comparing(context, self.finding)
        self.viewing = Viewing(context, rules, transfers)
        self.holdings = Holdings(context, rules, transfers)

    def close(self) -> None:
        """Finish background work, then close the catalog and the storage."""
        self.borrowing.close()
        self.freeing.close()
        self.context.catalog.close()
        self.context.storage.close()
