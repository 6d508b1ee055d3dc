"""From the original tutorial's recipe for addition to chapter 9's, and beyond.

Every variant is trained with five seeds, which decide the split, the first weights and the
order of the examples, and on 115,200 examples, as many as chapter 9 takes, or on more where
numbers are longer. Exams at fixed numbers of examples ask held-out pairs. Counted: how many
of them are right at each exam, the right answers at the end (of all 10,000 pairs of two
digits, or of 10,000 held-out pairs of more), by place and by length of the carry chain, and
the processor's time a step.

A run takes half a minute to two minutes, and all together about an hour and a half on two
cores. What is finished is kept: after an interruption, start it again.
"""

import argparse
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.measure import machine, write_results
from benchmarks.variants import Variant, build_model, run
from transformer import count_parameters

SEEDS = range(5)

OURS = Variant("chapter 9's")
LARGE = (
    ("d_model", 128),
    ("num_encoder_layers", 3),
    ("num_decoder_layers", 3),
    ("d_ff", 512),
)
POST_NORM = (("norm_first", False),)
DROPOUT = (("dropout", 0.1),)


def changed(name: str, **changes: object) -> Variant:
    """Chapter 9's way with something else."""
    return OURS._replace(name=name, **changes)


def with_old_rate(name: str, sizes: tuple) -> Variant:
    """Trained as the original tutorial does: Adam, and one learning rate throughout."""
    rate = dict(learning_rate=5e-4, has_cycle=False)
    return changed(name, sizes=sizes, optimizer="Adam", **rate)


def with_layers(name: str, number: int) -> Variant:
    """Encoder and decoder with as many layers each."""
    layers = (("num_encoder_layers", number), ("num_decoder_layers", number))
    return changed(name, sizes=layers)


def longer(num_digits: int, writing: str, num_examples: int) -> Variant:
    """Sums of more digits, for which more examples are needed."""
    name = f"{num_digits} digits, {'plain' if writing == 'sum' else writing}"
    how = dict(num_digits=num_digits, writing=writing)
    return changed(name, num_examples=num_examples, exam_every=12_800, **how)


#: One change after the other, from the original recipe to ours.
PATH = [
    with_old_rate("the original tutorial's", LARGE + POST_NORM + DROPOUT),
    with_old_rate("+ smaller model", POST_NORM + DROPOUT),
    with_old_rate("+ pre-norm", DROPOUT),
    with_old_rate("+ no dropout", ()),
    changed("Adam, one cycle to 3e-3", optimizer="Adam"),
    OURS,
]
#: Each of these changes taken back from ours, all the others kept.
TAKEN_BACK = [
    changed("larger model", sizes=LARGE),
    changed("post-norm", sizes=POST_NORM),
    changed("dropout 0.1", sizes=DROPOUT),
    changed("constant 5e-4", learning_rate=5e-4, has_cycle=False),
    # Adam with all the rest of ours is the last step of the path.
    PATH[-2],
]
#: What else one could change.
CHOICES = [
    changed("Muon 0.03", optimizer="Muon", learning_rate=0.03),
    changed("constant 3e-3", has_cycle=False),
    changed("constant 3e-3, averaged", has_cycle=False, is_averaged=True),
    changed("averaged", is_averaged=True),
    changed("batches of 32", batch_size=32),
    changed("batches of 128", batch_size=128),
    changed("half as wide", sizes=(("d_model", 32), ("d_ff", 128))),
    changed("twice as wide", sizes=(("d_model", 128), ("d_ff", 512))),
    with_layers("1 + 1 layers", 1),
    with_layers("3 + 3 layers", 3),
    changed("units first", writing="units first"),
    changed("each pair with its mirror", diet="mirrored"),
    changed("one order only", diet="one order"),
    changed("smaller number first", writing="sorted"),
    changed("easy pairs first", diet="easy first"),
]
#: The parts of today, from companion C.
MODERN = [
    changed("RMSNorm", modern=("rms_norm",)),
    changed("SwiGLU", modern=("gates",)),
    changed("GELU", modern=("gelu",)),
    changed("learned positions", modern=("learned_positions",)),
    changed("RoPE", modern=("rotary_positions",)),
    changed("tied embeddings", modern=("tied_embedding",)),
    changed(
        "all of today's",
        modern=("rms_norm", "gates", "rotary_positions", "tied_embedding"),
    ),
]
#: More digits, and differences.
FURTHER = [
    *(longer(3, writing, 153_600) for writing in ("sum", "units first", "scratchpad")),
    *(longer(4, writing, 192_000) for writing in ("sum", "units first", "scratchpad")),
    changed("differences", writing="difference"),
]
#: Fewer pairs to train on, as often as it takes.
FEWER = [
    changed(f"{number:,} pairs{also}", num_pairs=number, sizes=sizes)
    for also, sizes, numbers in (
        ("", (), (500, 1_000, 2_000, 4_000)),
        (", dropout 0.1", DROPOUT, (1_000, 2_000)),
    )
    for number in numbers
]
FAMILIES = {
    "path": PATH,
    "taken back": TAKEN_BACK,
    "choices": CHOICES,
    "modern": MODERN,
    "further": FURTHER,
    "fewer": FEWER,
}
VARIANTS = list({v.name: v for family in FAMILIES.values() for v in family}.values())


def describe(variant: Variant, runs: list[dict]) -> dict:
    """What is stored of a variant."""
    return {
        "name": variant.name,
        "parameters": count_parameters(build_model(variant)),
        "steps": variant.num_steps,
        "batch_size": variant.batch_size,
        "exam_every": variant.exam_every,
        "digits": variant.num_digits,
        "runs": runs,
    }


def collect(
    variants: Iterable[Variant], seeds: range, num_steps: int | None = None
) -> dict:
    """Run every variant with every seed, one run per core; what is stored.

    Each run takes at most `num_steps` steps, or as many as its variant has.
    """
    variants = list(variants)
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        runs = {
            (seed, variant.name): pool.submit(
                run,
                variant,
                seed,
                min(num_steps or variant.num_steps, variant.num_steps),
            )
            for seed in seeds
            for variant in variants
        }
        described = [
            describe(variant, [runs[seed, variant.name].result() for seed in seeds])
            for variant in variants
        ]
    return {
        "threads": 1,
        "families": {
            name: [variant.name for variant in family]
            for name, family in FAMILIES.items()
        },
        "variants": described,
    }


def main() -> None:
    """Run everything; store, unless it was a trial."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--steps", type=int, help="stop each run after so many steps, and store nothing"
    )
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    parser.add_argument(
        "--variants", nargs="+", metavar="NAME", help="only these, and store no other"
    )
    asked = parser.parse_args()
    chosen = [v for v in VARIANTS if asked.variants is None or v.name in asked.variants]
    results = collect(chosen, range(asked.seeds), asked.steps)
    if asked.steps is None:
        write_results("improving", ["torch"], results)


if __name__ == "__main__":
    main()
