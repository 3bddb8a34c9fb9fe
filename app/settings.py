"""The server's settings: ``HOLDFAST_*`` in the environment, as one frozen object.

Only `app.main`, `app.bootstrap` and the command line import this; other modules are given values.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from app.auth.token_format import PREFIX
from app.core import units
from app.core.limits import MOST, Limits
from app.core.quotas import Quota, read

OF_CLIENTS = ("HOLDFAST_TOKEN", "HOLDFAST_TOKEN_FILE")
"""Variables of clients, often set in the same environment: the server warns about them and never reads them."""

RENAMED = {"lend_sockets": "socket_handover"}
"""Former names of settings and their present ones. A former name is read for one version, with a warning at start."""

FOREVER = "forever"
"""The value of settings that keep something without an end."""


def _in_seconds(value: Any) -> Any:
    """Parse text as seconds, with or without a unit; leave other values to pydantic."""
    if not isinstance(value, str):
        return value
    found = units.parse_seconds(value)
    try:
        return float(value) if found is None else found
    except ValueError:
        raise ValueError("must be a number of seconds, or a duration such as 30m, 24h or 7d") from None


def _in_seconds_or_forever(value: Any) -> Any:
    """Parse text as seconds, with or without a unit; None for ``forever``."""
    if isinstance(value, str) and value.strip().lower() == FOREVER:
        return None
    try:
        return _in_seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or {FOREVER}") from None


def _at_least(least: str) -> Callable[[float | None], float | None]:
    """Return a check of how long something is kept."""
    least_s = units.parse_seconds(least) or 0

    def check(value: float | None) -> float | None:
        if value is not None and not least_s <= value <= units.MAX_DURATION_S:
            raise ValueError(f"must be at least {least}, and 100 years at most; or {FOREVER}")
        return value

    return check


def _in_bytes(value: Any) -> Any:
    """Parse text as bytes, with or without a unit; leave other values to pydantic."""
    return found if isinstance(value, str) and (found := units.parse_bytes(value)) is not None else value


def misspelt(environment: Iterable[str]) -> dict[str, str]:
    """Find variables that are no settings but resemble one; return the likely setting of each."""
    known = [f"HOLDFAST_{name.upper()}" for name in Settings.model_fields]
    taken = {*known, *OF_CLIENTS, *(f"HOLDFAST_{name.upper()}" for name in RENAMED)}
    others = [name for name in environment if name.startswith("HOLDFAST_") and name not in taken]
    begun = {name: [each for each in known if each.startswith(f"{name}_")] for name in others}
    near = {name: get_close_matches(name, known, 1, 0.85) or begun[name] for name in others}
    return {name: found[0] for name, found in near.items() if found}


def renamed(environment: Mapping[str, str]) -> dict[str, str]:
    """Find variables with a former name; return the present name of each."""
    return {variable: f"HOLDFAST_{name.upper()}" for variable, name in _former_variables(environment).items()}


def variable_of(name: str, environment: Mapping[str, str]) -> str:
    """Return the variable that a setting is read from: the present one, unless only a former one is set."""
    present = f"HOLDFAST_{name.upper()}"
    if any(variable.upper() == present for variable in environment):
        return present
    return next((variable for variable, of in _former_variables(environment).items() if of == name), present)


def _former_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Find variables with a former name, in capitals or not; return the setting of each."""
    known = {f"HOLDFAST_{former.upper()}": name for former, name in RENAMED.items()}
    return {variable: known[variable.upper()] for variable in environment if variable.upper() in known}


def _listed(value: Any) -> Any:
    """Split a list that is written as JSON or with commas."""
    if not isinstance(value, str):
        return value
    parts = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
    return [part.strip() for part in parts if part.strip()] if all(isinstance(part, str) for part in parts) else parts


