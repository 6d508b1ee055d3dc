"""`python -m transformer train`: from a file of pairs to a folder with a model.

The folder holds its settings, both vocabularies, the weights, and the state of the run.
"""

import json
from argparse import Namespace
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from transformer.checkpoint import save_checkpoint
from transformer.files import write_atomically
from transformer.loading import endless, load_pairs
from transformer.pairs import PairFile, PairFormat, read_pairs
from transformer.run_state import load_run, save_run
from transformer.runtime import choose_device
from transformer.schedule import cosine_schedule
from transformer.training import TrainingRun
from transformer.transformer import Transformer
from transformer.vocabulary import Vocabulary

#: What the weights depend on: name, default, meaning.
SETTINGS = (
    ("source-separator", " ", 'stands between symbols of a source; "": characters'),
    ("target-separator", " ", 'stands between symbols of a target; "": characters'),
    ("d-model", 128, "width of the model"),
    ("num-heads", 4, "attention heads"),
    ("num-layers", 3, "layers of the encoder, and of the decoder"),
    ("d-ff", 512, "width inside the feed-forward networks"),
    ("dropout", 0.1, "share that training drops"),
    ("max-len", 512, "longest sequence, in symbols, START and END included"),
    ("num-steps", 5000, "training steps"),
    ("max-tokens", 2000, "tokens of a batch, PAD included"),
    ("rate", 2e-3, "highest learning rate"),
    ("warmup-steps", 200, "steps until then"),
    ("label-smoothing", 0.1, "share of every target spread over the vocabulary"),
    ("seed", 0, "of weights, dropout and batches"),
)

#: The files of a folder that hold the vocabularies.
VOCABULARIES = ("source.txt", "target.txt")


def train_on_file(arguments: Namespace) -> None:
    """Begin a run, or go on where it was interrupted; at the end, save the best weights."""
    folder, num_steps = arguments.folder, arguments.num_steps
    names = [name.replace("-", "_") for name, _, _ in SETTINGS]
    settings = {name: getattr(arguments, name) for name in names}
    is_new = not (folder / "settings.json").is_file()
    if not is_new:
        _check_settings(folder / "settings.json", settings)
    form = PairFormat(arguments.source_separator, arguments.target_separator)
    vocabularies = [
        Vocabulary.build(pair[side] for pair in read_pairs(arguments.pairs, form))
        if is_new
        else Vocabulary.load(folder / name)
        for side, name in enumerate(VOCABULARIES)
    ]
    loader, held_out = (
        path and _loader(PairFile(path, *vocabularies, form), arguments)
        for path in (arguments.pairs, arguments.held_out)
    )
    torch.manual_seed(arguments.seed)
    model = Transformer(
        *map(len, vocabularies),
        d_model=arguments.d_model,
        num_heads=arguments.num_heads,
        num_encoder_layers=arguments.num_layers,
        num_decoder_layers=arguments.num_layers,
        d_ff=arguments.d_ff,
        max_len=arguments.max_len,
        dropout=arguments.dropout,
        norm_first=True,
    ).to(choose_device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.rate)
    run = TrainingRun(
        model,
        optimizer,
        scheduler=cosine_schedule(optimizer, arguments.warmup_steps, num_steps),
        label_smoothing=arguments.label_smoothing,
        held_out=held_out,
        evaluate_every=arguments.save_every,
        # Enough to keep the best weights without ever stopping early.
        patience=num_steps if held_out else None,
    )
    # Only now: settings of which one was refused are not to be kept.
    if is_new:
        folder.mkdir(parents=True, exist_ok=True)
        for vocabulary, name in zip(vocabularies, VOCABULARIES, strict=True):
            vocabulary.save(folder / name)
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        write_atomically(folder / "settings.json", f"{text}\n".encode())
    _take_steps(run, loader, arguments)
    run.restore_best()
    save_checkpoint(model, folder / "model.safetensors")
    print(f"{folder} holds a model after step {run.history.best_step or num_steps}.")


def _check_settings(path: Path, settings: dict[str, str | float]) -> None:
    kept = json.loads(path.read_text("utf-8"))
    for name, value in settings.items():
        if kept.get(name) != value:
            raise ValueError(
                f"{path} has {name} {kept.get(name)!r}, the command {value!r}: give the "
                "same settings to go on, or another folder to begin anew"
            )


def _loader(pairs: PairFile, arguments: Namespace) -> DataLoader:
    longest = pairs.lengths.max(axis=1).argmax()
    source, target = pairs.lengths[longest].tolist()
    if max(source, target) > arguments.max_len:
        raise ValueError(
            f"{pairs.path}, line {longest + 1} has {source} + {target} symbols, more than "
            f"max-len ({arguments.max_len}) on one side"
        )
    return load_pairs(pairs, arguments.max_tokens, seed=arguments.seed)


def _take_steps(run: TrainingRun, loader: DataLoader, arguments: Namespace) -> None:
    """All steps that are left; the state is saved on the way, and at Ctrl-C."""
    state, num_steps = arguments.folder / "run.safetensors", arguments.num_steps
    load_run(state, run)
    done = run.history.num_steps
    steps = run.steps(endless(loader, done), num_steps)
    bar = tqdm(steps, total=num_steps, initial=done, unit="step")
    try:
        for step in bar:
            bar.set_postfix(loss=f"{run.history.loss[-1]:.3f}")
            if step % arguments.save_every == 0 or step == num_steps:
                save_run(state, run)
    except KeyboardInterrupt:
        if run.history.num_steps > 0:
            save_run(state, run)
        print(
            f"\nStopped after step {run.history.num_steps}; the same command goes on."
        )
        raise
