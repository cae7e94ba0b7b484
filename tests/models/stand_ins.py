"""Tiny decoders with the attribute names of Hugging Face's GPT-2 and Llama, for want of them.

Written from scratch: what they compute matters less than that it is causal, and that the loop over
the blocks is in the forward of the model, where a pipeline cannot cut.
"""

from types import SimpleNamespace

import torch
from torch import nn

WORDS, WIDTH = 13, 8


class Attention(nn.Module):
    """One head over all of the width; rotates by angles if it is given some."""

    def __init__(self, eager):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.eager = eager

    def forward(self, hidden, mask, angles=None):
        q, k, v = self.qkv(hidden).chunk(3, -1)
        if angles is not None:
            cos, sin = angles
            q, k = (t * cos + t.flip(-1) * sin for t in (q, k))
        if not self.eager:
            assert mask is None
            return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = q @ k.mT / WIDTH**0.5
        return (scores if mask is None else scores + mask[0]).softmax(-1) @ v


class Gpt2Block(nn.Module):
    """Returns a tuple, as old releases did."""

    def __init__(self, eager):
        super().__init__()
        self.attn = Attention(eager)

    def forward(self, hidden, attention_mask=None):
        return (hidden + self.attn(hidden, attention_mask),)


class LlamaBlock(nn.Module):
    def __init__(self, eager):
        super().__init__()
        self.self_attn = Attention(eager)

    def forward(self, hidden, attention_mask=None, position_embeddings=None):
        return hidden + self.self_attn(hidden, attention_mask, position_embeddings)


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("inv_freq", torch.rand(WIDTH), persistent=False)

    def forward(self, hidden, position_ids):
        angles = position_ids[..., None].float() * self.inv_freq
        return angles.cos(), angles.sin()


def causal(tokens, eager):
    shape = (1, 1, tokens.shape[1], tokens.shape[1])
    return torch.full(shape, float("-inf")).triu(1) if eager else None


class Gpt2(nn.Module):
    def __init__(self, attention="sdpa"):
        super().__init__()
        self.config = SimpleNamespace(model_type="gpt2", _attn_implementation=attention)
        self.eager = attention == "eager"
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(WORDS, WIDTH)
        self.transformer.wpe = nn.Embedding(32, WIDTH)
        self.transformer.drop = nn.Dropout(0.5)
        self.transformer.h = nn.ModuleList(Gpt2Block(self.eager) for _ in range(3))
        self.transformer.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, tokens):
        body = self.transformer
        hidden = body.drop(body.wte(tokens) + body.wpe(torch.arange(tokens.shape[1])))
        for block in body.h:
            (hidden,) = block(hidden, causal(tokens, self.eager))
        return SimpleNamespace(logits=self.lm_head(body.ln_f(hidden)))


class Llama(nn.Module):
    def __init__(self, attention="sdpa"):
        super().__init__()
        self.config = SimpleNamespace(model_type="llama", _attn_implementation=attention)
        self.eager = attention == "eager"
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(WORDS, WIDTH)
        self.model.layers = nn.ModuleList(LlamaBlock(self.eager) for _ in range(3))
        self.model.norm = nn.LayerNorm(WIDTH)
        self.model.rotary_emb = Rotary()
        self.lm_head = nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens):
        hidden = self.model.embed_tokens(tokens)
        angles = self.model.rotary_emb(hidden, torch.arange(tokens.shape[1])[None])
        for block in self.model.layers:
            hidden = block(hidden, causal(tokens, self.eager), angles)
        return SimpleNamespace(logits=self.lm_head(self.model.norm(hidden)))
