"""Packages that only some calls need: their absence is an error that names what to install."""

import importlib
from types import ModuleType

from .errors import MissingPackage

_EXTRAS = {"torch": 'pip install "holdfast[torch]"', "typer": 'pip install "holdfast[cli]"'}


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
    install = _EXTRAS.get(name, f"pip install {name}")
    return MissingPackage(f"{what} needs the package {name!r}, which is not installed here: {install}", name=name)
