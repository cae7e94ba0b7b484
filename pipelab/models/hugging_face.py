"""A decoder of Hugging Face as a list of layers that a pipeline can cut anywhere.

    config = transformers.GPT2Config(n_layer=6, n_embd=128, n_head=4, vocab_size=256)
    layers = layers_of(transformers.GPT2LMHeadModel(config))
    with Pipeline(layers, one_f_one_b(4, 8), loss=next_byte_loss) as pipeline:
        pipeline.step(tokens, targets)  # both (rows, tokens); targets are the next tokens

Token and position embedding, blocks, final norm and head: between them travel hidden states
(rows, tokens, width) alone, each block making its own causal mask and rotary angles. The layers
hold the model's own modules; nothing is copied, so that what is loaded into the list is in the
model. Batches are whole rows of tokens, without padding. Transformers itself is not imported.
"""

import copy
from collections import OrderedDict

import torch
from torch import Tensor, nn

from pipelab.errors import PartitionError


def layers_of(model: nn.Module, untie: bool = False) -> list[nn.Module]:
    """The layers of a ``GPT2LMHeadModel`` or ``LlamaForCausalLM``: tokens -> logits.

    Args:
        untie: give the head a copy of its weights where it shares them with the embedding, as in
            GPT-2. The two then learn apart, so it is another model that trains; and the copy is in
            the list alone. Left tied, the ranks of both keep them equal, which costs two messages
            of that size in each step.

    Raises:
        PartitionError: another kind of model, or attention other than "sdpa" and "eager".
    """
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", type(model).__name__)
    if kind not in ("gpt2", "llama") or not hasattr(model, "lm_head"):
        raise PartitionError(
            f"the model is a {type(model).__name__} (of type {kind}), neither a GPT2LMHeadModel "
            f"nor a LlamaForCausalLM: other models may scale, mask or normalize elsewhere; "
            f"write its layers as a list of modules, as pipelab.models.hugging_face does"
        )
    attention = getattr(config, "_attn_implementation", "eager")
    if attention not in ("sdpa", "eager"):
        raise PartitionError(
            f"the model's attention is {attention!r}: its layers are run with 'sdpa' or 'eager'; "
            f"give attn_implementation='sdpa' to its config"
        )
    layers = (_gpt2 if kind == "gpt2" else _llama)(model, masked=attention == "eager")
    head = model.get_submodule("lm_head")
    if untie and any(p is q for p in head.parameters() for q in layers[0].parameters()):
        head = copy.deepcopy(head)
    norm = model.get_submodule("transformer.ln_f" if kind == "gpt2" else "model.norm")
    return [*layers, nn.Sequential(OrderedDict(norm=norm, head=head))]


def _gpt2(model: nn.Module, masked: bool) -> list[nn.Module]:
    blocks = model.get_submodule("transformer.h").children()
    return [Embedding(model), *(Block(block, masked) for block in blocks)]


def _llama(model: nn.Module, masked: bool) -> list[nn.Module]:
    blocks = model.get_submodule("model.layers").children()
    rotary = model.get_submodule("model.rotary_emb")  # no weights: every rank may have one
    embedding = model.get_submodule("model.embed_tokens")
    return [embedding, *(Block(block, masked, rotary) for block in blocks)]


class Embedding(nn.Module):
    """GPT-2's tokens and positions to vectors: (rows, tokens) -> (rows, tokens, width)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.wte = model.get_submodule("transformer.wte")
        self.wpe = model.get_submodule("transformer.wpe")
        self.drop = model.get_submodule("transformer.drop")

    def forward(self, tokens: Tensor) -> Tensor:
        """(rows, tokens) -> (rows, tokens, width)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        embedded: Tensor = self.drop(self.wte(tokens) + self.wpe(positions))
        return embedded


class Block(nn.Module):
    """One decoder block, which gets nothing but hidden states.

    Args:
        masked: "eager" attention needs a mask to be causal; "sdpa" needs none.
        rotary: gives Llama's blocks the angles of the positions.
    """

    def __init__(self, block: nn.Module, masked: bool, rotary: nn.Module | None = None):
        super().__init__()
        self.block = block
        self.masked = masked
        self.rotary = rotary

    def forward(self, hidden: Tensor) -> Tensor:
        """(rows, tokens, width) -> (rows, tokens, width)."""
        options = {}
        if self.rotary is not None:
            positions = torch.arange(hidden.shape[1], device=hidden.device)
            options["position_embeddings"] = self.rotary(hidden, positions.unsqueeze(0))
        output = self.block(hidden, attention_mask=self._mask(hidden), **options)
        found: Tensor = output[0] if isinstance(output, tuple) else output  # old: tuples
        return found

    def _mask(self, hidden: Tensor) -> Tensor | None:
        """(1, 1, tokens, tokens), to be added to the scores: no token sees a later one."""
        if not self.masked:
            return None
        tokens = hidden.shape[1]
        lowest = hidden.new_full((tokens, tokens), torch.finfo(hidden.dtype).min)
        return lowest.triu(1)[None, None]
