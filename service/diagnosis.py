"""What a machine, its settings and its store lack for serving well, and how to mend it."""

import importlib.util
import os
import platform
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Literal

from service.errors import EncserveError, InvalidField, ModelCorrupt, ModelNotFound
from service.loading import variant_to_serve
from service.runtime.cpus import available_cpus, processor
from service.runtime.memory_limit import memory_limit_bytes
from service.settings import Settings
from service.store.repository import ModelRepository, PublishedModel, name_and_version
from service.store.verification import verify
from service.tuning import read_shape

State = Literal["ok", "note", "wrong"]

SERVER_PACKAGES = ("onnxruntime", "tokenizers", "fastapi", "uvicorn", "pydantic", "numpy")
WORKSHOP_PACKAGES = ("torch", "transformers", "onnx")
LEAST_OPEN_FILES = 1024
LEAST_FREE_BYTES = 2**30
# Beside weights and cache: the interpreter and the arenas of the runs. Measured: both default
# models in int8 and all that came with five minutes of 32 clients took 339 MiB.
BESIDE_WEIGHTS_BYTES = 300 * 2**20


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `note` works but could be better, `wrong` does not work."""

    subject: str
    state: State
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Served:
    """A model that would be served, and which of its variants."""

    model: PublishedModel
    variant: str


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Look at everything, in the order in which a start would stumble over it."""
    yield _packages()
    yield _workshop()
    yield _processor()
    yield _cpus(settings)
    yield _open_files()
    yield _port(settings)
    models: list[Served] = []
    yield from _store(settings, models.append)
    yield _disk(settings)
    yield _memory(settings, models)


def _packages() -> Finding:
    missing = [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        remedy = "install encserve into this environment again: pip install encserve"
        return Finding("packages", "wrong", f"missing: {', '.join(missing)}", remedy)
    # A distribution that was half removed has no name.
    named = (str(one.metadata["Name"] or "").lower() for one in distributions())
    flavours = {name for name in named if name.startswith("onnxruntime")}
    if len(flavours) > 1:
        remedy = f"they overwrite each other's files: pip uninstall {' '.join(sorted(flavours))}, "
        remedy += "then install one"
        return Finding("packages", "wrong", f"{' and '.join(sorted(flavours))}", remedy)
    found = f"python {platform.python_version()}, {_versions(SERVER_PACKAGES)}"
    return Finding("packages", "ok", found)


def _workshop() -> Finding:
    if importlib.util.find_spec("torch") is None:
        remedy = "only needed to make models: pip install 'encserve[offline]'"
        return Finding("workshop", "note", "torch is not installed", remedy)
    return Finding("workshop", "ok", _versions(WORKSHOP_PACKAGES))


def _versions(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {_version(name)}" for name in names)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of unknown version"


def _processor() -> Finding:
    name = processor()
    if "avx2" not in name and "x86" in os.uname().machine:
        remedy = "runs take several times as long; a virtual machine may need its CPU type 'host'"
        return Finding("processor", "note", name, remedy)
    return Finding("processor", "ok", name)


def _cpus(settings: Settings) -> Finding:
    cores, busy = available_cpus(), os.getloadavg()[0]
    found = f"{cores} cores may be used, load {busy:.1f}"
    if settings.workers * max(1, settings.run_threads) > cores:
        remedy = (
            "runs take turns on the cores: leave ENCSERVE_WORKERS and ENCSERVE_RUN_THREADS at 0"
        )
        return Finding("cores", "note", f"{found}; {settings.workers} workers", remedy)
    if busy > cores:
        return Finding("cores", "note", found, "other work is using them: answers will be slower")
    return Finding("cores", "ok", found)


def _open_files() -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY and limit < LEAST_OPEN_FILES:
        remedy = f"each connection takes one: ulimit -n {LEAST_OPEN_FILES}"
        return Finding("open files", "note", f"at most {limit}", remedy)
    return Finding("open files", "ok", f"at most {limit}")


def _port(settings: Settings) -> Finding:
    place = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            remedy = "another process listens there (is encserve running?): --port, ENCSERVE_PORT"
            return Finding("port", "note", f"{place}: {os.strerror(error.errno or 0)}", remedy)
    return Finding("port", "ok", f"{place} is free")


def _store(settings: Settings, take: Callable[[Served], object]) -> Iterator[Finding]:
    repository = ModelRepository(settings.model_store)
    names = repository.names()
    if not names:
        remedy = "encserve bootstrap makes the default models; ENCSERVE_MODEL_STORE names another"
        yield Finding("store", "wrong", f"no model in {settings.model_store.resolve()}", remedy)
        return
    yield Finding("store", "ok", f"{len(names)} models in {settings.model_store.resolve()}")
    for name in settings.models or names:
        yield _model(repository, name, settings, take)


def _model(
    repository: ModelRepository,
    name: str,
    settings: Settings,
    take: Callable[[Served], object],
) -> Finding:
    """Of one that would be served, as the settings name it."""
    subject = f"model {name}"
    plain, version = name_and_version(name)
    try:
        model = repository.resolve(plain, version)
        verify(model)
        variant = variant_to_serve(model.manifest, settings)
    except (InvalidField, ModelNotFound) as error:
        remedy = "name another by ENCSERVE_MODELS or ENCSERVE_VARIANT, or publish it"
        return Finding(subject, "wrong", f"{error.code}: {error.message}", remedy)
    except EncserveError as error:
        remedy = f"encserve rollback {plain}, or publish it again"
        return Finding(subject, "wrong", f"{error.code}: {error.message}", remedy)
    take(Served(model, variant))
    found = f"version {model.manifest.version}, {variant}, whole"
    if settings.provider != "cpu":
        return Finding(subject, "ok", found)
    remedy = f"encserve tune {plain} takes 20 s and may make it faster"
    try:
        if read_shape(model, variant) is None:
            return Finding(subject, "note", f"{found}, not tuned for this processor", remedy)
    except ModelCorrupt as error:
        # It is a hint only: the server goes on without it.
        return Finding(subject, "note", f"{found}; {error.message}", remedy)
    return Finding(subject, "ok", f"{found}, tuned")


def _disk(settings: Settings) -> Finding:
    place = _nearest(settings.model_store)
    free = shutil.disk_usage(place).free
    found = f"{free / 2**30:.1f} GiB free for the store"
    if free < LEAST_FREE_BYTES:
        remedy = "publishing may fail: encserve gc --keep 2 removes old versions"
        return Finding("disk", "note", found, remedy)
    if not os.access(place, os.W_OK):
        remedy = "serving works, but nothing can be published here by this user"
        return Finding("disk", "note", f"{found}, not writable", remedy)
    return Finding("disk", "ok", found)


def _nearest(path: Path) -> Path:
    """The folder itself, or the nearest one above that exists."""
    return next(one for one in (path, *path.resolve().parents) if one.exists())


def _memory(settings: Settings, models: list[Served]) -> Finding:
    limit = memory_limit_bytes()
    needed = BESIDE_WEIGHTS_BYTES + settings.cache_bytes + sum(map(_weights_bytes, models))
    found = f"{limit / 2**30:.1f} GiB may be used, about {needed / 2**30:.1f} GiB needed"
    if needed > limit:
        remedy = "the server would be killed: raise the limit, or serve fewer models (--model)"
        return Finding("memory", "wrong", found, remedy)
    return Finding("memory", "ok", found)


def _weights_bytes(served: Served) -> int:
    """Of the variant that is served; the others are not loaded."""
    manifest = served.model.manifest
    return manifest.files[manifest.file_of(served.variant)].bytes
