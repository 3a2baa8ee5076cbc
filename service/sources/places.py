"""Where versions come from: one way to open a file by its name, whatever the kind of place.

`Open` raises FileNotFoundError where the place has no such file, and SourceFailed where it cannot
be asked.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from service.errors import InvalidField, SourceFailed
from service.masking import address_shown
from service.store.files import open_plain

CONNECT_TIMEOUT_S = 10
# Without a byte for so long, a download is given up; as a whole it may take as long as it needs.
READ_TIMEOUT_S = 60
KINDS = "a folder, hf://org/name[@revision], https://, s3:// and gs://"
# memory:// is fsspec's own, of this process: nothing but a test uses it.
_FSSPEC = ("https", "http", "s3", "gs", "memory")
_HUB = re.compile(r"^([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?$")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


Open = Callable[[str], AbstractContextManager[Readable]]


def open_place(source: str, *, signed: bool, hub_endpoint: str | None = None) -> Open:
    """How to open the files of `source`.

    Args:
        signed: what comes must have a signature that counts, so that it may come unprotected.
        hub_endpoint: None: as HF_ENDPOINT says, else huggingface.co.

    Raises:
        InvalidField: there is no such kind of source, or what it needs is not installed.
    """
    kind, separator, rest = source.partition("://")
    if not separator:
        return _folder(Path(source))
    if kind == "hf":
        return _hub(rest, hub_endpoint)
    if kind not in _FSSPEC:
        raise InvalidField(f"{kind}:// is no kind of source: there are {KINDS}")
    if kind == "http" and not signed and urlsplit(source).hostname not in _LOOPBACK:
        raise InvalidField(
            "http:// is not protected on its way: use https://, or ENCSERVE_SIGNATURES=require"
        )
    return _fsspec(kind, source)


def _folder(folder: Path) -> Open:
    @contextmanager
    def open_file(name: str) -> Iterator[Readable]:
        try:
            with open_plain(folder / name) as file:
                yield file
        except NotADirectoryError as error:
            raise FileNotFoundError(name) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SourceFailed(f"{folder / name} cannot be read: {error.strerror}") from error

    return open_file


def _fsspec(kind: str, source: str) -> Open:
    try:
        import fsspec

        options: dict[str, Any] = {}
        if kind in ("http", "https"):
            from aiohttp import ClientTimeout

            timeout = ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
            )
            # In one answer, as it comes: asking in pieces would need a server that knows ranges.
            options = {"client_kwargs": {"timeout": timeout}, "block_size": 0}
        files, path = fsspec.core.url_to_fs(source, skip_instance_cache=True, **options)
    except ImportError as error:
        raise InvalidField(
            f"a source of {kind}:// needs the extra 'sources': pip install 'encserve[sources]'"
        ) from error
    return _guarded(source, lambda name: files.open(f"{path.rstrip('/')}/{name}", "rb"))


def _hub(rest: str, endpoint: str | None) -> Open:
    """The hub's own client finds address, token and proxies; what is read is ours to bound."""
    named = _HUB.match(rest)
    if named is None:
        raise InvalidField("a source on the hub is written hf://org/name or hf://org/name@revision")
    try:
        from huggingface_hub import get_session, get_token, hf_hub_url
    except ImportError as error:
        raise InvalidField(
            "a source of hf:// needs the extra 'sources': pip install 'encserve[sources]'"
        ) from error
    repository, revision = named.groups()

    @contextmanager
    def open_file(name: str) -> Iterator[Readable]:
        url = hf_hub_url(repository, name, revision=revision, endpoint=endpoint)
        token = get_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with get_session().stream("GET", url, headers=headers, timeout=READ_TIMEOUT_S) as answer:
            if answer.status_code == 404:
                raise FileNotFoundError(name)
            answer.raise_for_status()
            yield _Portions(answer.iter_raw())

    return _guarded(f"hf://{rest}", open_file)


class _Portions:
    """Bytes that come as they like, as a file that is read in order."""

    def __init__(self, portions: Iterator[bytes]) -> None:
        self._portions = portions

    def read(self, size: int, /) -> bytes:
        """The next portion, which may be longer than `size`; empty at the end."""
        return next(self._portions, b"")


def _guarded(source: str, open_file: Open) -> Open:
    """The libraries' many errors as one of ours; a file that is not there stays one."""

    @contextmanager
    def guarded(name: str) -> Iterator[Readable]:
        with ExitStack() as opened:
            with _translated(source, name):
                file = opened.enter_context(open_file(name))
            yield _Guarded(file, source, name)

    return guarded


@dataclass(frozen=True)
class _Guarded:
    """Reading may fail as opening does; what the reader does with it is none of ours."""

    file: Readable
    source: str
    name: str

    def read(self, size: int, /) -> bytes:
        with _translated(self.source, self.name):
            return self.file.read(size)


@contextmanager
def _translated(source: str, name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the libraries' own classes share no base
        # fsspec says of a server that does not answer, too, that there is no such file.
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
        missing = isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404
        if cause is None or missing:
            raise FileNotFoundError(name) from error
        raise SourceFailed(
            f"{name} of {address_shown(source)} cannot be read: {type(cause).__name__}"
        ) from error
