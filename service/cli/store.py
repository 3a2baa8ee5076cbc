"""Commands about published models: list, publish, roll back, collect, verify, sign."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli.common import Store, app, repository_of, settings_of, workshop
from service.errors import EncserveError, StoreError
from service.store.manifest import Manifest
from service.store.repository import ModelRepository, PublishedModel

Name = Annotated[str, typer.Argument(help="NAME, or NAME@VERSION.")]
MOST_PUBLISHED_GIB = 8.0


@app.command("models")
def list_models(model_store: Store = None) -> None:
    """List the published versions: what each is, how good, how large, and which is served."""
    repository = repository_of(model_store)
    columns = ("model", "version", "state", "task", "quality", "MiB", "digest", "base")
    table = Table(*columns)
    for name in repository.names():
        current = repository.resolve(name).manifest.version
        for version in reversed(repository.versions(name)):
            table.add_row(*_row(repository, name, version, current))
    Console(width=160 if not Console().is_terminal else None).print(table)


@app.command()
def publish(
    source: Annotated[
        str, typer.Argument(help="A version's folder, hf://org/name, s3://, gs:// or https://.")
    ],
    name: Annotated[str, typer.Argument(help="Name to publish it under.")],
    max_gib: Annotated[
        float, typer.Option(min=0.001, help="Most that its files may hold together.")
    ] = MOST_PUBLISHED_GIB,
    model_store: Store = None,
) -> None:
    """Fetch a version that was published elsewhere, prove it, and publish it here.

    A signature is checked as ENCSERVE_SIGNATURES says. It does not come along, as name and version
    are other ones here: sign again.
    """
    from service.loading import check_published, plan
    from service.offline.sources import publish_from

    settings = settings_of(model_store=model_store)

    def check(model: PublishedModel) -> None:
        check_published(plan(model, settings), settings)

    publish_from(
        ModelRepository(settings.model_store),
        source,
        name,
        workshop(),
        max_bytes=int(max_gib * 2**30),
        check=check,
    )


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Model.")],
    to: Annotated[
        str | None, typer.Option(help="Version. (default: the one before the current)")
    ] = None,
    model_store: Store = None,
) -> None:
    """Serve an older version by default; running servers follow if they watch the store."""
    repository = repository_of(model_store)
    model = repository.set_current(name, to) if to else repository.roll_back(name)
    typer.echo(f"{name}: version {model.manifest.version} is current")


@app.command()
def gc(
    keep: Annotated[int, typer.Option(min=1, help="So many of the newest versions stay.")],
    names: Annotated[list[str] | None, typer.Argument(help="Models. (default: all)")] = None,
    model_store: Store = None,
) -> None:
    """Remove old versions, never the current one, and what killed publishers left behind."""
    repository = repository_of(model_store)
    for name in names or repository.names():
        removed = repository.collect(name, keep)
        typer.echo(f"{name}: removed {', '.join(removed) or 'nothing'}")


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="NAME or NAME@VERSION. (default: all versions)")
    ] = None,
    model_store: Store = None,
) -> None:
    """Prove every version: files, signature by ENCSERVE_SIGNATURES, and what the model answers.

    One line a fault, and exit status 1 if there is any.
    """
    from service.loading import check_published, plan

    settings = settings_of(model_store=model_store)
    repository = ModelRepository(settings.model_store)
    faults = 0
    for name, version in _wanted(repository, names):
        try:
            check_published(plan(repository.resolve(name, version), settings), settings)
        except EncserveError as error:
            faults += 1
            typer.echo(f"{name}@{version or 'current'}: {error.code}: {error.message}")
    if faults:
        raise typer.Exit(1)
    typer.echo("every version is whole")


@app.command()
def keygen(path: Annotated[Path, typer.Argument(help="File of the private key.")]) -> None:
    """Make an Ed25519 key to sign models with; the public key is written beside it."""
    from service.store.signing import make_key

    typer.echo(
        f"private key {path}, public key {make_key(path)}: trust the latter by "
        "ENCSERVE_TRUSTED_KEYS"
    )


@app.command()
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
    model, _, version = name.partition("@")
    return repository.resolve(model, version or None)


def _wanted(repository: ModelRepository, names: list[str] | None) -> list[tuple[str, str | None]]:
    if names:
        parts = [name.partition("@") for name in names]
        return [(model, version or None) for model, _, version in parts]
    return [(name, version) for name in repository.names() for version in repository.versions(name)]


def _row(repository: ModelRepository, name: str, version: str, current: str) -> tuple[str, ...]:
    state = "current" if version == current else ""
    try:
        manifest = repository.resolve(name, version).manifest
    except StoreError as error:
        return name, version, error.code, "", "", "", "", ""
    size = sum(entry.bytes for entry in manifest.files.values()) / 2**20
    digest = manifest.files[manifest.file_of(manifest.default_variant)].sha256[:12]
    base = manifest.provenance.base
    return name, version, state, manifest.task, _quality(manifest), f"{size:.0f}", digest, base


def _quality(manifest: Manifest) -> str:
    """The first thing that was measured of the model, else what int8 keeps of fp32."""
    measured = manifest.metrics or manifest.variants[manifest.default_variant].quality
    return next((f"{name} {value:.3f}" for name, value in measured.items()), "")
