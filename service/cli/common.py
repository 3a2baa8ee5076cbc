"""What the commands share: the application, options that many have, the store, the workshop."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.errors import WorkshopError
from service.settings import Settings, load_settings
from service.store.repository import ModelRepository

if TYPE_CHECKING:
    from service.offline.progress import Progress

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Store = Annotated[
    Path | None,
    typer.Option(help="Folder of the models. (env ENCSERVE_MODEL_STORE, default model_store)"),
]
Base = Annotated[
    str | None,
    typer.Option(help="Base encoder: a folder or a Hugging Face id. (default all-MiniLM-L6-v2)"),
]


def settings_of(**overrides: Any) -> Settings:
    try:
        return load_settings(**overrides)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def repository_of(model_store: Path | None) -> ModelRepository:
    return ModelRepository(settings_of(model_store=model_store).model_store)


def workshop() -> "Progress":
    if importlib.util.find_spec("torch") is None:
        raise WorkshopError(
            "making models needs the extra 'offline' (torch is not installed): "
            "pip install 'encserve[offline]'"
        )
    from service.offline.progress import Progress

    return Progress()
