"""Optional packages: their absence is an error that names the command to install them."""

import importlib
from types import ModuleType

from ..errors import MissingPackage

_EXTRAS = {"torch": '"torch>=2.7"', "cli": '"rich>=14" "typer>=0.29"', "socks": '"socksio>=1.0"'}
"""The packages that each extra installs, as in ``client/pyproject.toml``."""
_EXTRA_OF = {"torch": "torch", "typer": "cli", "rich": "cli", "socksio": "socks"}


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra, independent of the origin of this package."""
    return f"pip install {_EXTRAS[extra]}"


def torch_for(what: str) -> ModuleType:
    """Return the module ``torch``, as `package_for` does."""
    return package_for("torch", what)


def package_for(name: str, what: str) -> ModuleType:
    """Return the module of an optional package.

    Parameters
    ----------
    what : str
        The feature that needs it, as the beginning of a sentence.

    Raises
    ------
    MissingPackage
        It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise missing(name, what) from error


def missing(name: str, what: str) -> MissingPackage:
    """Make the error for a package that is not installed."""
    command = install_command(_EXTRA_OF[name]) if name in _EXTRA_OF else f"pip install {name}"
    return MissingPackage(f"{what} needs the package {name!r}, which is not installed here: {command}", name=name)
