"""One training step against `torch.nn.Transformer` with the same weights, one CPU thread.

A step is forward, loss, backward, clipping and AdamW on the same batch. The sizes are those
of chapter 9, and a wide model with 128 tokens on either side, with a small and a large
vocabulary: output projection and loss are the same code for both contenders.

Without dropout both compute the same. With it, they drop in different places. Peak memory
is that of a fresh process: Python, PyTorch, weights, gradients, optimizer and activations.
"""

import argparse
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import take_turns, times_as_fast, write_results
from transformer import AdditionTask, Batch, Transformer, train_step
from transformer.observation import record_attention
from transformer.torch_conversion import to_torch

OURS = "Transformer"
OBSERVED = "Transformer, attention observed"
TORCH = "torch.nn.Transformer"

CHAPTER_9 = "chapter 9's model, 128 sums"
WIDE = "512 wide, 8 × 128 tokens, vocabulary 1,000"
WIDE_LARGE_VOCABULARY = "512 wide, 8 × 128 tokens, vocabulary 8,000"
ROUNDS = {CHAPTER_9: 60, WIDE: 9, WIDE_LARGE_VOCABULARY: 9}

# Compiled code that both sides call, on matrices of the same sizes.
ATTENTION_KERNEL = "aten::_scaled_dot_product_flash_attention_for_cpu"
KERNELS = ("aten::mm", "aten::addmm", ATTENTION_KERNEL, f"{ATTENTION_KERNEL}_backward")


def build(size: str, dropout: float) -> tuple[Transformer, Batch]:
    """Model and batch of one of the two sizes."""
    torch.manual_seed(0)
    if size == CHAPTER_9:
        task = AdditionTask(num_digits=2)
        vocab, widths = task.vocab_size, (64, 4, 2, 2, 256)
        batch = task.make_batch(torch.randint(0, 100, (128, 2)))
    else:
        vocab, widths = 1_000 if size == WIDE else 8_000, (512, 8, 3, 3, 2_048)
        src, tgt = torch.randint(3, vocab, (8, 128)), torch.randint(3, vocab, (8, 129))
        batch = Batch(src, tgt[:, :-1], tgt[:, 1:])
    model = Transformer(
        vocab, vocab, *widths, max_len=128, dropout=dropout, norm_first=True
    )
    return model, batch


def build_step(size: str, contender: str, dropout: float = 0.0) -> Callable[[], None]:
    """One training step of one contender, ready to be called again and again."""
    model, batch = build(size, dropout)
    if contender == TORCH:
        model = to_torch(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        observe = record_attention(model) if contender == OBSERVED else nullcontext()
        with observe:
            train_step(model, batch, optimizer)

    return step


def kernel_share(step: Callable[[], None]) -> float:
    """Share of a step's time inside matrix products and the fused attention."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    times = {x.key: x.self_cpu_time_total for x in profiler.key_averages()}
    return sum(times.get(name, 0.0) for name in KERNELS) / sum(times.values())


def peak_memory(size: str, contender: str) -> float:
    """Megabytes that a fresh process holds at most, in three steps."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--peak", size, contender],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(output)


def print_peak_memory(size: str, contender: str) -> None:
    """What `peak_memory` calls in the fresh process."""
    step = build_step(size, contender)
    for _ in range(3):
        step()
    print(peak_so_far())


def peak_so_far() -> float:
    """The most megabytes that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count what the process that started this one had held.
        kilobytes = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]
        return int(kilobytes) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(size: str, dropout: float) -> dict:
    """Seconds, ratios and peak memory of one size."""
    contenders = [TORCH, OURS, OBSERVED]
    seconds = take_turns(
        {name: build_step(size, name, dropout) for name in contenders}, ROUNDS[size]
    )
    share = {name: 1 / ratio for name, ratio in times_as_fast(seconds, TORCH).items()}
    print(f"\n{size}, dropout {dropout}: time as a share of {TORCH}'s")
    for name in contenders:
        print(f"  {name:32} {share[name]:5.2f}")
    return {
        "size": size,
        "dropout": dropout,
        "seconds": seconds,
        "share_of_torch": share,
        "peak_megabytes": {name: peak_memory(size, name) for name in contenders}
        if dropout == 0
        else None,
        "kernel_share": {
            name: kernel_share(build_step(size, name)) for name in (TORCH, OURS)
        }
        if dropout == 0
        else None,
    }


def main() -> None:
    """Measure, print, store."""
    results = [measure(size, dropout) for size in ROUNDS for dropout in (0.0, 0.1)]
    write_results("training", ["torch"], {"threads": 1, "steps": results})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peak", nargs=2, metavar=("SIZE", "CONTENDER"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print_peak_memory(*arguments.peak)
    else:
        main()
