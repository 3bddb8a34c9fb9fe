"""The use cases: everything that can be done with checkpoints, for the API, the dashboard and the command line alike.

Decides how catalog and storage change together, and what a crash between the two leaves.
May import `core`, `service.state`, `service.lifecycle`, `service.query`, `service.upload` and `service.commit`;
never HTTP, never a path on the disk.
"""

from app.service.commit.commit import Commits
from app.service.commit.publish import Publisher
from app.service.commit.single_request import SingleRequests
from app.service.lifecycle.edit import Edits
from app.service.lifecycle.purge import Purge
from app.service.lifecycle.remove import Removals
from app.service.lifecycle.restore import Restorations
from app.service.query.compare import Comparisons
from app.service.query.content import Contents
from app.service.query.find import Queries
from app.service.query.overview import Overviews
from app.service.query.usage import UsageReports
from app.service.state.active_purges import ActivePurges
from app.service.state.caches import Caches
from app.service.state.context import Context, Rules
from app.service.state.open_uploads import OpenUploads
from app.service.state.pending_commits import PendingCommits
from app.service.state.quota_claims import QuotaClaims
from app.service.state.running_copies import RunningCopies
from app.service.upload.abort import Aborts
from app.service.upload.dedup import Deduplication
from app.service.upload.disk_space import DiskSpace
from app.service.upload.reserve import Reservations
from app.service.upload.uploads import Uploads

__all__ = ["Checkpoints", "Context", "Rules"]


class Checkpoints:
    """The use cases, one attribute for each family of verbs."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self.context = context
        self.rules = rules
        caches = Caches()
        self.queries = Queries(context, rules)
        self.contents = Contents(context, self.queries, caches)
        self._copies = RunningCopies()
        dedup = Deduplication(context, self.queries, self.contents, caches, self._copies)
        open_uploads = OpenUploads(context.storage.content, dedup.plan)
        self.purge = Purge(context, rules, ActivePurges())
        self.quota_claims = QuotaClaims(context, rules)
        publisher = Publisher(context, rules)
        self.pending_commits = PendingCommits(
            context, open_uploads, self.quota_claims, publisher.publish, self.purge.schedule
        )
        disk_space = DiskSpace(context, rules, open_uploads, self.purge)
        self.aborts = Aborts(context, open_uploads, self.quota_claims)
        self.uploads = Uploads(context, rules, open_uploads, disk_space, self.quota_claims)
        self.reservations = Reservations(
            context,
            rules,
            open_uploads,
            disk_space,
            self.quota_claims,
            self.pending_commits,
            self.uploads,
            self.aborts,
        )
        self.commits = Commits(
            context,
            rules,
            open_uploads,
            self.quota_claims,
            self.pending_commits,
            publisher,
            self.uploads,
            dedup,
            self.purge,
        )
        self.single_requests = SingleRequests(self.reservations, self.uploads, self.aborts, self.commits)
        self.removals = Removals(context, self.purge)
        self.restorations = Restorations(context, self.purge, self.quota_claims, self.pending_commits)
        self.edits = Edits(context, rules)
        self.comparisons = Comparisons(context, self.contents)
        self.overviews = Overviews(context, rules, open_uploads)
        self.usage = UsageReports(context, rules, open_uploads, caches)

    def close(self) -> None:
        """Finish background work, then close the catalog and the storage."""
        self._copies.close()
        self.purge.close()
        self.context.catalog.close()
        self.context.storage.close()
