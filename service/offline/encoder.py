"""The Transformer encoder, written out: embeddings, self-attention, feed-forward, residuals, norms.

Post-norm blocks as in BERT (Devlin et al., 2019, arXiv:1810.04805; Vaswani et al., 2017,
arXiv:1706.03762), on packed batches (`service.runtime.packing`): t tokens of n texts laid end to
end, the longest text l tokens long, d the hidden size. Only attention sees the padded block.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.offline.dropout import Dropout


@dataclass(frozen=True)
class EncoderConfig:
    """Size of an encoder; every number may be chosen, `hidden_size` a multiple of `heads`."""

    vocabulary_size: int
    hidden_size: int = 384
    layers: int = 6
    heads: int = 12
    feed_forward_size: int = 1536
    max_positions: int = 512
    segments: int = 2
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of heads {self.heads}"
            )


class Embeddings(nn.Module):
    """Token + position + segment embedding, normalised: [t] int64 -> [t, d]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.position = nn.Embedding(config.max_positions, config.hidden_size)
        self.segment = nn.Embedding(config.segments, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, input_ids: Tensor, position_ids: Tensor, token_type_ids: Tensor | None
    ) -> Tensor:
        # A single text is all segment 0: without the input the graph needs no gather for it.
        segment = self.segment.weight[0] if token_type_ids is None else self.segment(token_type_ids)
        hidden: Tensor = self.token(input_ids) + self.position(position_ids) + segment
        return self.dropout(self.norm(hidden))  # type: ignore[no-any-return]  # nn.Module call


class SelfAttention(nn.Module):
    """Multi-head scaled dot-product self-attention within each text: [t, d] -> [t, d]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.head_size = config.hidden_size // config.heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, hidden: Tensor, pad_index: Tensor, unpad_index: Tensor, padding_bias: Tensor
    ) -> Tensor:
        queries = pad(self.query(hidden), pad_index)  # [n, l, d]
        block = self._attend(queries, hidden, pad_index, padding_bias)
        return self.output(rows_at(unpad_index, block.flatten(0, 1)))  # type: ignore[no-any-return]  # nn.Module call

    def leading(
        self, rows: Tensor, hidden: Tensor, pad_index: Tensor, padding_bias: Tensor
    ) -> Tensor:
        """The same for the first q tokens of each text only, `rows`: [n * q, d] -> [n * q, d]."""
        queries = self.query(rows).view(pad_index.shape[0], -1, rows.shape[-1])  # [n, q, d]
        block = self._attend(queries, hidden, pad_index, padding_bias)
        return self.output(block.flatten(0, 1))  # type: ignore[no-any-return]  # nn.Module call

    def _attend(
        self, queries: Tensor, hidden: Tensor, pad_index: Tensor, padding_bias: Tensor
    ) -> Tensor:
        """q queries of each text over all its tokens: [n, q, d] -> [n, q, d]."""
        query = self._per_head(queries)  # [n, heads, q, head_size]
        key = self._per_head(pad(self.key(hidden), pad_index))
        value = self._per_head(pad(self.value(hidden), pad_index))
        scores = query @ key.transpose(-1, -2) / math.sqrt(self.head_size)  # [n, heads, q, l]
        weights: Tensor = self.dropout(torch.softmax(scores + padding_bias, dim=-1))
        return (weights @ value).transpose(1, 2).flatten(2)

    def _per_head(self, block: Tensor) -> Tensor:
        """[n, q, d] -> [n, heads, q, head_size]."""
        return block.view(*block.shape[:2], self.heads, self.head_size).transpose(1, 2)


class FeedForward(nn.Module):
    """Two linear layers with GELU between, each token by itself: [t, d] -> [t, d]."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.contract = nn.Linear(config.feed_forward_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.contract(functional.gelu(self.expand(hidden)))  # type: ignore[no-any-return]  # nn.Module call


class Block(nn.Module):
    """Self-attention and feed-forward, each with a residual and a LayerNorm after it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, hidden: Tensor, pad_index: Tensor, unpad_index: Tensor, padding_bias: Tensor
    ) -> Tensor:
        return self._add(hidden, self.attention(hidden, pad_index, unpad_index, padding_bias))

    def leading(
        self, hidden: Tensor, index: Tensor, pad_index: Tensor, padding_bias: Tensor
    ) -> Tensor:
        """The block's result for the rows of `index` [n, q] only: [t, d] -> [n, q, d]."""
        rows = hidden[index.flatten()]
        attended = self.attention.leading(rows, hidden, pad_index, padding_bias)
        return self._add(rows, attended).view(*index.shape, rows.shape[-1])

    def _add(self, hidden: Tensor, attended: Tensor) -> Tensor:
        hidden = self.attention_norm(hidden + self.dropout(attended))
        return self.feed_forward_norm(  # type: ignore[no-any-return]  # nn.Module call
            hidden + self.dropout(self.feed_forward(hidden))
        )


class Encoder(nn.Module):
    """Packed token ids to one vector a token; weights are random until a checkpoint is loaded."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.apply(_initialise)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        unpad_index: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Shapes and types as in `PackedBatch`, segments only of pairs; returns [t, d] float32."""
        hidden, padding_bias = self._embed(input_ids, position_ids, pad_index, token_type_ids)
        for block in self.blocks:
            hidden = block(hidden, pad_index, unpad_index, padding_bias)
        return hidden

    def leading(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        unpad_index: Tensor,
        token_type_ids: Tensor | None = None,
        *,
        tokens: int | Tensor = 1,
    ) -> Tensor:
        """The vectors of each text's first q tokens, [n, q, d]: some rows of `forward`.

        The last block computes those rows only; the others it would compute nobody reads. Behind
        the end of a text stands what nobody may read.

        Args:
            tokens: q, at most the longest text's are computed; int64 without dimensions.
        """
        hidden, padding_bias = self._embed(input_ids, position_ids, pad_index, token_type_ids)
        *most, last = self.blocks
        for block in most:
            hidden = block(hidden, pad_index, unpad_index, padding_bias)
        # Padding takes any row.
        index = pad_index[:, :tokens] % input_ids.shape[0]
        return last.leading(hidden, index, pad_index, padding_bias)  # type: ignore[no-any-return,operator]  # nn.Module

    def _embed(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        token_type_ids: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        hidden: Tensor = self.embeddings(input_ids, position_ids, token_type_ids)
        padding_bias = padding_mask(pad_index, input_ids) * torch.finfo(hidden.dtype).min
        return hidden, padding_bias[:, None, None, :]


def padding_mask(pad_index: Tensor, input_ids: Tensor) -> Tensor:
    """1.0 where the padded block holds no token, else 0.0: [n, l] float32."""
    return (pad_index == input_ids.shape[0]).to(torch.float32)


def pad(rows: Tensor, pad_index: Tensor) -> Tensor:
    """The padded block of packed rows, zeros behind the end of a text: [t, d] -> [n, l, d]."""
    return rows_at(pad_index, torch.cat([rows, rows.new_zeros(1, rows.shape[-1])]))


def rows_at(index: Tensor, rows: Tensor) -> Tensor:
    """`rows[index]`, with a gradient that adds whole rows: [r, d] -> [*index.shape, d]."""
    return functional.embedding(index, rows)


def _initialise(module: nn.Module) -> None:
    """BERT's initialisation: normal with deviation 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
