"""Greedy decoding: how many tokens a second, against two well-known peers.

Same sizes for all: d_model 256, 8 heads, 4 + 4 layers, d_ff 1,024, vocabulary 8,000, source
of 32 tokens, float32, one CPU thread. CTranslate2 runs the very weights of our model and
must write the same tokens; Hugging Face's Marian has random weights of the same shapes. No
model ever writes END, so that all write the same number of tokens.
"""

import tempfile
from collections.abc import Callable

import ctranslate2
import torch
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from benchmarks.measure import take_turns, times_as_fast, write_results
from transformer import END, PAD, START, Transformer
from transformer.decoding import decode_uncached
from transformer.export import decode_with_ctranslate2, export_to_ctranslate2
from transformer.packed import PackedTransformer

VOCAB_SIZE, D_MODEL, NUM_HEADS, NUM_LAYERS, D_FF = 8_000, 256, 8, 4, 1_024
SRC_LEN, NEW_TOKENS, LONGEST = 32, 64, 512
NEVER = -1e4

UNCACHED = "each prefix anew"
MODEL = "Transformer"
PACKED = "PackedTransformer"
MARIAN = "Hugging Face Marian"
CTRANSLATE2 = "CTranslate2"

Decode = Callable[[Tensor, int], Tensor]


def build_model() -> Transformer:
    """Our model; it never writes END."""
    model = Transformer(
        VOCAB_SIZE,
        VOCAB_SIZE,
        D_MODEL,
        NUM_HEADS,
        NUM_LAYERS,
        NUM_LAYERS,
        D_FF,
        max_len=LONGEST + 1,
    ).eval()
    with torch.no_grad():
        model.output_projection.bias[END] = NEVER
    return model


def build_marian() -> MarianMTModel:
    """Hugging Face's model of the same sizes; it never writes END either."""
    config = MarianConfig(
        vocab_size=VOCAB_SIZE,
        d_model=D_MODEL,
        encoder_layers=NUM_LAYERS,
        decoder_layers=NUM_LAYERS,
        encoder_attention_heads=NUM_HEADS,
        decoder_attention_heads=NUM_HEADS,
        encoder_ffn_dim=D_FF,
        decoder_ffn_dim=D_FF,
        activation_function="relu",
        scale_embedding=True,
        max_position_embeddings=LONGEST + 1,
        pad_token_id=PAD,
        bos_token_id=START,
        decoder_start_token_id=START,
        eos_token_id=END,
        forced_eos_token_id=None,
    )
    model = MarianMTModel(config).eval()
    model.final_logits_bias[0, END] = NEVER
    return model


def build_contenders() -> dict[str, Decode]:
    """Every way to decode `src [batch, src_len]` into `new_tokens` more tokens."""
    model, marian = build_model(), build_marian()
    packed = PackedTransformer(model)
    with tempfile.TemporaryDirectory() as directory:
        export_to_ctranslate2(model, directory)
        translator = ctranslate2.Translator(
            directory, compute_type="float32", inter_threads=1, intra_threads=1
        )

    def decode_marian(src: Tensor, new_tokens: int) -> Tensor:
        return marian.generate(
            input_ids=src,
            attention_mask=torch.ones_like(src),
            max_new_tokens=new_tokens,
            do_sample=False,
            num_beams=1,
        )

    return {
        MARIAN: decode_marian,
        UNCACHED: lambda src, n: decode_uncached(model, src, n + 1, START, END),
        MODEL: lambda src, n: model.greedy_decode(src, n + 1, START, END),
        PACKED: lambda src, n: packed.greedy_decode(src, n + 1, START, END),
        CTRANSLATE2: lambda src, n: decode_with_ctranslate2(translator, src, n + 1),
    }


def check_same_tokens(contenders: dict[str, Decode], src: Tensor) -> None:
    """Raise unless all that share our weights write the same, and all write enough."""
    decoded = {name: run(src, NEW_TOKENS) for name, run in contenders.items()}
    for name, tokens in decoded.items():
        if tokens.size(1) != 1 + NEW_TOKENS:
            raise ValueError(
                f"{name} wrote {tokens.size(1) - 1} of {NEW_TOKENS} tokens"
            )
        if name != MARIAN and not torch.equal(tokens, decoded[MODEL]):
            raise ValueError(f"{name} wrote other tokens than {MODEL}")


def bind(
    contenders: dict[str, Decode], src: Tensor, new_tokens: int
) -> dict[str, Callable[[], Tensor]]:
    """The contenders as calls without arguments."""
    return {
        name: lambda run=run: run(src, new_tokens) for name, run in contenders.items()
    }


def measure_batch(contenders: dict[str, Decode], batch: int, rounds: int) -> dict:
    """Seconds and ratios for one batch size."""
    src = torch.randint(3, VOCAB_SIZE, (batch, SRC_LEN))
    check_same_tokens(contenders, src)
    seconds = take_turns(bind(contenders, src, NEW_TOKENS), rounds)
    ratios = times_as_fast(seconds, MARIAN)
    of_ctranslate2 = times_as_fast(seconds, CTRANSLATE2)
    print(f"\nbatch {batch}, {rounds} rounds: times as fast as Marian, as CTranslate2")
    for name in contenders:
        print(f"  {name:20} {ratios[name]:5.2f} {of_ctranslate2[name]:5.2f}")
    return {
        "batch": batch,
        "seconds": seconds,
        "times_as_fast_as_marian": ratios,
        "times_as_fast_as_ctranslate2": of_ctranslate2,
    }


def measure_growth(contenders: dict[str, Decode], rounds: int = 5) -> list[dict]:
    """Seconds for one source and ever more new tokens."""
    src = torch.randint(3, VOCAB_SIZE, (1, SRC_LEN))
    growth = []
    for new_tokens in (16, 32, 64, 128, 256, LONGEST):
        seconds = take_turns(bind(contenders, src, new_tokens), rounds)
        best = {name: min(times) for name, times in seconds.items()}
        print(new_tokens, {name: round(value, 3) for name, value in best.items()})
        growth.append({"new_tokens": new_tokens, "seconds": best})
    return growth


def main() -> None:
    """Measure, print, store."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    contenders = build_contenders()
    results = {
        "threads": 1,
        "batches": [
            measure_batch(contenders, batch=1, rounds=21),
            measure_batch(contenders, batch=32, rounds=7),
        ],
        "growth": measure_growth(contenders),
    }
    write_results("decoding", ["torch", "transformers", "ctranslate2"], results)


if __name__ == "__main__":
    main()
