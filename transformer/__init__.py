"""A small, real Transformer in PyTorch, and the book that teaches it.

"The paper", wherever it is cited: Vaswani et al., "Attention Is All You Need", 2017.
"""

from transformer.attention import MultiHeadAttention, SelfAttention
from transformer.batching import Batch, make_batch, pad_sequences
from transformer.checkpoint import load_checkpoint, save_checkpoint
from transformer.decoder import Decoder, DecoderLayer, TransformerDecoder
from transformer.encoder import Encoder, EncoderLayer, TransformerEncoder
from transformer.feed_forward import FeedForward
from transformer.position_encoding import PositionalEncoding
from transformer.runtime import choose_device
from transformer.schedule import warmup_rate, warmup_schedule
from transformer.tasks import AdditionTask, CopyTask
from transformer.tokens import END, FIRST_TASK_TOKEN, PAD, START
from transformer.training import (
    History,
    evaluate,
    next_token_loss,
    token_accuracy,
    train,
    train_step,
)
from transformer.transformer import Transformer, count_parameters

__all__ = [
    "END",
    "FIRST_TASK_TOKEN",
    "PAD",
    "START",
    "AdditionTask",
    "Batch",
    "CopyTask",
    "Decoder",
    "DecoderLayer",
    "Encoder",
    "EncoderLayer",
    "FeedForward",
    "History",
    "MultiHeadAttention",
    "PositionalEncoding",
    "SelfAttention",
    "Transformer",
    "TransformerDecoder",
    "TransformerEncoder",
    "choose_device",
    "count_parameters",
    "evaluate",
    "load_checkpoint",
    "make_batch",
    "next_token_loss",
    "pad_sequences",
    "save_checkpoint",
    "token_accuracy",
    "train",
    "train_step",
    "warmup_rate",
    "warmup_schedule",
]
