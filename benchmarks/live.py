"""The models that readers use in the page: trained once, in float16, never by a build.

    sum-100 … sum-1800   chapter 9's recipe, stopped at the moments of its six exams
    copy                 chapter 8's copier
    unsure               chapter 7's copier, hardly trained

The file in float16 *is* the model of the page: what is counted and compared here and in the
tests is what that file answers. `make benchmark-live` trains them again.
"""

import hashlib
import itertools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.optim import Adam

from benchmarks.learning import SMALL
from benchmarks.measure import RESULTS, write_results
from benchmarks.parts import RECIPE, count_right, start
from transformer import (
    END,
    PAD,
    START,
    CopyTask,
    Transformer,
    load_checkpoint,
    save_checkpoint,
    train_step,
)

FILES = Path(__file__).parent.parent / "book" / "live"
#: Models that the package brings along, for the notebooks that take them apart.
PACKAGED = ("sum-1800", "copy")
#: After how many steps the adding model is stored.
MOMENTS = (100, 200, 300, 400, 800, RECIPE.num_steps)
#: How many steps each copier is trained for.
COPIERS = {"copy": 500, "unsure": 60}


def adding_models() -> Iterator[tuple[str, Transformer]]:
    """Chapter 9's run with seed 0, at every moment. It goes on only when asked for more."""
    _, _, model, update, batches = start(seed=0)
    for step, batch in enumerate(itertools.islice(batches, MOMENTS[-1]), start=1):
        train_step(model, batch, update)
        if step in MOMENTS:
            yield f"sum-{step}", model


def copier(num_steps: int) -> Transformer:
    """A model of chapters 7 and 8."""
    sizes = {
        name: size for name, size in SMALL.items() if name.startswith(("d_", "num"))
    }
    task = CopyTask(vocab_size=15, min_length=3, max_length=8)
    torch.manual_seed(0)
    model = Transformer(15, 15, max_len=16, **sizes)
    optimizer = Adam(model.parameters(), lr=1e-3)
    batches = task.batches(64, torch.Generator().manual_seed(0))
    for batch in itertools.islice(batches, num_steps):
        train_step(model, batch, optimizer)
    return model


def models() -> Iterator[tuple[str, Transformer]]:
    """Every model by the name of its file."""
    yield from adding_models()
    for name, num_steps in COPIERS.items():
        yield name, copier(num_steps)


def load(name: str) -> Transformer:
    """The model that a file holds, to compute with in float32."""
    return load_checkpoint(FILES / f"{name}.safetensors").float()


def count_exact(name: str) -> int:
    """How many of all 10,000 sums, or of 1,000 fresh sources, the file answers exactly."""
    model = load(name)
    if name not in COPIERS:
        return count_right(model)["sums"]
    task = CopyTask(vocab_size=15, min_length=3, max_length=8)
    batch = task.sample(1_000, torch.Generator().manual_seed(1))
    tokens = model.greedy_decode(batch.src, 10, START, END)
    tokens = torch.nn.functional.pad(tokens, (0, 10 - tokens.size(1)), value=PAD)
    return int((tokens[:, 1:] == batch.tgt_out).all(dim=1).sum())


def digest(name: str) -> str:
    """Says whether a file is the one that was counted."""
    return hashlib.sha256((FILES / f"{name}.safetensors").read_bytes()).hexdigest()


def main() -> None:
    """Train, store, and count what the stored files answer."""
    torch.set_num_threads(1)
    FILES.mkdir(exist_ok=True)
    right = {}
    started = time.process_time()
    for name, model in models():
        # A copy: training goes on in float32.
        stored = Transformer(**vars(model.config))
        stored.load_state_dict(model.state_dict())
        save_checkpoint(stored.half(), FILES / f"{name}.safetensors")
        if name in PACKAGED:
            shutil.copy(FILES / f"{name}.safetensors", RESULTS)
        right[name] = count_exact(name)
        print(name, right[name], flush=True)
    results = {
        "right": right,
        "sha256": {name: digest(name) for name in right},
        "cpu_seconds": time.process_time() - started,
    }
    write_results("live", ["torch"], results)


if __name__ == "__main__":
    main()
