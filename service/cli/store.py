"""Commands about published models: list, publish, roll back, collect, verify, sign."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.common import Store, app, examples, repository_of, settings_of
from service.errors import EncserveError, StoreError
from service.settings import Settings
from service.store.manifest import Manifest
from service.store.repository import ModelRepository, PublishedModel, name_and_version

Name = Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")]


@app.command(
    "models",
    epilog=examples(
        "encserve models",
        "encserve models --model-store /srv/models",
    ),
)
def list_models(model_store: Store = None) -> None:
    """List the published versions: what each is, how good, how large, and which is served."""
    repository = repository_of(model_store)
    columns = ("model", "version", "state", "task", "quality", "MiB", "digest", "base")
    table = Table(*columns)
    for name in repository.folders():
        states = _states(repository, name)
        for version in reversed(repository.versions(name)):
            table.add_row(name, version, *_row(repository, name, version, states.get(version, "")))
    Console(width=160 if not Console().is_terminal else None).print(table)


@app.command(
    epilog=examples(
        "encserve publish ./sentiment/3 sentiment",
        "encserve publish https://models.example.org/sentiment/3 sentiment --keep-current",
    ),
)
def publish(
    source: Annotated[
        str, typer.Argument(help="A version's folder, hf://org/name, s3://, gs:// or https://.")
    ],
    name: Annotated[str, typer.Argument(help="Name to publish it under.")],
    key: Annotated[Path | None, typer.Option(help="Private key to sign it with.")] = None,
    keep_current: Annotated[
        bool, typer.Option("--keep-current", help="Do not serve it by default yet.")
    ] = False,
    max_gib: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Most that its files hold together. (env ENCSERVE_MAX_SOURCE_BYTES)"
        ),
    ] = None,
    model_store: Store = None,
) -> None:
    """Fetch a version that was published elsewhere, prove it, and publish it here.

    Its signature is checked as ENCSERVE_SIGNATURES says, and comes along where name and number do.
    """
    from service.store import signing

    settings = settings_of(
        model_store=model_store, max_source_bytes=max_gib and int(max_gib * 2**30)
    )
    published = fetch(settings, source, name, typer.echo, current=not (keep_current or key))
    if key is not None:
        signing.sign(published, key)
        if not keep_current:
            ModelRepository(settings.model_store).set_current(name, published.manifest.version)


def fetch(
    settings: Settings,
    source: str,
    name: str,
    say: Callable[[str], object],
    *,
    current: bool = True,
    once: bool = False,
) -> PublishedModel:
    """Publish what is at `source`; `once`: if it is new here. Raises as `publish_from`."""
    from service.sources.arrival import publish_from
    from service.sources.places import open_place

    return publish_from(
        ModelRepository(settings.model_store),
        open_place(source, signed=settings.signatures == "require"),
        source,
        name,
        max_bytes=settings.max_source_bytes,
        check=lambda model: _prove(model, settings),
        say=say,
        current=current,
        once=once,
    )


def fetch_sources(settings: Settings) -> None:
    """What the server fetches before it starts; a source that fails is no reason not to serve
    what is here already.

    Raises:
        StoreError: as `fetch`, for a model of which there is no version here.
    """
    repository = ModelRepository(settings.model_store)
    for name, source in settings.sources.items():
        try:
            fetch(settings, source, name, lambda line: typer.echo(line, err=True), once=True)
        except StoreError as error:
            if name not in repository.names():
                raise
            typer.echo(f"{name}: {error.code}: {error.message}; serving what is here", err=True)


@app.command(
    epilog=examples(
        "encserve rollback sentiment",
        "encserve rollback sentiment --to 2",
    ),
)
def rollback(
    name: Annotated[str, typer.Argument(help="Model.")],
    to: Annotated[
        str | None, typer.Option(help="Version. (default: the one before the current)")
    ] = None,
    model_store: Store = None,
) -> None:
    """Serve an older version by default, once it was proven; servers follow if they watch."""
    settings = settings_of(model_store=model_store)
    repository = ModelRepository(settings.model_store)
    version = to or repository.version_before(name)
    _prove(repository.resolve(name, version), settings)
    repository.set_current(name, version)
    typer.echo(f"{name}: version {version} is current")


@app.command(
    epilog=examples(
        "encserve gc --keep 3",
        "encserve gc --keep 1 sentiment",
    ),
)
def gc(
    keep: Annotated[int, typer.Option(min=1, help="So many of the newest versions stay.")],
    names: Annotated[list[str] | None, typer.Argument(help="Models. (default: all)")] = None,
    model_store: Store = None,
) -> None:
    """Remove old versions, never the current one, and what killed publishers left behind."""
    repository = repository_of(model_store)
    for name in names or repository.folders():
        removed = repository.collect(name, keep)
        typer.echo(f"{name}: removed {', '.join(removed) or 'nothing'}")


@app.command(
    epilog=examples(
        "encserve verify",
        "encserve verify sentiment@2",
    ),
)
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="NAME or NAME@VERSION. (default: all versions)")
    ] = None,
    model_store: Store = None,
) -> None:
    """Prove every version: files, signature by ENCSERVE_SIGNATURES, and what each variant answers.

    One line a fault, and exit status 1 if there is any.
    """
    settings = settings_of(model_store=model_store)
    repository = ModelRepository(settings.model_store)
    faults = 0
    for name, version in _wanted(repository, names):
        try:
            model = repository.resolve(name, version)
            # The current one of a model is proven under its number, too: here its pointer counts.
            if version is not None or names:
                _prove(model, settings)
        except EncserveError as error:
            faults += 1
            typer.echo(f"{name}@{version or 'current'}: {error.code}: {error.message}")
    if faults:
        raise typer.Exit(1)
    typer.echo("every version is whole")


@app.command(
    epilog=examples(
        "encserve keygen ~/.encserve/signing.key",
    ),
)
def keygen(path: Annotated[Path, typer.Argument(help="File of the private key.")]) -> None:
    """Make an Ed25519 key to sign models with; the public key is written beside it."""
    from service.store.signing import make_key

    typer.echo(
        f"private key {path}, public key {make_key(path)}: trust the latter by "
        "ENCSERVE_TRUSTED_KEYS"
    )


@app.command(
    epilog=examples(
        "encserve sign sentiment@2 --key ~/.encserve/signing.key",
    ),
)
def sign(
    name: Name,
    key: Annotated[Path, typer.Option(help="File of the private key.")],
    model_store: Store = None,
) -> None:
    """Sign a published version."""
    from service.store import signing

    model = _resolved(repository_of(model_store), name)
    signing.sign(model, key)
    typer.echo(f"{model.manifest.name}@{model.manifest.version} is signed")


def _resolved(repository: ModelRepository, name: str) -> PublishedModel:
    return repository.resolve(*name_and_version(name))


def _prove(model: PublishedModel, settings: Settings) -> None:
    """All of its variants, as loading does with the one that it serves."""
    from service.loading import check_published

    check_published(model, model.manifest.variants, settings)


def _wanted(repository: ModelRepository, names: list[str] | None) -> list[tuple[str, str | None]]:
    """Names and versions; None is the current one."""
    if names:
        return [name_and_version(name) for name in names]
    versions = [(name, one) for name in repository.folders() for one in repository.versions(name)]
    return [*versions, *((name, None) for name in repository.names())]


def _states(repository: ModelRepository, name: str) -> dict[str, str]:
    """By version: `current`, and `previous` for the one that `rollback` would go to."""
    try:
        current = repository.current(name)
    except StoreError:
        return {}
    versions = repository.versions(name)
    older = versions[: versions.index(current)] if current in versions else []
    return dict.fromkeys(older[-1:], "previous") | {current: "current"}


def _row(repository: ModelRepository, name: str, version: str, state: str) -> tuple[str, ...]:
    try:
        manifest = repository.resolve(name, version).manifest
    except StoreError as error:
        return f"{state} {error.code}".strip(), "", "", "", "", ""
    size = sum(entry.bytes for entry in manifest.files.values()) / 2**20
    digest = manifest.files[manifest.file_of(manifest.default_variant)].sha256[:12]
    base = manifest.provenance.base
    return state, manifest.task, _quality(manifest), f"{size:.1f}", digest, base


def _quality(manifest: Manifest) -> str:
    """The first thing that was measured of the model, else what int8 keeps of fp32."""
    measured = manifest.metrics or manifest.variants[manifest.default_variant].quality
    return next((f"{name} {value:.3f}" for name, value in measured.items()), "")
