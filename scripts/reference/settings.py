"""The table of the server's settings, from `app.settings`."""

from app.cli.flags import ALL, _shown
from app.settings import Settings
from scripts.reference.markdown import code, sentence
from scripts.reference.markdown import table as a_table


def table(_: str) -> str:
    """Each setting with its variable, its flag, its default and its description."""
    return a_table(
        ("variable", "flag", "default", "description"),
        (
            (
                code(f"HOLDFAST_{name.upper()}"),
                code(f"--{name.replace('_', '-')}") if name in ALL else "none",
                _default(name),
                sentence(field.description or ""),
            )
            for name, field in Settings.model_fields.items()
        ),
    )


def _default(name: str) -> str:
    found = _shown(name)
    return found if found in {"none", "in the root"} else code(found) if found else "none"
