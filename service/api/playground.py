"""The page at `/`: what the models say and why, in the browser; and what is known of each model."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from service.api.routing import documented_responses, engines_of, settings_of
from service.errors import UnknownPage
from service.store.repository import ModelRepository

STATIC = Path(__file__).with_name("static")
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

# Everything comes from this server, nothing is written into the page, and nobody frames it.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report brings its pictures and its style along, and runs nothing.
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"
)

router = APIRouter(tags=["Operations"])


@router.head("/", include_in_schema=False)
@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    return _static(request, "index.html")


@router.get("/playground/{name}", include_in_schema=False)
async def part_of_page(name: str, request: Request) -> Response:
    return _static(request, name)


@router.get(
    "/v1/models/{model}/card",
    summary="A model's card, as Markdown",
    response_class=Response,
    responses=documented_responses(),
)
async def card(model: str, request: Request) -> Response:
    return _report(request, model, "MODEL_CARD.md", "text/markdown; charset=utf-8")


@router.get(
    "/v1/models/{model}/report",
    summary="A model's report, as a page",
    response_class=Response,
    responses=documented_responses(),
)
async def report(model: str, request: Request) -> Response:
    return _report(request, model, "report.html", MEDIA_TYPES[".html"])


def _static(request: Request, name: str) -> Response:
    file = _files().get(name) if settings_of(request).playground else None
    if file is None:
        raise UnknownPage("no such page: GET /docs lists the routes")
    return _file(file, MEDIA_TYPES[file.suffix], PAGE_POLICY)


def _files() -> Mapping[str, Path]:
    """What may be asked for; a name of the caller's never becomes a path."""
    return {file.name: file for file in STATIC.iterdir() if file.suffix in MEDIA_TYPES}


def _report(request: Request, model: str, name: str, media_type: str) -> Response:
    settings = settings_of(request)
    if not settings.show_reports:
        raise UnknownPage(
            "reports quote the texts that a model was measured on, and are not shown: "
            "ENCSERVE_SHOW_REPORTS=true shows them"
        )
    engine = engines_of(request).get(model)
    version = ModelRepository(settings.model_store).resolve(engine.name, engine.version)
    file = version.path / "report" / name
    if not file.is_file():
        raise UnknownPage(f"version {engine.version} of model {engine.name!r} has no report")
    return _file(file, media_type, REPORT_POLICY)


def _file(file: Path, media_type: str, policy: str) -> Response:
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    return FileResponse(file, media_type=media_type, headers=headers)
