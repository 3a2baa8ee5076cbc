"""Ask the models of the store every documented example, and write their answers down for /docs."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from service.api.app import create_app
from service.api.examples import PATH_PARTS
from service.live import load_models
from service.metrics import Metrics
from service.settings import load_settings

TARGET = Path("service/api/example_answers.json")
DIGITS = 6


async def ask(app: FastAPI) -> dict[str, dict[str, Any]]:
    """The answer to each example, by path and name."""
    answers: dict[str, dict[str, Any]] = {}
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://examples") as client,
    ):
        for path, methods in app.openapi()["paths"].items():
            content = methods.get("post", {}).get("requestBody", {}).get("content", {})
            examples = content.get("application/json", {}).get("examples", {})
            for name, example in examples.items():
                response = await client.post(path.format(**PATH_PARTS), json=example["value"])
                response.raise_for_status()
                answers.setdefault(path, {})[name] = rounded(response.json())
    return answers


def rounded(value: Any) -> Any:
    """The same with few digits: another processor has others."""
    if isinstance(value, dict):
        return {name: rounded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def main() -> None:
    settings = load_settings()
    metrics = Metrics(CollectorRegistry())
    answers = asyncio.run(ask(create_app(settings, load_models(settings, metrics), metrics)))
    TARGET.write_text(json.dumps(answers, indent=1) + "\n")
    count = sum(len(named) for named in answers.values())
    print(f"{count} answers of {len(answers)} routes in {TARGET}")


if __name__ == "__main__":
    main()
