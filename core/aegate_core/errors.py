"""Every error that aegate raises on purpose: one root, one tree, stable codes.

    AegateError
    ├── InvalidInput            the caller gave something that cannot be used
    │   ├── InvalidValue        one value: a title, a UID, a port
    │   ├── InvalidResource     a manifest; carries where and what
    │   ├── InvalidAttributes   what somebody entered of a patient or an examination; carries all that is wrong with it
    │   ├── InvalidManifest     a manifest that somebody wants to put in force; carries all that is wrong with it
    │   └── NotDICOM            a file or a stream that is no DICOM object
    ├── NotFound                no such thing, or not for this caller
    ├── Conflict                somebody else changed or holds it
    │   ├── VersionConflict         it is not as the caller saw it; carries it as it is now
    │   └── ManagedElsewhere        another program owns what was to be changed, and may change it back
    ├── Forbidden               a permission is missing
    ├── TimeLimitReached        it took longer than it may; its statements were cancelled
    ├── StorageError            disk or database cannot take or give it
    │   ├── StorageFull
    │   ├── DatabaseUnavailable     it does not answer; nothing is known to be lost
    │   ├── SerializationConflict   a transaction lost a race: the same again may succeed
    │   ├── StoreOfAnother          the blobs there are another installation's
    │   ├── BucketError             the bucket of the blobs did not do it
    │   │   ├── BucketUnreachable       it does not answer or has no time now; the same again may succeed
    │   │   ├── BucketUntrusted         TLS: its certificate is by a CA that we do not trust
    │   │   ├── BucketCredentials       it does not know us: key, secret or region are not right
    │   │   ├── BucketClockSkew         our clock and its own are too far apart
    │   │   ├── BucketDenied            it knows us, and a right is missing
    │   │   └── BucketMissing           there is no bucket of that name
    │   └── SchemaMismatch          a data folder or database of another version
    │       └── SchemaBehind            an older one: whoever migrates may be about to mend that
    ├── ClusterError            the API server did not do it; carries its status and reason
    │   ├── ClusterUnavailable      it does not answer or has no time now; the same again may succeed
    │   ├── ClusterRefused          forbidden: rights, a quota or an admission policy
    │   ├── ClusterInvalid          it does not take this object
    │   ├── ClusterNotFound         no such object, or no such kind
    │   ├── ClusterConflict         it has changed, or is there already
    │   └── ClusterExpired          that version of the list is gone: begin again
    ├── IdentityUnavailable     nobody can say now who a token stands for
    └── PeerError               the other DICOM side; carries no patient data

A message names what was expected, what came and the next step. It never carries a patient's value.
"""

from __future__ import annotations

from dataclasses import dataclass


class AegateError(Exception):
    """Root of the tree. ``code`` is stable and may be matched by programs; the message is for people."""

    code = "ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidInput(AegateError):
    """The caller gave something that cannot be used."""

    code = "INVALID_INPUT"


class InvalidValue(InvalidInput):
    """One value is outside what its standard allows."""

    code = "INVALID_VALUE"