def _one_line(value: Any) -> Any:
    """Strip white space, which files and secrets often end with; None if nothing is left."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if not text.isprintable():
        raise ValueError("contains a line break or another control character")
    return text or None


def _file_path(value: Any) -> Any:
    """Check a path. Only a shell expands ``~`` and ``$``; here they would become a folder of that name."""
    text = _one_line(value)
    if isinstance(text, str) and text.startswith(("~", "$")):
        raise ValueError(f"begins with {text[0]}, which only a shell expands; write the path out")
    if isinstance(text, str) and text.startswith(PREFIX):
        raise ValueError("looks like a token, but must be a path")
    return text


def _host_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check names of hosts. A URL or a port would never match."""
    for name in names:
        if not re.fullmatch(r"[^\s/@?#:]+|\[?[0-9A-Fa-f:.]+\]?", name) or not name.isprintable():
            raise ValueError(
                "must be a list of host names such as checkpoints.example,*.cluster.local, without scheme, port or path"
            )
    return names


def _url_path(value: Any) -> Any:
    """Normalise the path below which a proxy serves the server: a leading slash and none at the end."""
    text = _one_line(value)
    if text is None or not isinstance(text, str):
        return "" if text is None else text
    path = f"/{text.strip('/')}" if text.strip("/") else ""
    if not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)*", path) or {".", ".."} & set(path.split("/")):
        raise ValueError("must be a path such as /holdfast, of letters, digits and _.~- between slashes")
    return path


Line = Annotated[str, BeforeValidator(_one_line)]
APath = Annotated[Path, BeforeValidator(_file_path)]
Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Seconds = Annotated[float, BeforeValidator(_in_seconds), Field(ge=0, le=units.MAX_DURATION_S)]

Kept = Annotated[float | None, BeforeValidator(_in_seconds_or_forever)]


