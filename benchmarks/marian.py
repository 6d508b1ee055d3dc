"""A small Marian of Hugging Face's `transformers`, and the logits that it gives.

Stored as whole numbers, weights in thousandths and logits in millionths, so that a chapter
can compare with them where `transformers` is not installed. Every weight is drawn at
random, layer norms and biases included, for zeros and ones would hide a mistake. One source
row ends in PAD.
"""

import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from benchmarks.measure import write_results

PAD, END = 11, 0
SIZES = {
    "vocab_size": 12,
    "d_model": 8,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 32,
}
SOURCE = [[3, 7, 1, 9, 4, END], [8, 2, 5, END, PAD, PAD]]
TARGET = [[PAD, 6, 2, 10, 5], [PAD, 9, 9, 1, 3]]


def build_marian(seed: int, activation: str = "swish") -> MarianMTModel:
    """A Marian as those that translate, but small, and random to the thousandth."""
    config = MarianConfig(
        **SIZES,
        activation_function=activation,
        scale_embedding=True,
        pad_token_id=PAD,
        eos_token_id=END,
        forced_eos_token_id=None,
        decoder_start_token_id=PAD,
    )
    marian = MarianMTModel(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in marian.named_parameters():
            if "embed_positions" not in name:
                weight.copy_(_draw(weight.shape, generator))
        bias = marian.final_logits_bias
        bias.copy_(_draw(bias.shape, generator))
    return marian


def _draw(shape: torch.Size, generator: torch.Generator) -> Tensor:
    drawn = 0.4 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn.mul(1_000).round() / 1_000


def marian_logits(marian: MarianMTModel, source: Tensor, target_in: Tensor) -> Tensor:
    """Logits `[batch, length, vocab]`; PAD in the source is hidden."""
    with torch.no_grad():
        return marian(
            input_ids=source,
            attention_mask=(source != PAD).long(),
            decoder_input_ids=target_in,
        ).logits


def weights_of(marian: MarianMTModel) -> dict[str, Tensor]:
    """What a file of a Marian holds: each shared matrix once, and no sinusoids."""
    weights = {
        name: weight.detach()
        for name, weight in marian.named_parameters()
        if "embed_positions" not in name
    }
    return weights | {"final_logits_bias": marian.final_logits_bias}


def main() -> None:
    """Build, ask, store."""
    marian = build_marian(seed=0)
    logits = marian_logits(marian, torch.tensor(SOURCE), torch.tensor(TARGET))
    results = {
        "sizes": SIZES | {"activation_function": "swish", "pad_token_id": PAD},
        "source": SOURCE,
        "target_in": TARGET,
        "weights_in_thousandths": {
            name: weight.mul(1_000).round().long().tolist()
            for name, weight in weights_of(marian).items()
        },
        "logits_in_millionths": logits.mul(1e6).round().long().tolist(),
    }
    write_results("marian", ["torch", "transformers"], results)


if __name__ == "__main__":
    main()