class InvalidResource(InvalidInput):
    """A manifest cannot be used; ``field`` is its path, such as ``spec.title``."""

    code = "INVALID_RESOURCE"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidManifest(InvalidInput):
    """A manifest is not taken; ``faults`` are pairs of a path such as ``spec.port`` and what is said of it."""

    code = "INVALID_MANIFEST"

    def __init__(self, message: str, *, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(message)
        self.faults = faults


class InvalidAttributes(InvalidInput):
    """Attributes cannot be used; ``faults`` are pairs of an attribute's name in snake case and what is said of it."""

    code = "INVALID_ATTRIBUTES"

    def __init__(self, message: str, *, faults: tuple[tuple[str, str], ...]) -> None:
        super().__init__(message)
        self.faults = faults


class NotDICOM(InvalidInput):
    """A file or stream that is no DICOM object (PS3.10 7.1)."""

    code = "NOT_DICOM"


class NotFound(AegateError):
    """There is no such thing, or not for this caller."""

    code = "NOT_FOUND"


class ImagesRemoved(NotFound):
    """Retention removed images of it: a part is not sent as if it were the whole."""

    code = "IMAGES_REMOVED"


class Conflict(AegateError):
    """Somebody else changed or holds it: read again and decide anew."""

    code = "CONFLICT"


class VersionConflict(Conflict):
    """It is not as the caller saw it, or is there already; ``current`` is it as it is now, where that is known."""

    code = "VERSION_CONFLICT"

    def __init__(self, message: str, *, current: object = None) -> None:
        super().__init__(message)
        self.current = current


class ManagedElsewhere(Conflict):
    """Another program owns what was to be changed.

    ``can_take_over``: it does not watch over it, so that the change would stay if it were forced.
    """

    code = "MANAGED_ELSEWHERE"

    def __init__(
        self, message: str, *, manager: str, fields: tuple[str, ...], can_take_over: bool = False
    ) -> None:
        super().__init__(message)
        self.manager = manager
        self.fields = fields
        self.can_take_over = can_take_over


class Forbidden(AegateError):
    """A permission is missing; the message names which."""

    code = "FORBIDDEN"


class TimeLimitReached(AegateError):
    """What was asked for took longer than it may; its statements were cancelled, its transaction rolled back."""

    code = "TIME_LIMIT"

    def __init__(self, message: str, *, limit_s: float, used_s: float) -> None:
        super().__init__(message)
        self.limit_s = limit_s
        self.used_s = used_s


class StorageError(AegateError):
    """Disk or database cannot take or give it now."""

    code = "STORAGE"


class StorageFull(StorageError):
    """No room, or above the watermark."""

    code = "STORAGE_FULL"


class DatabaseUnavailable(StorageError):
    """The database does not answer; nothing is known to be lost. Try again later.

    ``is_starting``: it says itself that it is on its way, such as after a crash.
    """

    code = "DATABASE_UNAVAILABLE"

    def __init__(self, message: str, *, is_starting: bool = False) -> None:
        super().__init__(message)
        self.is_starting = is_starting


class SerializationConflict(StorageError):
    """A transaction lost a race (deadlock, serialization): the same again may succeed."""

    code = "SERIALIZATION_CONFLICT"


class StoreOfAnother(StorageError):
    """The blob store has the mark of another installation: nothing is put into it, nothing taken out of it."""

    code = "STORE_OF_ANOTHER"


class BucketError(StorageError):
    """The bucket of the blobs did not do what it was asked."""

    code = "BUCKET"


class BucketUnreachable(BucketError):
    """The bucket's server does not answer or has no time now: the same again may succeed."""

    code = "BUCKET_UNREACHABLE"


class BucketUntrusted(BucketError):
    """The certificate of the bucket's server cannot be verified."""

    code = "BUCKET_UNTRUSTED"


class BucketCredentials(BucketError):
    """The bucket's server does not know us: key, secret or region are missing or not right."""

    code = "BUCKET_CREDENTIALS"


class BucketClockSkew(BucketError):
    """Our clock and the bucket's server's are too far apart for a signature to count."""

    code = "BUCKET_CLOCK_SKEW"


class BucketDenied(BucketError):
    """The bucket's server knows us, and a right is missing."""

    code = "BUCKET_DENIED"


class BucketMissing(BucketError):
    """There is no bucket of that name."""

    code = "BUCKET_MISSING"


class SchemaMismatch(StorageError):
    """A data folder or database was written by another version."""

    code = "SCHEMA_MISMATCH"


class SchemaBehind(SchemaMismatch):
    """The database lacks a migration, which whoever migrates may be about to add; ``migration`` names it."""

    code = "SCHEMA_BEHIND"

    def __init__(self, message: str, *, migration: str) -> None:
        super().__init__(message)
        self.migration = migration


@dataclass(frozen=True, slots=True)
class Cause:
    """What the API server says of one field (metav1.StatusCause)."""

    reason: str
    field: str
    message: str


class ClusterError(AegateError):
    """The Kubernetes API server did not do what it was asked."""

    code = "CLUSTER"

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", causes: tuple[Cause, ...] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status; 0 when there was no answer."""
        self.reason = reason
        """The API server's own word, such as AlreadyExists."""
        self.causes = causes
        """What it says of single fields."""


class ClusterUnavailable(ClusterError):
    """The API server does not answer or has no time now: the same again may succeed."""

    code = "CLUSTER_UNAVAILABLE"


class ClusterRefused(ClusterError):
    """Forbidden: a right is missing, a quota is used up, or an admission policy says no."""

    code = "CLUSTER_REFUSED"


class ClusterInvalid(ClusterError):
    """The API server does not take this object."""

    code = "CLUSTER_INVALID"


class ClusterNotFound(ClusterError):
    """There is no such object, or no such kind."""

    code = "CLUSTER_NOT_FOUND"


class ClusterConflict(ClusterError):
    """The object has changed since, is another one by now, or is there already."""

    code = "CLUSTER_CONFLICT"


class ClusterExpired(ClusterError):
    """That version of a list is gone: begin again."""

    code = "CLUSTER_EXPIRED"


class IdentityUnavailable(AegateError):
    """Whoever says who a token stands for does not answer, and nothing that it said before holds any more."""

    code = "IDENTITY_UNAVAILABLE"


class PeerError(AegateError):
    """The other side of an association refused, failed or went away."""

    code = "PEER"
