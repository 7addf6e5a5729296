"""Read manifests from files, folders and standard input, and keep the file and line of everything in them.

A folder is read with all folders below it, but for hidden ones and ``secrets``. A file is refused by its size
before it is read, so that a disk image with the wrong suffix does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from aegate_core.resources.problems import Path, Problem, Violation, render_path
from aegate_core.resources.reference import ResourceRef
from aegate_core.resources.yaml_tree import Document, Place, YAMLProblem, members, parse_json, parse_yaml

LARGEST_BYTES = 4 * 1024 * 1024
"""Of one file: some ten thousand AEs, read in 15 s. An API server takes 3 MB a request."""
SUFFIXES = (".yaml", ".yml", ".json")
STDIN = "-"
STDIN_NAME = "<stdin>"
_NOT_OURS = ("kustomization.yaml", "kustomization.yml")
_SKIPPED_FOLDER = "secrets"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of a file, where it stands, and what YAML had against it."""

    file: str
    value: object
    document: Document
    root: Path = ()
    """Where the object stands in its document: () or, in a List, ("items", n)."""

    @property
    def place(self) -> Place:
        """Where the object begins."""
        return self.document.place(self.root)

    def problem(
        self, violation: Violation, *, resource: ResourceRef | None = None, at: Place | None = None
    ) -> Problem:
        """Return the violation with its file and line."""
        place = at or self.document.place((*self.root, *violation.path))
        return Problem(
            file=self.file,
            line=place.line,
            column=place.column,
            field=render_path(violation.path),
            expected=violation.expected,
            got=violation.got,
            advice=violation.advice,
            resource=resource,
            is_rule=violation.is_rule,
        )


@dataclass(slots=True)
class Reading:
    """What was read: the manifests of all files that could be read, and which could not."""

    manifests: list[Manifest] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    unreadable: list[Problem] = field(default_factory=list)
    """Paths that do not exist, may not be read, or hold nothing at all: a mistake in calling, not in a manifest."""
    files: list[str] = field(default_factory=list)
    """All files looked at."""
    broken: set[str] = field(default_factory=set)
    """Files whose text could not be parsed: what they held before stays in force."""


def read_manifests(paths: Sequence[str], *, stdin: Callable[[int], bytes] | None = None) -> Reading:
    """Read all ``paths``; ``-`` is standard input, read by ``stdin(at most so many bytes)``.

    Never raises for a file.
    """
    reading = Reading()
    for path in paths:
        if path == STDIN:
            _read_stdin(reading, stdin)
        else:
            _read_path(FilePath(path), reading)
    return reading


def read_text(name: str, raw: bytes) -> Reading:
    """Read what a file of that name would hold."""
    reading = Reading(files=[name])
    if len(raw) > LARGEST_BYTES:
        reading.broken.add(name)
        reading.problems.append(_too_large(name, f"{len(raw)} bytes"))
    else:
        _parse(name, raw, reading)
    return reading


def manifest_files(folder: FilePath) -> list[FilePath]:
    """Return the files below ``folder`` that hold manifests, in the order of their names."""
    return sorted(
        file for file in files_below(folder) if file.suffix in SUFFIXES and file.name not in _NOT_OURS
    )


def files_below(folder: FilePath) -> Iterator[FilePath]:
    """Yield all files below ``folder``, without hidden ones, secrets, and folders behind symbolic links."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink() and entry.name != _SKIPPED_FOLDER:
            yield from files_below(entry)
        elif entry.is_file():
            yield entry


def _read_path(path: FilePath, reading: Reading) -> None:
    try:
        files = manifest_files(path) if path.is_dir() else [path]
    except OSError as error:
        reading.unreadable.append(_unreadable(path, error))
        return
    if not files:
        expected = f"files {', '.join('*' + s for s in SUFFIXES)} in the folder"
        reading.unreadable.append(_whole(str(path), expected, "none", "give a folder that holds manifests"))
    for file in files:
        try:
            _read_file(file, reading)
        except OSError as error:
            reading.unreadable.append(_unreadable(file, error))


def _unreadable(path: FilePath, error: OSError) -> Problem:
    """Name what cannot be read: within a folder that may be a folder below it."""
    place = str(error.filename or path)
    got = error.strerror or type(error).__name__
    return _whole(place, "a readable file or folder", got, "check the path and its mode")


def _read_file(file: FilePath, reading: Reading) -> None:
    size = file.stat().st_size
    name = str(file)
    reading.files.append(name)
    if not file.is_file():
        reading.unreadable.append(_whole(name, "a file", "something else", "give a file or a folder"))
    elif size > LARGEST_BYTES:
        reading.broken.add(name)
        reading.problems.append(_too_large(name, f"{size} bytes"))
    else:
        _parse(name, file.read_bytes(), reading)


def _read_stdin(reading: Reading, stdin: Callable[[int], bytes] | None) -> None:
    raw = stdin(LARGEST_BYTES + 1) if stdin else b""
    reading.files.append(STDIN_NAME)
    if len(raw) > LARGEST_BYTES:
        reading.problems.append(_too_large(STDIN_NAME, "more"))
    elif not raw.strip():
        reading.unreadable.append(_whole(STDIN_NAME, "manifests", "nothing", "pipe YAML or JSON into it"))
    else:
        _parse(STDIN_NAME, raw, reading)


def _parse(name: str, raw: bytes, reading: Reading) -> None:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reading.broken.add(name)
        line = raw.count(b"\n", 0, error.start) + 1
        problem = _whole(name, "UTF-8 text", f"another byte at {error.start}", "save the file as UTF-8")
        reading.problems.append(replace(problem, line=line))
        return
    is_json = name.endswith(".json") or (name == STDIN_NAME and text.lstrip().startswith("{"))
    try:
        documents = parse_json(text) if is_json else parse_yaml(text)
    except YAMLProblem as error:
        reading.broken.add(name)
        manifest = Manifest(name, None, Document())
        reading.problems.append(manifest.problem(error.violation, at=error.place))
        return
    for document in documents:
        reading.manifests.extend(_objects(Manifest(name, document.value, document)))


def _objects(manifest: Manifest) -> Iterable[Manifest]:
    """Return the object, or those of a v1 List, which is what ``kubectl get -o yaml`` writes."""
    value = members(manifest.value)
    items = value.get("items")
    if value.get("apiVersion") == "v1" and value.get("kind") == "List" and isinstance(items, list):
        return [replace(manifest, value=item, root=("items", n)) for n, item in enumerate(items)]
    return [manifest]


def _too_large(name: str, got: str) -> Problem:
    return _whole(
        name, f"at most {LARGEST_BYTES} bytes in a file of manifests", got, "split it into several files"
    )


def _whole(file: str, expected: str, got: str, advice: str) -> Problem:
    return Problem(file, 0, 0, "", expected, got, advice)
