"""Symbolic reading of a pickle: its opcodes, interpreted over plain values and placeholders.

No object that a pickle names is imported, built or called. The caller gives placeholders for names; every other name,
and any object made from it, is `OPAQUE`. Pure, and bounded: a pickle is hostile input.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.formats.read_budget import Budget

MAX_DEPTH = 1_000_000
"""The most values or marks on the stack."""
MAX_INT = 2**63
"""Larger numbers are refused as keys, since an attacker can choose them to collide."""
MAX_KEY = 1000
"""The most bytes or characters in a key that is not a text."""
MAX_ARGUMENTS = 16
MAX_NAME = 200
"""Longer names are never known. Without the bound, a long text in the memo could be looked up again and again."""
_PROTOCOLS = range(6)


class Unreadable(ValueError):
    """The pickle is corrupt, or uses an opcode or operation that is not interpreted."""


class Opaque:
    """A placeholder for any object that a pickle would build."""


OPAQUE = Opaque()


@dataclass(frozen=True, slots=True)
class Constructor:
    """A placeholder for a function or class whose result the caller knows."""

    made: Callable[..., Any]

    def of(self, arguments: Any) -> Any:
        if type(arguments) is not tuple or len(arguments) > MAX_ARGUMENTS:
            raise Unreadable("arguments are no tuple, or too many")
        return self.made(*arguments)


@dataclass(frozen=True, slots=True)
class Tagged:
    """A dictionary key that is neither text nor number, by its representation."""

    text: str


def read(data: bytes, names: Mapping[str, Any], persistent: Callable[[Any], Any], budget: Budget) -> Any:
    """Interpret a pickle and return its value. Each opcode is a step of the budget.

    Parameters
    ----------
    names : mapping of str
        Placeholders by ``"module name"``; a `Constructor` makes a value when it is called.
    persistent : callable
        Returns the placeholder of a persistent id.

    Raises
    ------
    Unreadable
        The pickle is corrupt or not interpreted. The callables may raise other exceptions.
    BudgetExceeded
    """
    machine = _Machine(names, persistent, budget.steps // 4)
    for opcode, argument, _ in pickletools.genops(data):
        budget.spend()
        if len(machine.stack) > MAX_DEPTH:
            raise Unreadable("the stack is too long")
        if (step := _STEPS.get(opcode.name)) is None:
            raise Unreadable(f"{opcode.name} is not interpreted")
        step(machine, argument)
    return machine.pop()


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self, names: Mapping[str, Any], persistent: Callable[[Any], Any], max_memo: int) -> None:
        self.stack: list[Any] = []
        self.names = names
        self.persistent = persistent
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._max_memo = max_memo

    def pop(self) -> Any:
        if len(self.stack) <= (self._marks[-1] if self._marks else 0):
            raise Unreadable("the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        self.stack.append(found := self.pop())
        return found

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        if len(self._marks) >= MAX_DEPTH:
            raise Unreadable("there are too many marks")
        self._marks.append(len(self.stack))

    def marked(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        if not self._marks:
            raise Unreadable("there is no mark")
        start = self._marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def pop_or_mark(self, _: Any) -> None:
        if self._marks and self._marks[-1] == len(self.stack):
            self._marks.pop()
        else:
            self.pop()

    def memoize(self, place: int | None) -> None:
        if len(self._memo) >= self._max_memo:
            raise Unreadable("the memo is too long")
        self._memo[len(self._memo) if place is None else place] = self.top()

    def recall(self, place: int) -> None:
        if place not in self._memo:
            raise Unreadable("there is no such value in the memo")
        self.push(self._memo[place])

    def tuple_of(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def extend(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) is list:
            target.extend(values)
        elif target is not OPAQUE:
            raise Unreadable("it is appended to what is no list")

    def set_items(self, flat: list[Any]) -> None:
        target = self.top()
        if len(flat) % 2 or not (target is OPAQUE or isinstance(target, dict)):
            raise Unreadable("items are set of what is no dictionary")
        if isinstance(target, dict):
            for place in range(0, len(flat), 2):
                if (key := _key(flat[place])) is not OPAQUE:
                    target[key] = flat[place + 1]

    def new_dict(self) -> None:
        items = self.marked()
        self.push({})
        self.set_items(items)

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise Unreadable("a name is no text")
        is_long = len(module) + len(name) > MAX_NAME
        self.push(OPAQUE if is_long else self.names.get(f"{module} {name}", OPAQUE))

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        self.name(module, name)

    def reduce(self, _: Any) -> None:
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple:
            raise Unreadable("arguments are no tuple")
        if isinstance(function, Constructor):
            self.push(function.of(arguments))
        else:
            self._make_opaque(function)

    def new_object(self, values: int) -> None:
        for _ in range(values):
            self.pop()
        self._make_opaque(self.pop())

    def _make_opaque(self, kind: Any) -> None:
        if kind is not OPAQUE:
            raise Unreadable("what is called is no function")
        self.push(OPAQUE)

    def build(self, _: Any) -> None:
        """Ignore the state of an object: no interpreted value needs one."""
        self.pop()
        if self.top() is not OPAQUE and type(self.top()) is not dict:
            raise Unreadable("a state is given to what has none")

    def opaque(self, count: int) -> None:
        for _ in range(count):
            self.pop()
        self.push(OPAQUE)

    def opaque_of_marked(self) -> None:
        self.marked()
        self.push(OPAQUE)


def _key(value: Any) -> Any:
    """Convert a key so that a pickle cannot choose its hash; `OPAQUE` for one without a representation."""
    kind = type(value)
    if kind is str or value is None or kind is float or kind is bool:
        return value
    if kind is int:
        return _ordinary(value)
    if kind is bytes or kind is tuple:
        return Tagged(str(value)) if _is_short(value if kind is tuple else (value,)) else OPAQUE
    if kind is list or kind is dict:
        raise Unreadable("a key has no hash")
    return OPAQUE


def _is_short(values: Sequence[Any]) -> bool:
    """Tell if the values of a key are plain and short."""
    left = MAX_KEY
    for value in values:
        if type(value) is str or type(value) is bytes:
            left -= len(value)
        elif type(value) is int:
            _ordinary(value)
        elif value is not None and type(value) is not float and type(value) is not bool:
            return False
        left -= 1
        if left < 0:
            raise Unreadable("a key is too long")
    return True


def _ordinary(value: int) -> int:
    if not -MAX_INT <= value < MAX_INT:
        raise Unreadable("a key is a number beyond all others")
    return value


def _protocol(_: _Machine, number: int) -> None:
    if number not in _PROTOCOLS:
        raise Unreadable(f"the protocol {number} is not known")


def _text(machine: _Machine, text: str) -> None:
    if not text.isascii():
        raise Unreadable("bytes are no text")
    machine.push(text)


_Step = Callable[[_Machine, Any], object]
_STEPS: Mapping[str, _Step] = {
    "PROTO": _protocol,
    **dict.fromkeys(("FRAME", "STOP"), lambda machine, _: None),
    **dict.fromkeys(
        ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"), _Machine.push
    ),
    **dict.fromkeys(("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"), _Machine.push),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_SET": lambda machine, _: machine.push(OPAQUE),
    "LIST": lambda machine, _: machine.push(machine.marked()),
    "DICT": lambda machine, _: machine.new_dict(),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.marked())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "FROZENSET": lambda machine, _: machine.opaque_of_marked(),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.marked()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marked()),
    "MARK": _Machine.mark,
    "POP": _Machine.pop_or_mark,
    "POP_MARK": lambda machine, _: machine.marked(),
    "DUP": lambda machine, _: machine.push(machine.top()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.memoize),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.recall),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.stack_name(),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda machine, _: machine.push(OPAQUE)),
    "REDUCE": _Machine.reduce,
    "NEWOBJ": lambda machine, _: machine.new_object(1),
    "NEWOBJ_EX": lambda machine, _: machine.new_object(2),
    "BUILD": _Machine.build,
    "BINPERSID": lambda machine, _: machine.push(machine.persistent(machine.pop())),
}
"""The effect of each opcode, without those that torch never writes (INST, OBJ, buffers, ...)."""
