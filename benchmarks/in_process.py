"""An application in this process that is asked on command: a count of calls in, CPU time out.

`tracing_cost` starts it by its path, with PYTHONPATH naming the code to measure, which may be older
than this file.
"""

import asyncio
import json
import logging
import sys
import time

from prometheus_client import CollectorRegistry

from benchmarks.dialects import request
from service.api.app import create_app
from service.live import load_models
from service.metrics import Metrics
from service.settings import Settings, load_settings

PATH, TEXT = "/v1/embeddings", "The staff could not have been kinder."


def tools(settings: Settings) -> list[object]:
    """What this code has to log and to trace with; code from before has neither."""
    try:
        from service.logs import set_up_logging
        from service.tracing import open_tracing
    except ImportError:
        logging.basicConfig(level=settings.log_level.upper())
        return []
    set_up_logging(settings.log_level, "json", sys.stderr)
    return [open_tracing(settings)]


async def serve() -> None:
    settings = load_settings()
    metrics = Metrics(CollectorRegistry())
    beside = tools(settings)
    app = create_app(settings, load_models(settings, metrics), metrics, *beside)  # type: ignore[arg-type]
    call = request(app, PATH, {"input": TEXT, "encoding_format": "base64"})
    async with app.router.lifespan_context(app):
        await call()
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            before_ns = time.process_time_ns()
            for _ in range(int(line)):
                await call()
            print(time.process_time_ns() - before_ns, flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
