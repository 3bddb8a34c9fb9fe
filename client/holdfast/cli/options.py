"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from .completion import checkpoint_names, directory_names

ServerUrl = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="URL of the server. Default: HOLDFAST_URL, else this machine."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Directory = Annotated[
    str,
    typer.Argument(
        metavar="DIRECTORY", help="Directory, as the training job names it.", autocompletion=directory_names
    ),
]
CheckpointPath = Annotated[
    str,
    typer.Argument(
        metavar="CHECKPOINT",
        help="DIRECTORY/NAME, DIRECTORY/best or DIRECTORY/latest.",
        autocompletion=checkpoint_names,
    ),
]
CheckpointPaths = Annotated[
    list[str],
    typer.Argument(
        metavar="CHECKPOINT",
        help="Each DIRECTORY/NAME, DIRECTORY/best or DIRECTORY/latest.",
        autocompletion=checkpoint_names,
    ),
]
CheckpointsOrDirectories = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH",
        help="Each DIRECTORY/NAME, DIRECTORY/best or DIRECTORY/latest; with --all, each DIRECTORY.",
        autocompletion=checkpoint_names,
    ),
]
RemovedPaths = Annotated[
    list[str], typer.Argument(metavar="CHECKPOINT", help="Each DIRECTORY/NAME.", autocompletion=checkpoint_names)
]
DirectoryOrCheckpoint = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="DIRECTORY, DIRECTORY/NAME, DIRECTORY/best or DIRECTORY/latest.",
        autocompletion=checkpoint_names,
    ),
]
Which = Annotated[
    str | None, typer.Argument(metavar="WHICH", help="best, latest or a name, if the path is a directory.")
]
SpoolFolder = Annotated[
    Path | None,
    typer.Option(
        "--spool", metavar="FOLDER", help="Folder of waiting checkpoints. Default: HOLDFAST_SPOOL, else the user's own."
    ),
]