class Settings(BaseSettings):
    """The operator's settings. Each field is a variable ``HOLDFAST_<NAME>`` and a flag of ``serve``."""

    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", frozen=True)

    root: APath = Field(Path("holdfast-data"), description="The folder that the server owns.")
    host: Line = Field("127.0.0.1", description="The address to listen on; beyond loopback only with a token.")
    port: int = Field(8420, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    database_url: Annotated[str | None, BeforeValidator(_one_line)] = Field(
        None, description="The catalog's SQLite database; by default in the root."
    )
    admin_token: SecretStr | None = Field(None, description="A bearer token with every scope.")
    admin_token_file: Annotated[Path | None, BeforeValidator(_file_path)] = Field(
        None, description="A file with such a token; created with a new token at the first start."
    )
    root_path: Annotated[str, BeforeValidator(_url_path)] = Field(
        "", description="The path below which a proxy serves the server, such as /holdfast."
    )
    allowed_hosts: Annotated[Texts, AfterValidator(_host_names)] = Field(
        (), description="Further host names that the server accepts: a.example,*.b.example; * is any."
    )
    trusted_proxies: Texts = Field((), description="Addresses of proxies whose X-Forwarded-For and -Proto are trusted.")
    access_log: bool = Field(False, description="Log a line for each request.")
    max_requests_per_token: int = Field(1000, ge=1, description="The most concurrent requests of one token.")
    max_uploads_per_token: int = Field(1000, ge=1, description="The most open uploads of one token.")
    upload_lease_s: float = Field(86400.0, gt=0, description="How long an upload without activity is kept, in seconds.")
    writer_window_s: float = Field(60.0, ge=0, description="How long a writer counts as active, in seconds.")
    undo_window: Seconds = Field(
        0.0, description="How long removed checkpoints can be restored: seconds, or 30m, 24h, 7d."
    )
    reserve_bytes: Annotated[int, BeforeValidator(_in_bytes)] = Field(
        256 * 1024 * 1024, ge=0, description="The free disk space that saves must leave: bytes, or 500MiB, 2GB."
    )
    janitor_every_s: float = Field(30.0, gt=0, description="The interval of background maintenance, in seconds.")
    copy_catalog_every: Seconds = Field(
        86400.0, description="How often the catalog is backed up: seconds, or 30m, 24h, 7d; 0: never."
    )
    keep_events: Annotated[Kept, AfterValidator(_at_least("1h"))] = Field(
        30 * 86400.0, description="How long events are kept: seconds, or 1h, 30d; forever."
    )
    keep_audit: Annotated[Kept, AfterValidator(_at_least("7d"))] = Field(
        400 * 86400.0, description="How long the audit log is kept, at least 7d: seconds, or 7d, 400d; forever."
    )
    keep_removed: Annotated[Kept, AfterValidator(_at_least("1h"))] = Field(
        90 * 86400.0, description="How long the facts of removed checkpoints are kept: seconds, or 1h, 90d; forever."
    )
    scrub_bytes_per_s: float = Field(
        32e6, ge=0, description="How fast the scrub reads checkpoints back, in bytes/s; 0: never."
    )
    scrub_every: Seconds = Field(
        604800.0, description="How often the scrub reads each one back: seconds, or 30m, 24h, 7d."
    )
    max_json_bytes: int = Field(32 * 1024 * 1024, gt=0, description="The largest JSON body, in bytes.")
    socket_handover: bool = Field(
        True, description="Move large bodies on worker threads, past the event loop: less CPU time."
    )
    shutdown_timeout_s: int = Field(10, ge=1, description="How long a stopping server waits for transfers, in seconds.")
    max_header_bytes: int = Field(64 * 1024, ge=4096, description="The largest request line with headers, in bytes.")
    head_timeout_s: float = Field(30.0, gt=0, description="How long a request's head may take to arrive, in seconds.")
    idle_timeout_s: float = Field(
        300.0,
        gt=0,
        description="How long a client may neither send nor receive a byte of a body, in seconds.",
    )
    body_grace_s: float = Field(
        300.0, gt=0, description="How long a body may be slower than the minimum rate, in seconds."
    )
    min_bytes_per_s: float = Field(1000.0, gt=0, description="The minimum average rate of a body, in bytes/s.")

    quotas: Annotated[tuple[Quota, ...], BeforeValidator(read)] = Field(
        (), validate_default=False, description="Limits of bytes and checkpoints by prefix, as JSON."
    )

    max_metadata_bytes: int = Field(
        MOST.metadata_bytes, ge=2, le=MOST.metadata_bytes, description="The most metadata of a checkpoint, in bytes."
    )
    max_metadata_depth: int = Field(
        MOST.metadata_depth, ge=1, le=MOST.metadata_depth, description="How deep metadata may be nested."
    )
    max_files: int = Field(MOST.files, ge=1, le=MOST.files, description="The most files of a checkpoint.")
    max_chunks: int = Field(
        MOST.chunks, ge=1, le=MOST.chunks, description="The most chunks of a checkpoint, in all its files."
    )
    max_tensors: int = Field(
        MOST.tensors, ge=0, le=MOST.tensors, description="The most tensors of a checkpoint, in all its files."
    )
    max_tags: int = Field(MOST.tags, ge=0, le=MOST.tags, description="The most tags of a checkpoint.")
    max_page_size: int = Field(MOST.page_size, ge=1, le=MOST.page_size, description="The most entries of a page.")
    max_ranges: int = Field(
        MOST.ranges, ge=1, le=MOST.ranges, description="The most missing ranges that an answer about an upload lists."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then former names of variables."""
        former = {name: os.environ[variable] for variable, name in _former_variables(os.environ).items()}
        return init_settings, env_settings, InitSettingsSource(settings_cls, former)

    @property
    def limits(self) -> Limits:
        """The limits of requests."""
        return Limits(**{field.name: getattr(self, f"max_{field.name}") for field in fields(Limits)})

    @property
    def admin_token_text(self) -> str | None:
        """The admin token as text, stripped; None if none is configured."""
        return (self.admin_token.get_secret_value().strip() or None) if self.admin_token is not None else None
