"""What a model that was trained on the tiny tokenizer answers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from service.offline.data import Example
from service.offline.finetune import Finetuned
from service.offline.training.batches import packed_tensors
from tests.conftest import tiny_tokenizer

FloatArray = npt.NDArray[np.float32]


def rows_of(tuned: Finetuned, examples: Sequence[Example]) -> FloatArray:
    """What the model that is handed back answers."""
    tokenizer = tiny_tokenizer()
    batch = packed_tensors([tokenizer.encode(example.text).ids for example in examples])
    with torch.inference_mode():
        rows: FloatArray = tuned.model(*batch).numpy()
    return rows
