"""Concurrency limit: the most requests that each token may have in progress. State of this process only.

The size of bodies is limited elsewhere: `app.main` gives ``max_json_bytes`` to the routes below ``/v1`` as their
``max_body_size``, and routes that stream a body to disk pass ``UNBOUNDED`` of `app.http.body.raw` instead.
"""

from collections import Counter

from app.core.errors import TooManyRequests


class RequestsInProgress:
    """Counts the requests in progress for each token, and refuses those above the limit.

    A token has an entry only while it has a request in progress, so the size is bounded by the open connections.
    Used on the event loop only, hence without a lock. Several servers over one root each count for themselves.
    """

    def __init__(self, max_per_token: int) -> None:
        self._max_per_token = max_per_token
        self._by_token: Counter[str] = Counter()

    def begin(self, token_id: str) -> None:
        """Count a request that begins.

        Raises
        ------
        TooManyRequests
            The token already has as many requests in progress as allowed.
        """
        if self._by_token[token_id] >= self._max_per_token:
            raise TooManyRequests(
                f"This token already has {self._max_per_token} requests in progress (HOLDFAST_MAX_REQUESTS_PER_TOKEN)."
            )
        self._by_token[token_id] += 1

    def end(self, token_id: str) -> None:
        """Count a request that has ended."""
        self._by_token[token_id] -= 1
        if not self._by_token[token_id]:
            del self._by_token[token_id]
