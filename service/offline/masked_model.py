"""What stands on an encoder while it learns from raw texts; only the encoder is kept.

t tokens, n texts, d the hidden size, h hidden tokens, v the vocabulary.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.offline.encoder import Block, Encoder, padding_mask
from service.offline.heads import Pooling, pool

Objective = Literal["mlm", "autoencoder"]

NOT_HIDDEN = -100


class TokenNamer(nn.Module):
    """Vectors to logits over the vocabulary, whose weights are the token embeddings: -> [h, v]."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        config = encoder.config
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary_size))

    def forward(self, vectors: Tensor, token_vectors: Tensor) -> Tensor:
        hidden = self.norm(functional.gelu(self.dense(vectors)))
        return functional.linear(hidden, token_vectors, self.bias)


class PretrainingModel(nn.Module):
    """The encoder with what stands on it while it learns; only the encoder is kept."""

    def __init__(self, encoder: Encoder, objective: Objective, pooling: Pooling) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.namer = TokenNamer(encoder)
        self.decoder = Block(encoder.config) if objective == "autoencoder" else None

    def forward(
        self,
        seen: Tensor,
        targets: Tensor,
        decoder_seen: Tensor,
        decoder_targets: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        unpad_index: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the share of hidden tokens named right (by the decoder, if there is one).

        Args:
            seen: [t] int64, what the encoder reads. targets: [t] int64, the hidden tokens, else
                `NOT_HIDDEN`. decoder_seen, decoder_targets: the same of the decoder.
        """
        hidden = self.encoder(seen, position_ids, pad_index, unpad_index)
        loss, right = self.name(hidden, targets)
        if self.decoder is None:
            return loss, right
        vectors = pool(hidden, self.pooling, pad_index)
        rebuilt, right = self.name(
            self.rebuild(vectors, decoder_seen, position_ids, pad_index, unpad_index),
            decoder_targets,
        )
        return loss + rebuilt, right

    def rebuild(
        self,
        vectors: Tensor,
        seen: Tensor,
        position_ids: Tensor,
        pad_index: Tensor,
        unpad_index: Tensor,
    ) -> Tensor:
        """The decoder's vectors, [t, d], from one vector a text, [n, d], and the tokens it sees."""
        assert self.decoder is not None
        hidden = self.encoder.embeddings(seen, position_ids, None)
        hidden = hidden.index_copy(0, pad_index[:, 0], vectors.to(hidden.dtype))
        bias = padding_mask(pad_index, seen) * torch.finfo(hidden.dtype).min
        decoded: Tensor = self.decoder(hidden, pad_index, unpad_index, bias[:, None, None, :])
        return decoded

    def name(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss of the hidden tokens' names, and the share named right; of no other token."""
        rows = (targets != NOT_HIDDEN).nonzero().squeeze(1)
        logits = self.namer(hidden[rows], self.encoder.embeddings.token.weight)
        wanted = targets[rows]
        right = (logits.argmax(dim=-1) == wanted).float().mean()
        return functional.cross_entropy(logits.float(), wanted), right
