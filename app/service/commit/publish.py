"""Publication: moves the files of a sealed checkpoint into their directory, and has the checkpoint recorded."""

from app.core.models import Manifest
from app.service.commit.record_and_prune import CommitRecorder
from app.service.state.context import Context
from app.service.state.pending_commits import Committed


class Publisher:
    """Publishes sealed uploads. The bytes are in place before a row says so."""

    def __init__(self, context: Context, recorder: CommitRecorder) -> None:
        self._context = context
        self._recorder = recorder

    def publish(self, upload_id: str, manifest: Manifest) -> Committed:
        """Move a sealed checkpoint into its directory, record it, and prune. Idempotent."""
        self._context.storage.content.publish(upload_id, manifest)
        return self._recorder.record(upload_id, manifest)
