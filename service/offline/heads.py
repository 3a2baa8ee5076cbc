"""What stands on the encoder: pooling, the embedding output and the classification head.

`f(x) = W_e · Encoder(x)`: one fixed-length vector a text, and a linear map of it where a task
needs labels. t tokens, n texts, the longest l tokens, d the hidden size. `forward` takes the arrays
of `PackedBatch`; segments only where the model reads pairs.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.offline.dropout import Dropout
from service.offline.encoder import Encoder, pad, padding_mask

TOKEN_OUTPUT = "token_embeddings"

Pooling = Literal["mean", "cls"]
Activation = Literal["tanh", "relu", "gelu", "identity"]

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "gelu": functional.gelu,
    "identity": lambda vectors: vectors,
}


def pooled(
    encoder: Encoder,
    pooling: Pooling,
    input_ids: Tensor,
    position_ids: Tensor,
    pad_index: Tensor,
    unpad_index: Tensor,
    token_type_ids: Tensor | None = None,
) -> Tensor:
    """One vector a text, [n, d]: the mean of its tokens' vectors, or its first token's."""
    arrays = (input_ids, position_ids, pad_index, unpad_index, token_type_ids)
    if spares_tokens(encoder, pooling):
        return encoder.leading(*arrays)[:, 0]
    hidden: Tensor = encoder(*arrays)
    return pool(hidden, pooling, pad_index)


def spares_tokens(encoder: Encoder, pooling: Pooling) -> bool:
    """True where the last block computes no more than the first token of each text."""
    # Of a single block, that would leave an input of the exported graph without use.
    return pooling == "cls" and encoder.config.layers > 1


def pool(hidden: Tensor, pooling: Pooling, pad_index: Tensor) -> Tensor:
    """One vector a text from one a token: [t, d] -> [n, d]."""
    if pooling == "cls":
        return hidden[pad_index[:, 0]]
    block = pad(hidden, pad_index)  # [n, l, d]
    lengths = (1.0 - padding_mask(pad_index, hidden)).sum(dim=1, keepdim=True)
    return block.sum(dim=1) / lengths


class Projection(nn.Module):
    """A dense layer that a checkpoint brings between pooling and output: [n, d] -> [n, width]."""

    def __init__(self, inputs: int, width: int, activation: Activation) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.activation = activation

    @property
    def width(self) -> int:
        return self.dense.out_features

    def forward(self, vectors: Tensor) -> Tensor:
        return _ACTIVATIONS[self.activation](self.dense(vectors))


def project(projection: Projection | None, vectors: Tensor) -> Tensor:
    """[n, d] -> [n, width]; without a projection as they are."""
    projected: Tensor = vectors if projection is None else projection(vectors)
    return projected


class EmbeddingModel(nn.Module):
    """The encoder's pooled vector, scaled to unit length if `normalize`: -> [n, width] float32.

    Args:
        projection: applied to the pooled vector first.
    """

    output_name = "embedding"

    def __init__(
        self,
        encoder: Encoder,
        pooling: Pooling,
        *,
        normalize: bool,
        projection: Projection | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.normalize = normalize
        self.projection = projection

    @property
    def width(self) -> int:
        return self.projection.width if self.projection else self.encoder.config.hidden_size

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        unpad_index: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        arrays = (input_ids, position_ids, pad_index, unpad_index, token_type_ids)
        vectors = project(self.projection, pooled(self.encoder, self.pooling, *arrays))
        return functional.normalize(vectors, dim=-1) if self.normalize else vectors


class EmbeddingGraph(nn.Module):
    """What is exported of an embedding model: its vectors before they are scaled, and its tokens'.

    The server scales, as some callers want the vectors as they were pooled.

    Where pooling spares the last block all tokens but the first, the graph has a further input,
    `leading_tokens`: how many of each text are computed, 1 unless it is given.
    """

    def __init__(self, model: EmbeddingModel) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.pooling = model.pooling
        self.projection = model.projection
        self.output_name = model.output_name

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `forward` returns."""
        return (self.output_name, TOKEN_OUTPUT)

    @property
    def spares_tokens(self) -> bool:
        return spares_tokens(self.encoder, self.pooling)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        unpad_index: Tensor,
        token_type_ids: Tensor | None = None,
        leading_tokens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """[n, width], and [t, d]; with `leading_tokens` the vectors of that many, [n, q, d]."""
        arrays = (input_ids, position_ids, pad_index, unpad_index, token_type_ids)
        if leading_tokens is not None:
            block = self.encoder.leading(*arrays, tokens=leading_tokens)
            return project(self.projection, block[:, 0]), block
        hidden: Tensor = self.encoder(*arrays)
        return project(self.projection, pool(hidden, self.pooling, pad_index)), hidden


class ClassificationModel(nn.Module):
    """Pooled vector, dropout, one linear layer: -> logits [n, labels] float32.

    Args:
        projection: applied to the pooled vector first.
        temperature: what the logits are divided by, see `set_temperature`.
    """

    output_name = "logits"
    temperature: Tensor

    def __init__(
        self,
        encoder: Encoder,
        pooling: Pooling,
        labels: int,
        *,
        dropout: float = 0.1,
        temperature: float = 1.0,
        projection: Projection | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.projection = projection
        self.dropout = Dropout(dropout)
        width = projection.width if projection else encoder.config.hidden_size
        self.classifier = nn.Linear(width, labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("temperature", torch.tensor(float(temperature)))

    @property
    def width(self) -> int:
        return self.classifier.out_features

    def set_temperature(self, temperature: float) -> None:
        """Divide the logits by this from now on, which changes how sure scores are, not their
        order."""
        self.temperature.fill_(temperature)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        unpad_index: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        arrays = (input_ids, position_ids, pad_index, unpad_index, token_type_ids)
        vectors = pooled(self.encoder, self.pooling, *arrays)
        if self.projection is not None:
            vectors = self.projection(vectors)
        logits: Tensor = self.classifier(self.dropout(vectors))
        return logits / self.temperature


TaskModel = EmbeddingModel | ClassificationModel
Graph = EmbeddingGraph | ClassificationModel


def graph_of(model: TaskModel) -> Graph:
    """The module that is exported of a model."""
    if not isinstance(model, EmbeddingModel):
        return model
    # A new module is in training mode, and the exporter gives a module back in the mode it had.
    return EmbeddingGraph(model).train(model.training)


def output_names(graph: Graph) -> tuple[str, ...]:
    """Names of the graph's outputs, that of the task first."""
    return graph.outputs if isinstance(graph, EmbeddingGraph) else (graph.output_name,)
