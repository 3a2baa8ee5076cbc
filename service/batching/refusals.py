"""Why a batcher takes no request, or gives one back, in sentences."""

from service.errors import DeadlineExceeded, InferenceFailed, ShuttingDown


def shutting_down() -> ShuttingDown:
    return ShuttingDown("the server is shutting down: send the request again later")


def worker_died() -> InferenceFailed:
    return InferenceFailed("a worker of the model has died: the server must be restarted")


def too_late() -> DeadlineExceeded:
    return DeadlineExceeded(
        "the deadline passed while the text waited: send fewer texts at a time, or later"
    )
