"""The interface of the Python client, from its signatures and docstrings."""

import inspect
import json
import re
from functools import partial
from typing import Any

import holdfast
from scripts.reference.markdown import code, from_rst, kept, sentence
from scripts.reference.markdown import table as a_table

_ANSWERS = (
    "DirectoryInfo",
    "PolicyInfo",
    "CheckpointInfo",
    "FileInfo",
    "Listing",
    "Event",
    "PruneResult",
    "DirectoryPrune",
    "Verdict",
    "Reason",
)
_SECTIONS = ("Parameters", "Attributes", "Returns", "Raises", "Examples")


_MODULES = re.compile(r"\b(?:pathlib|collections\.abc|holdfast(?:\.\w+)*)\.")
"""The modules of types, which a signature leaves out."""


def parts() -> dict[str, Any]:
    """Return the writers of the classes and functions that the package exports, and of its errors."""
    return {
        "CheckpointManager": partial(_class, holdfast.CheckpointManager),
        "save_checkpoint_with_cleanup": partial(_callable, holdfast.save_checkpoint_with_cleanup),
        "GracefulStop": partial(_class, holdfast.GracefulStop),
        "SharedSave": partial(_class, holdfast.SharedSave, of="SharedSave."),
        "shared state": _shared_state,
        "Client": partial(_class, holdfast.Client, of="Client."),
        "watch": partial(_callable, holdfast.watch),
        "answers": _answers,
        "errors": _errors,
    }


def _shared_state(_: str) -> str:
    """Return the attributes of the state of a shared save."""
    found = holdfast.SharedStatus, holdfast.WriterState
    return "\n\n".join(f"### {kind.__name__}\n\n{_doc(kind.__doc__ or '')}" for kind in found)


def _answers(_: str) -> str:
    """Return what a `Client` answers with: the attributes of each class, and its other members."""
    kinds = [getattr(holdfast, name) for name in _ANSWERS]
    return "\n\n".join(f"### {kind.__name__}\n\n{_doc(kind.__doc__ or '')}{_members(kind)}" for kind in kinds)


def _members(kind: type) -> str:
    """Return the properties and methods of a class for which no section is needed, a line each."""
    found = {name: value for name, value in vars(kind).items() if not name.startswith("_") and value.__doc__}
    shown = {
        name if isinstance(value, property) else f"{name}()": value
        for name, value in found.items()
        if isinstance(value, property) or inspect.isfunction(value)
    }
    lines = [f"- `{name}`: {_paragraphs(_first_paragraph(value))}" for name, value in shown.items()]
    return "\n\n" + "\n".join(lines) if lines else ""


def _class(kind: type, _: str, of: str = "") -> str:
    """Return a class and its members; ``of`` stands before their names in headings, which are unique in a page."""
    members = [
        f"### {of}{name}\n\n{_callable(found, _) if callable(found) else _doc(found.__doc__ or '')}"
        for name, found in _own(kind).items()
        if not name.startswith("_") and (callable(found) or isinstance(found, property)) and found.__doc__
    ]
    return "\n\n".join([_signature(kind.__name__, kind), _doc(kind.__doc__ or ""), *members])


def _first_paragraph(found: Any) -> str:
    return inspect.cleandoc(found.__doc__).partition("\n\n")[0]


def _own(kind: type) -> dict[str, Any]:
    """Return the members of a class, also those that it inherits from other classes of the package."""
    ours = [each for each in reversed(kind.__mro__) if each.__module__.startswith("holdfast")]
    return {name: found for each in ours for name, found in vars(each).items()}


def _callable(found: Any, _: str) -> str:
    return "\n\n".join([_signature(found.__name__, found), _doc(found.__doc__ or "")])


def _signature(name: str, found: Any) -> str:
    signature = inspect.signature(found)
    parameters = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    shown: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown and not any(s.startswith("*") for s in shown):
            shown.append("*")
        stars = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={_value(parameter.default)}"
        shown.append(f"{stars}{parameter.name}{default}")
    returned = signature.return_annotation
    gives = "" if returned in (signature.empty, None) else f" -> {_MODULES.sub('', inspect.formatannotation(returned))}"
    one = f"{name}({', '.join(shown)}){gives}"
    if len(one) > 100:
        one = f"{name}(\n" + "".join(f"    {each},\n" for each in shown) + f"){gives}"
    return f"```python\n{one.replace('typing.', '')}\n```"


def _value(default: Any) -> str:
    if isinstance(default, int) and not isinstance(default, bool) and default and default % 2**30 == 0:
        return f"{default // 2**30} * 2**30"
    if type(default).__module__.startswith("holdfast"):
        return "..."
    if isinstance(default, tuple):
        return f"({', '.join(str(getattr(each, 'name', each)) for each in default)},)"
    return json.dumps(default) if isinstance(default, str) else repr(default)


def _doc(text: str) -> str:
    """Turn a NumPy docstring into Markdown, with tables of parameters and errors."""
    lines = inspect.cleandoc(text)
    pieces = re.split(rf"(?m)^({'|'.join(_SECTIONS)})\n-+\n", lines)
    blocks = [_paragraphs(pieces[0])]
    for name, body in zip(pieces[1::2], pieces[2::2], strict=True):
        blocks.append(_section(name, body))
    return "\n\n".join(filter(None, blocks))


def _paragraphs(text: str) -> str:
    return "\n\n".join(sentence(from_rst(part)) for part in text.strip().split("\n\n") if part.strip())


def _section(name: str, body: str) -> str:
    if name == "Examples":
        return f"```pycon\n{body.strip()}\n```"
    rows = [(head.strip(), sentence(from_rst(" ".join(about.split())))) for head, about in _entries(body)]
    if name == "Attributes" and not any(about for _, about in rows):
        return f"Attributes: {', '.join(code(head) for head, _ in rows)}."
    if name in ("Parameters", "Attributes"):
        title = "parameter" if name == "Parameters" else "attribute"
        split = [head.partition(" : ") for head, _ in rows]
        return a_table(
            (title, "type", "description"),
            ((code(first), from_rst(kind), about) for (first, _, kind), (_, about) in zip(split, rows, strict=True)),
        )
    if name == "Returns":
        return "\n".join(f"Returns `{head}`: {about}" if about else f"Returns `{head}`." for head, about in rows)
    return a_table(
        ("raises", "when"), ((", ".join(code(one) for one in head.split(", ")), about) for head, about in rows)
    )


def _entries(body: str) -> list[tuple[str, str]]:
    found = re.findall(r"(?m)^(\S.*)\n((?:(?:[ ]{4}.*)?(?:\n|\Z))*)", body.strip("\n") + "\n")
    return [(head, about) for head, about in found]


def _errors(standing: str) -> str:
    """Return each error with its family, when it is raised, and the codes, which are written in the page."""
    codes = kept(standing, "error")
    rows = []
    for name in holdfast.__all__:
        kind = getattr(holdfast, name)
        if inspect.isclass(kind) and issubclass(kind, Exception):
            family = next(base.__name__ for base in kind.__mro__[1:] if not base.__module__.startswith("holdfast"))
            when = sentence(from_rst((kind.__doc__ or "").split("\n\n")[0]))
            rows.append((code(name), code(family), when, codes.get(code(name), "")))
    return a_table(("error", "also a", "when", "codes"), rows)
