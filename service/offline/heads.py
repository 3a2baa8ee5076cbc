"""What stands on the encoder: pooling, the embedding output and the classification head.

`f(x) = W_e · Encoder(x)`: one fixed-length vector a text, and a linear map of it where a task
needs labels. t tokens, n texts, the longest l tokens, d the hidden size.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from service.offline.encoder import Encoder, append_zero_row, padding_mask

Pooling = Literal["mean", "cls"]


def pooled(
    encoder: Encoder,
    pooling: Pooling,
    input_ids: Tensor,
    position_ids: Tensor,
    pad_index: Tensor,
    unpad_index: Tensor,
) -> Tensor:
    """One vector a text, [n, d]: the mean of its tokens' vectors, or its first token's."""
    # Of a single block, `first` would leave an input of the exported graph without use.
    if pooling == "cls" and encoder.config.layers > 1:
        return encoder.first(input_ids, position_ids, pad_index, unpad_index)
    hidden: Tensor = encoder(input_ids, position_ids, pad_index, unpad_index)
    if pooling == "cls":
        return hidden[pad_index[:, 0]]
    block = append_zero_row(hidden)[pad_index]  # [n, l, d]
    lengths = (1.0 - padding_mask(pad_index, input_ids)).sum(dim=1, keepdim=True)
    return block.sum(dim=1) / lengths


class EmbeddingModel(nn.Module):
    """The encoder's pooled vector, scaled to unit length if `normalize`: -> [n, d] float32."""

    output_name = "embedding"

    def __init__(self, encoder: Encoder, pooling: Pooling, *, normalize: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.normalize = normalize

    @property
    def width(self) -> int:
        return self.encoder.config.hidden_size

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, pad_index: Tensor, unpad_index: Tensor
    ) -> Tensor:
        vectors = pooled(
            self.encoder, self.pooling, input_ids, position_ids, pad_index, unpad_index
        )
        return functional.normalize(vectors, dim=-1) if self.normalize else vectors


class ClassificationModel(nn.Module):
    """Pooled vector, dropout, one linear layer: -> logits [n, labels] float32."""

    output_name = "logits"

    def __init__(
        self, encoder: Encoder, pooling: Pooling, labels: int, *, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(encoder.config.hidden_size, labels)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    @property
    def width(self) -> int:
        return self.classifier.out_features

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, pad_index: Tensor, unpad_index: Tensor
    ) -> Tensor:
        vectors = pooled(
            self.encoder, self.pooling, input_ids, position_ids, pad_index, unpad_index
        )
        return self.classifier(self.dropout(vectors))  # type: ignore[no-any-return]  # nn.Module call


TaskModel = EmbeddingModel | ClassificationModel
