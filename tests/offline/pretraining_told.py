"""`encserve pretrain` as one of several processes, which tells what token ids it learns from."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from service import cli
from service.offline import scratch
from service.offline.pretrain import Pretrained, pretrain


def told(folder: Path, rank: int) -> list[list[int]]:
    """What the process `rank` learned from."""
    found: list[list[int]] = json.loads((folder / f"{rank}.json").read_text())
    return found


def main(folder: str, *arguments: str) -> None:
    def tell(texts: Sequence[Sequence[int]], *rest: Any, **named: Any) -> Pretrained:
        ids = [[int(token) for token in text] for text in texts]
        (Path(folder) / f"{os.environ['RANK']}.json").write_text(json.dumps(ids))
        return pretrain(texts, *rest, **named)

    with patch.object(scratch, "pretrain", tell):
        cli.app(list(arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
