"""A tiny GPT over bytes, as a stack of layers that a pipeline can cut anywhere.

Pre-norm decoder blocks as in GPT-2 (Radford et al. 2019); the vocabulary is the 256 bytes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelab.models.slices import tokens_before, with_earlier

VOCABULARY = 256


class Embedding(nn.Module):
    """Bytes to vectors, with a learnt vector for each position."""

    def __init__(self, width: int, context: int):
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, width)
        self.position = nn.Parameter(torch.randn(context, width) * 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """(rows, tokens) -> (rows, tokens, width)."""
        first = tokens_before()  # where the sequence comes in slices
        embedded: Tensor = self.token(tokens) + self.position[first : first + tokens.shape[1]]
        return embedded


class Block(nn.Module):
    """Causal self-attention, then a two-layer MLP; each adds to what came in."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(rows, tokens, width) -> (rows, tokens, width)."""
        rows, tokens, width = x.shape
        qkv = self.qkv(self.norm_1(x)).view(rows, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (rows, heads, tokens, width of a head)
        k, v = with_earlier(self, k, v, dim=2)
        if (before := k.shape[2] - tokens) > 0:  # each token sees all of those, too
            mask = torch.ones(tokens, k.shape[2], dtype=torch.bool, device=x.device).tril(before)
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(rows, tokens, width))
        added: Tensor = x + self.mlp(self.norm_2(x))
        return added


def tiny_gpt(width: int = 64, blocks: int = 4, heads: int = 4, context: int = 64) -> nn.Sequential:
    """Embedding, blocks, head: (rows, tokens) of bytes -> (rows, tokens, 256) logits.

    The default has about 237,000 parameters.
    """
    head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, VOCABULARY))
    return nn.Sequential(
        Embedding(width, context), *(Block(width, heads) for _ in range(blocks)), head
    )


def next_byte_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats per byte: (rows, tokens, 256) and (rows, tokens) -> scalar."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
