"""Refusals, each with its HTTP status and its stable code, which is the API; and the reasons for a start to fail."""

from typing import Any, ClassVar


class Refusal(Exception):
    """A request is refused and nothing has changed. ``extra`` holds further members of the problem details."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    retry_after_s: ClassVar[int | None] = None

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra
        self.headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}


# 400: malformed or corrupted in transit


class BodyAltered(Refusal):
    status, code, title = 400, "body_altered", "The body does not have the digest that came with it"


class InvalidHttp(Refusal):
    status, code, title = 400, "invalid_http", "The request is not valid HTTP"


# 401, 403: not authenticated, or not authorised


class Unauthorized(Refusal):
    status, code, title = 401, "unauthorized", "A valid token is required"


class Forbidden(Refusal):
    status, code, title = 403, "forbidden", "The token does not allow this"


class CrossSite(Refusal):
    status, code, title = 403, "cross_site", "Requests from other web sites are refused"


class HostNotAllowed(Refusal):
    status, code, title = 403, "host_not_allowed", "The server does not accept this host name"


# 404, 410: absent, or hidden from this token


class NotFound(Refusal):
    status, code, title = 404, "not_found", "There is nothing at this address"


class DirectoryNotFound(Refusal):
    status, code, title = 404, "directory_not_found", "There is no such directory"


class CheckpointNotFound(Refusal):
    status, code, title = 404, "checkpoint_not_found", "There is no such checkpoint"


class NoCheckpoint(Refusal):
    status, code, title = 404, "no_checkpoint", "The directory holds no checkpoint"


class NoBest(Refusal):
    status, code, title = 404, "no_best", "No checkpoint of the directory can be ranked"


class FileNotInCheckpoint(Refusal):
    status, code, title = 404, "file_not_found", "The checkpoint has no such file"


class PathNotFound(Refusal):
    status, code, title = 404, "path_not_found", "There is nothing at this path of the tree"


class NoTensorIndex(Refusal):
    status, code, title = 404, "no_tensor_index", "The checkpoint has no tensor index"


class UploadNotFound(Refusal):
    status, code, title = 404, "upload_not_found", "There is no such upload, or it has expired"


class LinkInvalid(Refusal):
    status, code, title = 404, "link_invalid", "The link is invalid, has expired, or was revoked"


class CheckpointRemoved(Refusal):
    status, code, title = 410, "checkpoint_removed", "The checkpoint's bytes have been removed"


class EventsTrimmed(Refusal):
    status, code, title = 410, "events_trimmed", "Events after this one are no longer kept"


# 405, 408, 412, 413, 415, 416, 429, 431: the HTTP request itself


class PartialBody(Refusal):
    status, code, title = 400, "partial_body", "The body is only a part of a file"


class MethodNotAllowed(Refusal):
    status, code, title = 405, "method_not_allowed", "The resource does not support this method"


class RequestTimeout(Refusal):
    status, code, title = 408, "request_timeout", "The request arrived too slowly"


class TooLarge(Refusal):
    status, code, title = 413, "too_large", "The request is larger than the server accepts"


class RangeNotSatisfiable(Refusal):
    status, code, title = 416, "range_not_satisfiable", "The file has no such range"


class TooManyRequests(Refusal):
    status, code, title = 429, "too_many_requests", "Too many concurrent requests of one token"
    retry_after_s = 1


class TooManyUploads(Refusal):
    status, code, title = 429, "too_many_uploads", "Too many open uploads of one token"
    retry_after_s = 30


class HeadersTooLarge(Refusal):
    status, code, title = 431, "headers_too_large", "The request line and headers are too large"


class PreconditionFailed(Refusal):
    status, code, title = 412, "precondition_failed", "The checkpoint is not in the expected state"


class PolicyChanged(Refusal):
    status, code, title = 412, "policy_changed", "The directory's policy has changed in the meantime"


class UnsupportedMediaType(Refusal):
    status, code, title = 415, "unsupported_media_type", "The body is not what this route takes"


class UnsupportedEncoding(Refusal):
    status, code, title = 415, "unsupported_encoding", "The body has a content encoding that the server does not accept"

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.headers["Accept-Encoding"] = "identity"


# 409: conflicts with the current state


class ModeConflict(Refusal):
    status, code, title = 409, "mode_conflict", "The directory ranks in the other mode"


class Pinned(Refusal):
    status, code, title = 409, "pinned", "The checkpoint is pinned"


class NameTaken(Refusal):
    status, code, title = 409, "name_taken", "A checkpoint and a directory cannot have the same path"


class ForeignFile(Refusal):
    status, code, title = 409, "foreign_file", "A file that the server did not write is in the way"


class UnsafePath(ForeignFile):
    """A component of a path is no name of a file, such as ``..``; it could lead out of the root.

    Names in requests are checked earlier, so this means a damaged record. On the wire it is a `ForeignFile`.
    """


class NotImproved(Refusal):
    status, code, title = 409, "not_improved", "The metric is not better than the directory's best"


class Superseded(Refusal):
    status, code, title = 409, "superseded", "A newer checkpoint has this name"


class RangesMissing(Refusal):
    status, code, title = 409, "ranges_missing", "Not all bytes have arrived"


class UploadBusy(Refusal):
    status, code, title = 409, "upload_busy", "The upload is in use"


class WritersDisagree(Refusal):
    status, code, title = 409, "writers_disagree", "The writers of the upload disagree about its facts"


class PathTaken(Refusal):
    status, code, title = 409, "path_taken", "The path is that of another file of the upload"


class AttemptSuperseded(Refusal):
    status, code, title = 409, "attempt_superseded", "A later attempt has taken the upload over"


class WritersMissing(Refusal):
    status, code, title = 409, "writers_missing", "Not all writers are ready"


class FilesMissing(Refusal):
    status, code, title = 409, "files_missing", "Not all files are declared"


class SeveralFiles(Refusal):
    status, code, title = 409, "several_files", "The checkpoint has several files; name one"


class Altered(Refusal):
    status, code, title = 409, "altered", "The file on disk differs from the one that was saved"


class RecordUnreadable(Refusal, ValueError):
    """A row of the catalog is corrupt. Repairs catch it as a ValueError."""

    status, code, title = 409, "record_unreadable", "The catalog's record of the checkpoint is unreadable"


# 422: well-formed, but invalid


class InvalidRequest(Refusal):
    status, code, title = 422, "invalid_request", "The request is not valid"


class InvalidName(Refusal):
    status, code, title = 422, "invalid_name", "The name is invalid"


class SaveIdReused(Refusal):
    status, code, title = 422, "save_id_reused", "This save_id was used for other content"


class DigestMismatch(Refusal):
    status, code, title = 422, "digest_mismatch", "The bytes do not match the declared digest"


class WrongLength(Refusal):
    status, code, title = 422, "wrong_length", "The body is shorter or longer than declared"


class RangeMisaligned(Refusal):
    status, code, title = 422, "range_misaligned", "The range is not aligned with chunks"


# 503, 507: temporarily impossible


class NotReady(Refusal):
    status, code, title = 503, "not_ready", "The server is not ready"
    retry_after_s = 5


class DiskFailed(Refusal):
    status, code, title = 503, "disk_failed", "The server's disk reports errors"


class Overloaded(Refusal):
    status, code, title = 503, "overloaded", "The server has too many files open"
    retry_after_s = 1


class NoSpace(Refusal):
    status, code, title = 507, "no_space", "The disk is full"


class QuotaExceeded(Refusal):
    status, code, title = 507, "quota_exceeded", "A quota is exhausted"


# Not on the wire: the server or a command cannot start


class StartupError(Exception):
    """A command or the server cannot start. The message says what to do."""


class CatalogUnusable(StartupError):
    """The catalog cannot be read, is of another version, or belongs to another root."""


class RootUnusable(StartupError):
    """The folder cannot be the root: unreadable, of a newer layout, or on an unsuitable file system."""


class RootMissing(RootUnusable):
    """There is no root in this folder."""


class RootLocked(RootUnusable):
    """Another process owns the root."""


class AddressUnavailable(StartupError):
    """The server cannot listen on its address: the port is in use, or the host is not one of this machine."""


class UnusableToken(StartupError):
    """The configured admin token is weak, malformed or made for another root, or its file cannot be used."""


class Unprotected(StartupError):
    """Other machines could reach the server, and it has no token yet."""
