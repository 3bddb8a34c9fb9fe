"""The expectation of a server: the checkpoints that should be there, by rules of the tests' own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.core.models import Policy, PolicyRequest

Contents = Mapping[str, tuple[bytes, ...]]
"""By path the pieces of each file; the same bytes cut elsewhere are other contents."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint that should be there. ``id`` and ``sequence`` are None until the server has answered or must know.

    ``saved_after`` is the last sequence that its writer knew when its save began; None until the server has answered.
    ``is_cut`` says that its pieces are its chunks; otherwise the server was free to cut it elsewhere.
    """

    name: str
    save_id: str
    contents: Contents = field(repr=False)
    facts: Mapping[str, Any]
    id: str | None = None
    sequence: int | None = None
    saved_after: int | None = None
    is_cut: bool = True

    def differences(self, row: Mapping[str, Any]) -> list[str]:
        """In what the server's answer is not what is expected, in words."""
        expected = {"save_id": self.save_id, **self.facts}
        known = ("id", "sequence", "saved_after")
        expected |= {key: value for key in known if (value := getattr(self, key)) is not None}
        expected["size_bytes"] = sum(len(piece) for pieces in self.contents.values() for piece in pieces)
        found = [
            f"{self.name}: {key} is {row[key]!r}, not {value!r}" for key, value in expected.items() if row[key] != value
        ]
        paths = sorted(file["path"] for file in row["files"])
        return found + ([] if paths == sorted(self.contents) else [f"{self.name}: its files are {paths}"])

    def as_told(self, row: Mapping[str, Any]) -> "Kept":
        """The same, with what only the server can say."""
        return replace(self, id=row["id"], sequence=row["sequence"], saved_after=row["saved_after"])

    @property
    def position(self) -> tuple[int, int]:
        """The key of its order."""
        return self.saved_after or 0, self.sequence or 0


@dataclass(frozen=True, slots=True)
class State:
    """A directory, or the part of one that one writer uses; then ``sequence`` is None, as it cannot know."""

    kept: Mapping[str, Kept] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    sequence: int | None = 0

    def saved(self, new: Kept, asked: PolicyRequest) -> "State":
        """After a save: it takes its place, replaces what had its name, and its directory is pruned.

        The limits of one that began before the newest was saved do not count.
        """
        if any((kept.saved_after or 0) > (new.saved_after or 0) for kept in self.kept.values()):
            asked = PolicyRequest(asked.mode)
        standing = self.kept.get(new.name)
        sequence = None if self.sequence is None else self.sequence + 1
        if standing is not None and standing.contents == new.contents:
            tags = list(dict.fromkeys([*standing.facts["tags"], *new.facts["tags"]]))
            pinned = standing.facts["pinned"] or new.facts["pinned"]
            new = replace(new, id=standing.id, facts={**new.facts, "tags": tags, "pinned": pinned})
        kept = {**self.kept, new.name: replace(new, sequence=sequence)}
        return replace(self, kept=kept, policy=self.policy.after_save(asked), sequence=sequence).pruned()

    def changed(self, name: str, facts: Mapping[str, Any]) -> "State":
        """After other facts were given to a checkpoint; nothing goes."""
        standing = self.kept[name]
        return replace(self, kept={**self.kept, name: replace(standing, facts={**standing.facts, **facts})})

    def without(self, *names: str) -> "State":
        """After these were removed."""
        return replace(self, kept={name: kept for name, kept in self.kept.items() if name not in names})

    def restored(self, kept: Kept) -> "State":
        """After one that was removed was brought back; it is pinned where the policy would let it go again."""
        back = replace(self, kept={**self.kept, kept.name: kept})
        return back if kept.name in back.pruned().kept else back.changed(kept.name, {"pinned": True})

    def ordered(self, asked: PolicyRequest) -> "State":
        """After an operator has set a policy; nothing goes yet."""
        return replace(self, policy=self.policy.set_by_operator(asked))

    def pruned(self) -> "State":
        """Return the checkpoints after the policy has pruned."""
        policy = self.policy
        if policy.keeps_everything or not self.kept:
            return self
        newest_first = self._newest_first()
        regular = [kept for kept in newest_first if kept.facts["kind"] == "regular"]
        every = policy.keep_every_epochs
        staying = {newest_first[0].name}
        staying |= {kept.name for kept in regular[: policy.max_checkpoints]}
        staying |= {kept.name for kept in self.ranked()[: policy.max_best_checkpoints]}
        staying |= {kept.name for kept in newest_first if kept.facts["pinned"]}
        staying |= {kept.name for kept in regular if every is not None and kept.facts["epoch"] % every == 0}
        return self.without(*(self.kept.keys() - staying))

    def latest(self) -> Kept | None:
        """The newest."""
        return next(iter(self._newest_first()), None)

    def ranked(self) -> list[Kept]:
        """Those with a finite metric, best first; the older one first among equals. Then those that are flagged."""
        sign = -1 if self.policy.mode == "max" else 1
        newest_first = self._newest_first()
        measured = [kept for kept in reversed(newest_first) if isinstance(kept.facts["metric"], float)]
        flagged = [kept for kept in newest_first if kept.facts["metric"] is None and kept.facts["is_best"]]
        return sorted(measured, key=lambda kept: sign * kept.facts["metric"]) + flagged

    def _newest_first(self) -> list[Kept]:
        return sorted(self.kept.values(), key=lambda kept: kept.position, reverse=True)
