"""Every error that aegate raises on purpose: one root, one tree, stable codes.

    AegateError
    ├── InvalidInput            the caller gave something that cannot be used
    │   ├── InvalidValue        one value: a title, a UID, a port
    │   ├── InvalidResource     a manifest; carries where and what
    │   └── NotDICOM            a file or a stream that is no DICOM object
    ├── NotFound                no such thing, or not for this caller
    ├── Conflict                somebody else changed or holds it
    ├── Forbidden               a permission is missing
    ├── StorageError            disk or database cannot take or give it
    │   ├── StorageFull
    │   ├── DatabaseUnavailable     it does not answer; nothing is known to be lost
    │   ├── SerializationConflict   a transaction lost a race: the same again may succeed
    │   └── SchemaMismatch          a data folder or database of another version
    └── PeerError               the other DICOM side; carries no patient data

A message names what was expected, what came and the next step. It never carries a patient's value.
"""


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


class NotDICOM(InvalidInput):
    """A file or stream that is no DICOM object (PS3.10 7.1)."""

    code = "NOT_DICOM"


class NotFound(AegateError):
    """There is no such thing, or not for this caller."""

    code = "NOT_FOUND"


class Conflict(AegateError):
    """Somebody else changed or holds it: read again and decide anew."""

    code = "CONFLICT"


class Forbidden(AegateError):
    """A permission is missing; the message names which."""

    code = "FORBIDDEN"


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


class SchemaMismatch(StorageError):
    """A data folder or database was written by another version."""

    code = "SCHEMA_MISMATCH"


class PeerError(AegateError):
    """The other side of an association refused, failed or went away."""

    code = "PEER"
