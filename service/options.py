"""What a caller may say about a request, whatever it asks for."""

from dataclasses import dataclass
from typing import Literal

from service.access.purchases import UNLIMITED, Account
from service.batching.queue import Priority
from service.runtime.outputs import Pooling
from service.runtime.tokenizer import Side
from service.work import Work

Overflow = Literal["truncate", "error", "windows"]


@dataclass(frozen=True, slots=True)
class Options:
    """All may be left out.

    timeout_s: less than the server's own limit.
    prompt_name: of the manifest's prompts; without it the default one, if there is one.
    overflow: what becomes of an input that is longer than the model reads.
    windows: how the labels of a text that was spread over several are put together.
    partial: an input at fault is noted among the errors; else its error is raised.
    account: who pays. work: is told what was done for the request.
    """

    priority: Priority = Priority.INTERACTIVE
    timeout_s: float | None = None
    prompt_name: str | None = None
    overflow: Overflow = "truncate"
    truncation_side: Side = "right"
    windows: Pooling = "mean"
    partial: bool = False
    account: Account = UNLIMITED
    work: Work | None = None


DEFAULT = Options()
