"""What a server says of itself when it starts: settings, models, what of the machine it uses."""

import logging
import os
from pathlib import Path

from service import __version__
from service.engine import Engine
from service.live import LiveModels
from service.logs import log_fields
from service.masking import settings_shown
from service.runtime.cpus import available_cpus, processor
from service.runtime.memory_limit import memory_limit_bytes
from service.settings import Settings

logger = logging.getLogger("encserve.start")


def log_settings(settings: Settings) -> None:
    """The settings in force, with secrets hidden."""
    log_fields(logger, logging.INFO, "settings", settings_shown(settings))


def log_loaded(settings: Settings, models: LiveModels, *, traced: bool) -> None:
    """What was loaded, and what it may use."""
    for engine in models.engines:
        log_fields(logger, logging.INFO, "model", _of_model(engine))
    log_fields(
        logger,
        logging.INFO,
        "process",
        {
            "encserve": __version__,
            "pid": os.getpid(),
            "processor": processor(),
            "cores": available_cpus(),
            "workers": models.workers,
            "queue_tokens": settings.max_queue_tokens,
            "cache_bytes": settings.cache_bytes,
            "memory_bytes": _resident_bytes(),
            "memory_limit_bytes": memory_limit_bytes(),
            "traced": traced,
        },
    )


def _of_model(engine: Engine) -> dict[str, object]:
    manifest = engine.manifest
    return {
        "model": engine.name,
        "version": engine.version,
        "task": manifest.task,
        "variant": engine.variant,
        "digest": f"sha256:{engine.digest}",
        "bytes": manifest.files[manifest.file_of(engine.variant)].bytes,
        "max_tokens": manifest.max_tokens,
        "batch_tokens": engine.max_batch_tokens,
    }


def _resident_bytes() -> int:
    """Memory that the process holds now; 0 where the kernel does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
