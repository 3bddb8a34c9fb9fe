"""Client: the queries and changes of a server's API for scripts, notebooks and dashboards, without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._api.server import parse_errors
from ._arguments import checks
from ._arguments.name_mapping import locate
from ._options import Mode
from ._query import changes, paged
from ._query.changes import UNCHANGED, Retention, Unchanged
from ._query.connected import AnyCheckpoint, AnyDirectory, id_of
from ._query.infos import CheckpointInfo, DirectoryInfo
from ._query.reading import Reading
from ._query.reports import PruneResult


class Client(Reading):
    """Finds, watches, downloads and changes the checkpoints of a server. It needs no torch, and loads no state.

    Constructing a client sends nothing. Names are those that a `CheckpointManager` with the same settings takes, and
    answers give them back in the same form. A query of an unreachable server is repeated; a change is sent once, so
    after `ServerUnreachable` it may have happened. What is not there is a `CheckpointNotFound`, never None.

    Parameters
    ----------
    server : str, optional
        The server's URL. Default: ``HOLDFAST_URL``, else ``http://127.0.0.1:8420``.
    token : str, optional
        The server's token. Default: the content of ``token_file``, else ``HOLDFAST_TOKEN``, else the content of the
        file ``HOLDFAST_TOKEN_FILE``.
    token_file : str or Path, optional
        A file that holds the token. It is read again when it changes.
    timeout_s : float
        The time, in seconds, that the server may be silent before a request counts as failed.
    patience_s : float
        A query retries an unreachable server for three times this time, in seconds.
    prefix : str, optional
        A prefix that stands before every name on the server; ``""`` for none. Default: ``HOLDFAST_PREFIX``.

    Raises
    ------
    ValueError
        An argument or a setting cannot work (`InvalidRequest`, ``invalid_setting``).
    TypeError
        An argument has the wrong type.

    Examples
    --------
    >>> from holdfast import CheckpointManager
    >>> manager = CheckpointManager("runs/queried")
    >>> for epoch, loss in enumerate([0.9, 0.3, 0.5]):
    ...     path = manager.save({}, epoch=epoch, loss=loss)
    >>> with Client() as client:
    ...     client.directory("runs/queried").count, client.best("runs/queried").name
    (3, 'checkpoint_epoch_0001.pt')
    """

    def pin(self, checkpoint: AnyCheckpoint) -> CheckpointInfo:
        """Pin a checkpoint: no policy removes it, and nothing replaces it, until it is unpinned.

        This, and every other change of a checkpoint but `delete`, needs a token with the scope ``write``. A checkpoint
        is given as for `checkpoint`; the facts after the change are returned.

        Raises
        ------
        CheckpointNotFound
            There is no such checkpoint, or it was removed.
        NotAllowed
            The token lacks that scope.

        Examples
        --------
        >>> from holdfast import CheckpointManager
        >>> path = CheckpointManager("runs/marked").save({}, epoch=1)
        >>> Client().pin(path).pinned, Client().tag(path, "paper").tags, Client().untag(path, "paper").tags
        (True, ('paper',), ())
        """
        return self._changed(checkpoint, {"pinned": True})

    def unpin(self, checkpoint: AnyCheckpoint) -> CheckpointInfo:
        """Unpin a checkpoint: the policy may remove it at the next save or prune."""
        return self._changed(checkpoint, {"pinned": False})

    def tag(self, checkpoint: AnyCheckpoint, *tags: str) -> CheckpointInfo:
        """Add tags to a checkpoint. A change of its tags by another client at the same moment may be lost."""
        added = changes.checked_tags(tags)
        found = self.checkpoint(checkpoint)
        return self._changed(found, {"tags": changes.tags_after(found.tags, add=added)})

    def untag(self, checkpoint: AnyCheckpoint, *tags: str) -> CheckpointInfo:
        """Remove tags from a checkpoint; those that it does not have are ignored. See `tag`."""
        removed = changes.checked_tags(tags)
        found = self.checkpoint(checkpoint)
        return self._changed(found, {"tags": changes.tags_after(found.tags, remove=removed)})

    def change(
        self,
        checkpoint: AnyCheckpoint,
        *,
        epoch: int | Unchanged | None = UNCHANGED,
        step: int | Unchanged | None = UNCHANGED,
        metric: float | Unchanged | None = UNCHANGED,
        is_best: bool | Unchanged = UNCHANGED,
        metadata: Mapping[str, Any] | None = None,
        retention: Retention | Unchanged = UNCHANGED,
    ) -> CheckpointInfo:
        """Change facts of a checkpoint; what is left out stays. The ranking follows at once.

        Parameters
        ----------
        epoch, step, metric : optional
            The new values; None clears one.
        is_best : bool, optional
            Whether it is flagged as one of the best.
        metadata : mapping, optional
            Values to merge into the metadata; None drops a key.
        retention : {'policy', 'manual'}, optional
            Whether a policy decides if it stays.

        Raises
        ------
        TypeError, ValueError
            A value cannot be stored, or none is given. Nothing was sent.

        Examples
        --------
        >>> from holdfast import CheckpointManager
        >>> path = CheckpointManager("runs/changed").save({}, epoch=1, loss=0.5)
        >>> found = Client().change(path, metric=0.25, metadata={"note": "evaluated again", "loss": None})
        >>> found.metric, found.metadata
        (0.25, {'note': 'evaluated again'})
        """
        facts = changes.facts_to_change(
            epoch=epoch, step=step, metric=metric, is_best=is_best, retention=retention, metadata=metadata
        )
        return self._changed(checkpoint, facts)

    def delete(self, checkpoint: AnyCheckpoint) -> CheckpointInfo:
        """Delete a checkpoint. It needs a token with the scope ``delete``, and ``read`` if a path is given.

        Returns
        -------
        CheckpointInfo
            Its last facts; ``restorable`` tells if `restore` can bring it back.

        Raises
        ------
        CheckpointExists
            It is pinned (``pinned``).
        CheckpointNotFound
            There is no such checkpoint, or it was removed before.
        """
        found = changes.delete(self._lookup.server, self._id(checkpoint))
        return self._parsed(CheckpointInfo.from_json, found)

    def restore(self, checkpoint: AnyCheckpoint) -> CheckpointInfo:
        """Restore a removed checkpoint while the server still has its bytes: the undo of `delete`.

        The server keeps them for its undo window, by default not at all.

        Parameters
        ----------
        checkpoint : str, Path or CheckpointInfo
            Its path, which names the last one that was removed there; an id, or earlier facts.

        Returns
        -------
        CheckpointInfo
            Its facts; it has its former place in the order.

        Raises
        ------
        CheckpointNotFound
            There was no such checkpoint, or its bytes are gone.
        CheckpointExists
            A checkpoint of that name is live (``name_taken``).
        """
        checkpoint_id = id_of(checkpoint)
        if checkpoint_id is None:
            given, name = locate(checks.path("checkpoint", checkpoint), Path(), "")
            checkpoint_id = self._lookup.removed(given, name)["id"]
        return self._parsed(CheckpointInfo.from_json, changes.restore(self._lookup.server, checkpoint_id))

    def prune(
        self,
        directory: AnyDirectory | None = None,
        *,
        prefix: AnyDirectory | None = None,
        dry_run: bool = True,
        policy: Mapping[str, Any] | None = None,
    ) -> PruneResult:
        """Judge the checkpoints of directories by their policies; remove what no rule keeps only if told so.

        It needs a token with the scope ``delete``, also for a dry run.

        Parameters
        ----------
        directory : str, Path or DirectoryInfo, optional
            The directory. Either this or ``prefix`` is required.
        prefix : str, Path or DirectoryInfo, optional
            The prefix of all directories to judge; ``""`` means all that the client reaches.
        dry_run : bool
            Whether to only judge. False removes.
        policy : mapping, optional
            A policy to try on the directory: values for ``mode`` and for the limits that `set_policy` takes. Only for
            a dry run.

        Returns
        -------
        PruneResult
            The verdict on each checkpoint, with the reasons that keep it.

        Raises
        ------
        TypeError, ValueError
            The arguments contradict each other. Nothing was sent.

        Examples
        --------
        >>> from holdfast import CheckpointManager
        >>> manager = CheckpointManager("runs/judged")
        >>> for epoch, loss in enumerate([0.3, 0.9]):
        ...     path = manager.save({}, epoch=epoch, loss=loss)
        >>> judged = Client().prune("runs/judged", policy={"max_checkpoints": 1, "max_best_checkpoints": 0})
        >>> for verdict in judged.verdicts:
        ...     verdict.checkpoint.name, verdict.stays, [reason.text for reason in verdict.reasons]
        ('checkpoint_epoch_0001.pt', True, ['newest', 'last 1 of 1'])
        ('checkpoint_epoch_0000.pt', False, [])
        """
        if (directory is None) == (prefix is None):
            raise ValueError("give either a directory or a prefix; prefix='' means all directories")
        is_trial = checks.switch("dry_run", dry_run)
        asked: dict[str, Any] = {"dry_run": is_trial}
        if policy is not None:
            if directory is None or not is_trial:
                raise ValueError("a policy is only tried out: it needs a directory and dry_run=True")
            asked["policy"] = changes.policy_of(policy)
        if directory is not None:
            asked["directory"] = self._directory(directory)
        else:
            asked["prefix"] = self._below("prefix", None if prefix == "" else prefix)
        with parse_errors():
            return PruneResult.from_json(paged.prune(self._lookup, asked), self._lookup.shown)

    def set_policy(
        self,
        directory: AnyDirectory,
        *,
        mode: Mode | Unchanged = UNCHANGED,
        max_checkpoints: int | Unchanged | None = UNCHANGED,
        max_best_checkpoints: int | Unchanged | None = UNCHANGED,
        keep_every_epochs: int | Unchanged | None = UNCHANGED,
        keep_every_steps: int | Unchanged | None = UNCHANGED,
        if_match: str | None = None,
    ) -> DirectoryInfo:
        """Set the policy of a directory as its operator. It needs a token with the scope ``admin``.

        The limits given here take precedence over those of saves; those left out keep their values and are decided by
        saves again, also if an operator had set them. What the policy no longer keeps goes at the next save or prune:
        `prune` with ``policy`` shows beforehand what would go.

        Parameters
        ----------
        mode : {'min', 'max'}, optional
            Whether a smaller or a larger metric is better.
        max_checkpoints, max_best_checkpoints : int or None, optional
            The number of newest regular, and of best checkpoints to keep; None keeps all.
        keep_every_epochs, keep_every_steps : int or None, optional
            The intervals at which regular checkpoints are kept, too.
        if_match : str, optional
            The ``policy.etag`` of a directory: the policy is set only if it is still that one.

        Raises
        ------
        InvalidRequest
            The policy is another one than ``if_match`` names (``policy_changed``).
        TypeError, ValueError
            A limit is invalid. Nothing was sent.

        Examples
        --------
        >>> from holdfast import CheckpointManager
        >>> path = CheckpointManager("runs/limited").save({}, epoch=1)
        >>> before = Client().directory("runs/limited")
        >>> Client().set_policy(before, max_checkpoints=7, if_match=before.policy.etag).policy.max_checkpoints
        7
        """
        given = {
            "mode": mode,
            "max_checkpoints": max_checkpoints,
            "max_best_checkpoints": max_best_checkpoints,
            "keep_every_epochs": keep_every_epochs,
            "keep_every_steps": keep_every_steps,
        }
        policy, etag = changes.policy_of(given), changes.checked_etag(if_match)
        found = changes.put_policy(self._lookup.server, self._directory(directory), policy, etag)
        return self._parsed(DirectoryInfo.from_json, found)

    def _id(self, given: AnyCheckpoint) -> str:
        return id_of(given) or self.checkpoint(given).id

    def _changed(self, given: AnyCheckpoint, facts: Mapping[str, Any]) -> CheckpointInfo:
        found = changes.patch(self._lookup.server, self._id(given), facts)
        return self._parsed(CheckpointInfo.from_json, found)
