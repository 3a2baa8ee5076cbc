"""Fetch a version, prove it, publish it: the manifest first, which names all else and its size.

Nothing is asked for that the manifest does not name, and nothing longer is read than it states.
"""

from collections.abc import Callable
from pathlib import Path

from service.errors import InvalidField, ModelCorrupt, ModelNotFound
from service.masking import address_shown
from service.sources.places import Open, Readable
from service.store.drafts import CURRENT_FILE, Draft
from service.store.manifest import MANIFEST_FILE, VERSION, Manifest, ManifestFields
from service.store.published import MOST_MANIFEST_BYTES, PublishedModel, read_version
from service.store.repository import MOST_POINTER_BYTES, ModelRepository
from service.store.signing import MOST_SIGNATURE_BYTES, SIGNATURE_FILE
from service.store.verification import verify

MOST_FILES = 1000
_PORTION_BYTES = 2**20


def publish_from(
    repository: ModelRepository,
    open_file: Open,
    source: str,
    name: str,
    *,
    max_bytes: int,
    check: Callable[[PublishedModel], object] = lambda model: None,
    say: Callable[[str], object] = lambda line: None,
    current: bool = True,
    once: bool = False,
) -> PublishedModel:
    """Fetch the version at `source`, prove it, and publish it as `name`.

    Under its own name, and with a number that is new here, it stays as it is, its signature
    included. Else it becomes the next version, and its signature is left behind.

    Args:
        open_file: opens the files of `source`, see `open_place`.
        max_bytes: of all files together.
        check: raises if the version, as it came, should not be published.
        once: a version that is here already, under whatever number, is not published again.

    Raises:
        ModelNotFound: there is no version at the source.
        ManifestInvalid, ModelCorrupt: the files are not those of the manifest.
        InvalidField: there are more than `max_bytes` or `MOST_FILES`.
        SourceFailed: the source cannot be asked.
        StoreUnwritable: the store is full.
    """
    with repository.draft(name) as draft:
        folder = _locate(open_file, source)
        _copy(open_file, folder, MANIFEST_FILE, draft.path, MOST_MANIFEST_BYTES)
        manifest = read_version(draft.path).manifest
        same = _same_here(repository, name, manifest) if once else None
        if same is not None:
            say(f"{name}: {address_shown(source)} is version {same.manifest.version} already")
            return same
        _require_small(manifest, source, max_bytes)
        try:
            _copy(open_file, folder, SIGNATURE_FILE, draft.path, MOST_SIGNATURE_BYTES)
        except FileNotFoundError:
            (draft.path / SIGNATURE_FILE).unlink(missing_ok=True)
        for file, entry in manifest.files.items():
            say(f"{name}: {file}, {entry.bytes / 2**20:.1f} MiB")
            _copy_listed(open_file, folder, file, draft.path, entry.bytes)
        model = read_version(draft.path)
        verify(model)
        check(model)
        published = draft.publish_as_it_is(current=current) or _renumbered(draft, current)
    say(f"{name}: published version {published.manifest.version} from {address_shown(source)}")
    return published


def _locate(open_file: Open, source: str) -> str:
    """'' if the source is a version's folder, 'N/' if it is a model's, whose pointer says N."""
    try:
        with open_file(MANIFEST_FILE):
            return ""
    except FileNotFoundError:
        pass
    try:
        with open_file(CURRENT_FILE) as pointer:
            version = _read(pointer, MOST_POINTER_BYTES, CURRENT_FILE).decode(errors="replace")
    except FileNotFoundError:
        raise ModelNotFound(f"{address_shown(source)} holds no {MANIFEST_FILE}") from None
    if not VERSION.fullmatch(version.strip()):
        raise ModelCorrupt(f"the pointer of {address_shown(source)} names no version")
    return f"{version.strip()}/"


def _require_small(manifest: Manifest, source: str, max_bytes: int) -> None:
    total = sum(entry.bytes for entry in manifest.files.values())
    if total > max_bytes:
        raise InvalidField(f"{address_shown(source)} holds {total} bytes, the limit is {max_bytes}")
    if len(manifest.files) > MOST_FILES:
        raise InvalidField(
            f"{address_shown(source)} holds {len(manifest.files)} files, the limit is {MOST_FILES}"
        )


def _same_here(repository: ModelRepository, name: str, manifest: Manifest) -> PublishedModel | None:
    """A version that says the same of the same files, whatever its number."""
    own = {"name", "version", "created_at"}
    for version in reversed(repository.versions(name)):
        here = repository.resolve(name, version)
        if here.manifest.model_dump(exclude=own) == manifest.model_dump(exclude=own):
            return here
    return None


def _renumbered(draft: Draft, current: bool) -> PublishedModel:
    manifest = read_version(draft.path).manifest
    for file in (MANIFEST_FILE, SIGNATURE_FILE):
        (draft.path / file).unlink(missing_ok=True)
    fields = {field: getattr(manifest, field) for field in ManifestFields.model_fields}
    return draft.publish(ManifestFields(**fields), current=current)


def _copy_listed(open_file: Open, folder: str, name: str, to: Path, size: int) -> None:
    try:
        taken = _copy(open_file, folder, name, to, size)
    except FileNotFoundError:
        raise ModelCorrupt(f"{name} is missing at the source") from None
    if taken != size:
        raise ModelCorrupt(f"{name} has {taken} bytes at the source, its manifest says {size}")


def _copy(open_file: Open, folder: str, name: str, to: Path, most_bytes: int) -> int:
    """Copy one file, never more than `most_bytes` of it; returns how many bytes it has."""
    target = to / name
    target.parent.mkdir(parents=True, exist_ok=True)
    taken = 0
    with open_file(folder + name) as there, target.open("wb") as here:
        while portion := there.read(_PORTION_BYTES):
            taken += len(portion)
            if taken > most_bytes:
                raise ModelCorrupt(f"{name} is longer than {most_bytes} bytes")
            here.write(portion)
    return taken


def _read(file: Readable, most_bytes: int, name: str) -> bytes:
    content = b""
    while portion := file.read(most_bytes + 1):
        content += portion
        if len(content) > most_bytes:
            raise ModelCorrupt(f"{name} is longer than {most_bytes} bytes")
    return content
