"""Small models and real text to train them on."""

from pipelab.models.mlp import mlp
from pipelab.models.text import batches
from pipelab.models.transformer import next_byte_loss, tiny_gpt

__all__ = ["batches", "mlp", "next_byte_loss", "tiny_gpt"]
