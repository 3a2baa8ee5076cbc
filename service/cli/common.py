"""What the commands share: the application, options that many have, the store, the workshop."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from service.errors import InvalidSetting, WorkshopError
from service.settings import ENV_PREFIX, Settings, load_settings
from service.store.repository import ModelRepository

if TYPE_CHECKING:
    from service.offline.progress import Progress

START = """
First: encserve bootstrap, then encserve serve, then open http://127.0.0.1:8080/

Something is wrong? encserve doctor

Complete commands with the tab key: encserve --install-completion
"""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, epilog=START)

Store = Annotated[
    Path | None,
    typer.Option(help="Folder of the models. (env ENCSERVE_MODEL_STORE, default model_store)"),
]
Base = Annotated[
    str | None,
    typer.Option(help="Base encoder: a folder or a Hugging Face id. (default all-MiniLM-L6-v2)"),
]


def examples(*commands: str) -> str:
    """What stands under a command's help: each command on a line of its own."""
    return "\n\n".join(("Examples:", *(f"  $ {command}" for command in commands)))


def settings_of(**overrides: Any) -> Settings:
    """The settings in force.

    Raises:
        InvalidSetting: what is wrong and how to mend it, without the value, which may be a key.
    """
    try:
        return load_settings(**overrides)
    except ValidationError as error:
        raise InvalidSetting("; ".join(map(_sentence, error.errors()))) from None
    except ValueError as error:
        raise InvalidSetting(str(error)) from None


def _sentence(error: ErrorDetails) -> str:
    why = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if not error["loc"]:
        return why
    name = f"{ENV_PREFIX}{error['loc'][0]}".upper()
    return f"{name} {why}; `encserve settings` says what it means"


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


def given(**options: Any) -> dict[str, Any]:
    """The options that the caller named; for the others the configuration has its defaults."""
    return {key: value for key, value in options.items() if value is not None}
