"""Packages that only some calls need: their absence is an error that names what to install."""

import importlib
from types import ModuleType

from ..errors import MissingPackage

_EXTRAS = {"torch": '"torch>=2.7"', "cli": '"rich>=14" "typer>=0.29"', "socks": '"socksio>=1.0"'}
"""The packages that each extra installs, as it stands in ``client/pyproject.toml``."""
_EXTRA_OF = {"torch": "torch", "typer": "cli", "rich": "cli", "socksio": "socks"}


def install(extra: str) -> str:
    """The command that installs what an extra stands for, wherever the package itself came from."""
    return f"pip install {_EXTRAS[extra]}"


def torch_for(what: str) -> ModuleType:
    """The module ``torch``.

    Parameters
    ----------
    what : str
        What needs it, as the beginning of a sentence.

    Raises
    ------
    MissingPackage
        It is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise missing("torch", what) from error


def missing(name: str, what: str) -> MissingPackage:
    """The error for a package that is not installed."""
    command = install(_EXTRA_OF[name]) if name in _EXTRA_OF else f"pip install {name}"
    return MissingPackage(f"{what} needs the package {name!r}, which is not installed here: {command}", name=name)
