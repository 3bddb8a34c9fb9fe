"""The use cases: everything that can be done with checkpoints, for the API, the dashboard and the command line alike.

Decides how catalog and storage change together, and what a crash between the two leaves.
May import `core`, `service.state`, `service.lifecycle`, `service.query`, `service.upload`, `service.commit` and
`service.shared`; never HTTP, never a path on the disk.
"""

from app.service.commit.commit import Commits
from app.service.commit.copy import Copies
from app.service.commit.publish import Publisher
from app.service.commit.record_and_prune import CommitRecorder
from app.service.commit.single_request import SingleRequests
from app.service.commit.small_save import SmallSaves
from app.service.lifecycle.edit import Edits
from app.service.lifecycle.purge import Purge
from app.service.lifecycle.remove import Removals
from app.service.lifecycle.restore import Restorations
from app.service.query.compare import Comparisons
from app.service.query.contents import Contents
from app.service.query.lookup import Lookups
from app.service.query.overview import Overviews
from app.service.query.tree import Trees
from app.service.query.upload_status import UploadLists
from app.service.query.usage import UsageReports
from app.service.shared.completion import SharedCommits
from app.service.shared.declaration import SharedFiles
from app.service.shared.reservation import SharedReservations
from app.service.state.active_purges import ActivePurges
from app.service.state.caches import Caches
from app.service.state.context import Context, Rules
from app.service.state.events.feed import EventFeed
from app.service.state.open_uploads import OpenUploads
from app.service.state.pending_commits import PendingCommits
from app.service.state.quota_claims import QuotaClaims
from app.service.state.running_copies import RunningCopies
from app.service.upload.abort import Aborts
from app.service.upload.dedup import Deduplication
from app.service.upload.disk_space import DiskSpace
from app.service.upload.reserve import Reservations
from app.service.upload.transfer import Transfers

__all__ = ["Context", "Rules", "Service"]


class Service:
    """The use cases, one attribute for each family of verbs."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self.context = context
        self.rules = rules
        caches = Caches()
        self.lookups = Lookups(context, rules)
        self.trees = Trees(context, rules)
        self.contents = Contents(context, self.lookups, caches)
        self._copies = RunningCopies()
        dedup = Deduplication(context, self.lookups, self.contents, caches, self._copies)
        open_uploads = OpenUploads(context, dedup.plan)
        self.purge = Purge(context, rules, ActivePurges())
        self.quota_claims = QuotaClaims(context, rules)
        recorder = CommitRecorder(context, rules)
        publisher = Publisher(context, recorder)
        self.pending_commits = PendingCommits(
            context, open_uploads, self.quota_claims, publisher.publish, self.purge.schedule
        )
        disk_space = DiskSpace(context, rules, open_uploads, self.purge)
        self.aborts = Aborts(context, open_uploads, self.quota_claims)
        self.transfers = Transfers(context, rules, open_uploads, disk_space, self.quota_claims)
        self.reservations = Reservations(
            context,
            rules,
            open_uploads,
            disk_space,
            self.quota_claims,
            self.pending_commits,
            self.transfers,
            self.aborts,
        )
        self.commits = Commits(
            context,
            rules,
            open_uploads,
            self.quota_claims,
            self.pending_commits,
            recorder,
            self.transfers,
            dedup,
            self.purge,
        )
        self.single_requests = SingleRequests(self.reservations, self.transfers, self.aborts, self.commits)
        self.small_saves = SmallSaves(
            context,
            rules,
            self.pending_commits,
            disk_space,
            self.commits,
            self.reservations,
            self.transfers,
            self.aborts,
        )
        self.shared_reservations = SharedReservations(
            context, rules, open_uploads, self.pending_commits, self.reservations, self.transfers
        )
        self.shared_files = SharedFiles(context, rules, open_uploads, disk_space, self.quota_claims, self.transfers)
        self.shared_commits = SharedCommits(context, self.transfers, self.shared_files, self.commits)
        self.copies = Copies(
            context, self.lookups, self.contents, self.commits, self.reservations, self.transfers, self.aborts
        )
        self.removals = Removals(context, self.purge)
        self.restorations = Restorations(context, self.purge, self.quota_claims, self.pending_commits)
        self.edits = Edits(context, rules)
        self.comparisons = Comparisons(context, self.contents)
        self.overviews = Overviews(context, rules, open_uploads, caches)
        self.event_feed = EventFeed(context.catalog, context.notifier, open_uploads.changed_since)
        self.upload_lists = UploadLists(context, open_uploads)
        self.usage = UsageReports(context, rules, self.upload_lists, caches)

    def why_not_ready(self) -> str | None:
        """Return the reason why requests cannot be served at the moment, as a sentence; None if they can."""
        if self.context.is_stopping:
            return "The server is shutting down."
        if not self.context.catalog.usable():
            return "The catalog does not answer."
        return None if self.context.storage.content.is_writable() else "The root is not writable."

    def close(self) -> None:
        """Finish background work, then close the catalog and the storage."""
        self.event_feed.close()
        self._copies.close()
        self.purge.close()
        self.context.catalog.close()
        self.context.storage.close()
