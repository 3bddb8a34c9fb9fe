"""The table of the server's settings, from `app.settings`."""

from app.cli.flags import ALL, _shown
from app.settings import Settings
from scripts.reference.markdown import code, sentence
from scripts.reference.markdown import table as a_table


def table(_: str) -> str:
    """Return each setting with its variable, its flag, its default and its description."""
    return a_table(
        ("setting", "default", "description"),
        (
            ("<br>".join(_names(name)), _default(name), sentence(field.description or ""))
            for name, field in Settings.model_fields.items()
        ),
    )


def _names(name: str) -> list[str]:
    """Return the variable, and the flag if there is one."""
    flag = [code(f"--{name.replace('_', '-')}")] if name in ALL else []
    return [code(f"HOLDFAST_{name.upper()}"), *flag]


def _default(name: str) -> str:
    found = _shown(name).removesuffix(".0")
    return found if found in {"none", "in the root"} else code(found) if found else "none"
