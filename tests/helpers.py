"""Small models, batches and references that many tests share.

Sizes are unequal primes wherever they can be, so that swapped dimensions show.
"""

import ast
import importlib
import itertools
import json
import pkgutil
import threading
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from transformer import PAD, START, Transformer, exercises

SRC_VOCAB, TGT_VOCAB = 11, 13
BATCH, SRC_LEN, TGT_LEN = 3, 7, 5
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def small_model(**changes):
    """A model of unequal sizes, in evaluation mode and float64."""
    sizes = {
        "d_model": 14,
        "num_heads": 2,
        "num_encoder_layers": 2,
        "num_decoder_layers": 3,
        "d_ff": 19,
        "max_len": 23,
        "dropout": 0.1,
    }
    return Transformer(SRC_VOCAB, TGT_VOCAB, **(sizes | changes)).double().eval()


def decisive_model(**changes):
    """A small model whose next-token distributions are far from uniform."""
    model = small_model(**changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
    return model


def lively_model(**changes):
    """A small model that writes different targets for different sources.

    No weight is 0 or 1. On average all logits are 0, so that the source and what has been
    written decide, not the biases.
    """
    model = small_model(**changes)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            factor = 1.5 if parameter.dim() == 2 else 1
            parameter.mul_(factor).add_(0.2 * torch.randn_like(parameter))
            if "embedding" in name:
                parameter.mul_(3)
        logits = model(
            random_tokens(SRC_VOCAB, 199, 7, lowest=0),
            random_tokens(TGT_VOCAB, 199, 13, lowest=0),
        )
        model.output_projection.bias.sub_(logits.mean(dim=(0, 1)))
    return model


def random_tokens(vocab_size, batch, length, lowest=3):
    """Token ids without PAD, START and END."""
    return torch.randint(lowest, vocab_size, (batch, length))


def small_batch():
    """Source and target input of unequal lengths, with PAD at the end of some rows."""
    src = random_tokens(SRC_VOCAB, BATCH, SRC_LEN)
    src[1, 4:] = PAD
    src[2, 6:] = PAD
    tgt_in = random_tokens(TGT_VOCAB, BATCH, TGT_LEN)
    tgt_in[:, 0] = START
    tgt_in[0, 3:] = PAD
    return src, tgt_in


def snapshot(model):
    """A copy of all weights."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same_weights(model, weights):
    """The model's state_dict holds exactly `weights`, bit for bit."""
    state = model.state_dict()
    assert list(state) == list(weights)
    assert all(torch.equal(state[name], weights[name]) for name in weights)


def assert_above(bound, measured, name, record_property):
    """What training has reached exceeds `bound`; `make rounding` collects by how much."""
    record_property(name, f"{measured} > {bound}")
    assert measured > bound


def assert_leaves_random_numbers_alone(operation, monkeypatch):
    """`operation` draws none, and takes none back that another thread draws meanwhile."""
    drawn = []
    build = nn.Linear.__init__

    def draw():
        drawn.append(torch.rand(3))

    def build_while_another_thread_draws(*arguments, **options):
        thread = threading.Thread(target=draw)
        thread.start()
        thread.join()
        build(*arguments, **options)

    torch.manual_seed(5)
    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "__init__", build_while_another_thread_draws)
        operation()
    draw()
    assert len(drawn) > 1
    torch.manual_seed(5)
    assert all(torch.equal(numbers, torch.rand(3)) for numbers in drawn)


class TableModel(nn.Module):
    """A stand-in whose next-token probabilities are read from a table.

    The distribution depends on the row's first source token and on the newest target token:
    `table[src[row, 0], newest]`. What decoding should write can be worked out by hand.
    """

    def __init__(self, table, max_len=23, pad_token_id=PAD):
        super().__init__()
        self.table = torch.as_tensor(table, dtype=torch.float64)
        self.max_len = max_len
        self.pad_token_id = pad_token_id
        src_vocab_size, tgt_vocab_size, _ = self.table.shape
        self.config = SimpleNamespace(
            src_vocab_size=src_vocab_size, tgt_vocab_size=tgt_vocab_size
        )

    def forward(self, src, tgt_in):
        return self.table[src[:, :1], tgt_in].log()

    def start_cache(self, src, capacity):
        return TableCache(src[:, 0], capacity)

    def next_logits(self, tokens, cache):
        cache.count += 1
        assert cache.count <= cache.capacity
        return self.table[cache.source, tokens].log()


class TableCache:
    """What `TableModel` remembers: each row's source token."""

    def __init__(self, source, capacity):
        self.source = source
        self.capacity = capacity
        self.count = 0

    def select(self, rows):
        self.source = self.source[rows]


def table_of_chains(*chains, vocab_size=8):
    """A table in which source token s makes the target follow `chains[s]`, START first."""
    table = torch.full((len(chains), vocab_size, vocab_size), 1e-9)
    for source, chain in enumerate(chains):
        for token, following in itertools.pairwise(chain):
            table[source, token, following] = 1.0
    return table / table.sum(dim=-1, keepdim=True)


def exercise_checks(kind):
    """All checks of one kind that exercises use, by module and name."""
    return {
        f"{module.name}.{name}": check
        for module in pkgutil.iter_modules(exercises.__path__)
        for name, check in vars(
            importlib.import_module(f"transformer.exercises.{module.name}")
        ).items()
        if isinstance(check, kind)
    }


def chapters_that_use(check_name):
    """The text of every chapter that imports and calls a check."""
    module, function = check_name.split(".")
    chapters = Path(__file__).parents[1].glob("book/*.ipynb")
    return [
        text
        for path in chapters
        if f"transformer.exercises.{module} import" in (text := path.read_text("utf-8"))
        and f"{function}(" in text
    ]


def defined_in(notebook, *names):
    """The statements of a notebook of the book that define `names`, as `ast` reads them."""
    path = Path(__file__).parents[1] / "book" / f"{notebook}.ipynb"
    found = {}
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or source.startswith("%") or "\n%" in source:
            continue
        if not any(name in source for name in names) or "    %pip" in source:
            continue
        for statement in ast.parse(source).body:
            target = getattr(statement, "targets", [statement])[0]
            name = getattr(target, "name", getattr(target, "id", None))
            # The text shows a definition before a reader is asked for one.
            found.setdefault(name, statement)
    return [found[name] for name in names]
