"""Answers about one checkpoint: its facts, and with them the bytes of a small one if the client takes them.

A line of JSON with the facts and the chunks is followed by the bytes, which are sent as those of a file are.
"""

from contextlib import suppress

from fastapi import Request, Response

from app.api import file_response
from app.api.schemas.checkpoints import CheckpointOut
from app.api.schemas.layout import ChunksOut
from app.core import digests
from app.core.errors import Refusal
from app.core.models import SMALL_CHECKPOINT_BYTES
from app.http.body.described import CHECKPOINT_MEDIA_TYPE
from app.service.query.contents import Contents

DIGEST_FIELD = "Holdfast-Facts-Digest"
"""The header with the digest of the line, as ``Content-Digest`` writes it. The chunks have digests of their own."""


def respond(request: Request, contents: Contents, facts: CheckpointOut) -> CheckpointOut | Response:
    """Return the facts, or a response with facts and bytes.

    It has no bytes if the client has not named the media type in ``Accept``, if the checkpoint has several files or is
    large, or if the bytes cannot be read; a client that asks for them alone is told why.
    """
    if len(facts.files) != 1 or facts.size_bytes > SMALL_CHECKPOINT_BYTES or not _takes_bytes(request):
        return facts
    with suppress(Refusal):
        content, found = contents.open_with_chunks(facts.id)
        try:
            maps = {content.file.path: found}
            layout = ChunksOut.of(content.checkpoint, maps, contents.range_max_bytes, contents.range_url)
            if layout.next_page_token is None:
                return file_response.respond_after(line := _line(facts, layout), content, _headers(line))
        except BaseException:
            content.opened.close()
            raise
        content.opened.close()
    return facts


def _line(facts: CheckpointOut, layout: ChunksOut) -> bytes:
    return f'{{"checkpoint":{facts.model_dump_json()},"contents":{layout.model_dump_json()}}}\n'.encode()


def _headers(line: bytes) -> dict[str, str]:
    return {"Content-Type": CHECKPOINT_MEDIA_TYPE, DIGEST_FIELD: digests.of_message(line), "Vary": "Accept"}


def _takes_bytes(request: Request) -> bool:
    named = (part.partition(";")[0] for value in request.headers.getlist("accept") for part in value.split(","))
    return any(kind.strip().lower() == CHECKPOINT_MEDIA_TYPE for kind in named)
