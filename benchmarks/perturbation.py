"""What `benchmarks.rounding` changes in a process that runs tests or a notebook.

It is loaded as a plugin by pytest and as a startup file by the notebooks' kernels, and
reads from the environment what to do:

- `ROUNDING_NOISE=k` multiplies every weight of every freshly built `Transformer` by a
  number within about a millionth of 1, the k-th choice of such numbers. That is what
  another processor's rounding does: the same model, and soon another training.
- `ROUNDING_SEEDS=k` adds 1,000 k to every seed that a notebook's cells set.
- `ROUNDING_THREADS=n` computes with n threads, whatever the code asks for.
- `ROUNDING_LOG=file` appends every comparison that a cell prints or asserts, as JSON: the
  text, whether it holds, and by how much; and every number that it prints after "≈".
"""

import ast
import functools
import json
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from transformer import Transformer

#: Relative size of the noise, about eight times the resolution of float32.
NOISE = 1e-6
#: Larger than any seed in the book, so that no two runs share one.
SEED_DISTANCE = 1_000

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def add_noise(run: int) -> None:
    """Let every `Transformer` that is built from now on differ a little from what it was.

    The noise depends on `run` alone: two models that are built alike stay alike.
    """
    build = Transformer.__init__

    @functools.wraps(build)
    def build_with_noise(self: Transformer, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        change_weights(self, run)

    Transformer.__init__ = build_with_noise


@torch.no_grad()
def change_weights(model: Transformer, run: int) -> None:
    """Multiply every weight by a number within about `NOISE` of 1."""
    generator = torch.Generator().manual_seed(run)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator, device="cpu")
        weight.mul_(1 + NOISE * noise.to(weight.device))


def keep_threads(count: int) -> None:
    """Compute with `count` threads; whoever sets another number believes to have it."""
    torch.set_num_threads(count)
    believed = [count]
    torch.set_num_threads = believed.append
    torch.get_num_threads = lambda: believed[-1]


class OtherSeeds(ast.NodeTransformer):
    """Add a distance to what is passed to `manual_seed`."""

    def __init__(self, run: int) -> None:
        """Remember how far away the seeds of this run are."""
        self.distance = run * SEED_DISTANCE

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """`torch.manual_seed(3)` becomes `torch.manual_seed(3 + 1000)`."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "manual_seed":
            distance = ast.Constant(self.distance)
            node.args = [ast.BinOp(seed, ast.Add(), distance) for seed in node.args]
        return ast.fix_missing_locations(node)


class Claims(ast.NodeTransformer):
    """Let `compared` make every comparison within an `assert` or a `print`.

    And let `noted` see every number that is printed after "≈".
    """

    def __init__(self) -> None:
        """Begin outside."""
        self.is_claim = False

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """What an assertion says is a claim."""
        return self._visit_claim(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """What is printed is a claim."""
        is_print = isinstance(node.func, ast.Name) and node.func.id == "print"
        return self._visit_claim(node) if is_print else self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """`a < b` becomes `compared("a < b", ["Lt"], a, b)`."""
        text = ast.unparse(node)
        self.generic_visit(node)
        if not self.is_claim or not all(type(op) in COMPARISONS for op in node.ops):
            return node
        names = " ".join(type(op).__name__ for op in node.ops)
        values = [node.left, *node.comparators]
        return call("_compared_by_rounding", node, text, names, *values)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """`f"share ≈ {x}"` becomes `f"share ≈ {noted(f"share ≈ ", x)}"`."""
        self.generic_visit(node)
        before: list[ast.expr] = []
        for part in node.values:
            text = before[-1].value if before else None
            if (
                self.is_claim
                and isinstance(part, ast.FormattedValue)
                and isinstance(text, str)
                and text.rstrip().endswith("≈")
            ):
                line = ast.JoinedStr(list(before))
                part.value = call("_noted_by_rounding", part, line, part.value)
                # An earlier number that varies must not be in the name of a later one.
                part = ast.Constant("…")
            before.append(part)
        return node

    def _visit_claim(self, node: ast.AST) -> ast.AST:
        outer, self.is_claim = self.is_claim, True
        self.generic_visit(node)
        self.is_claim = outer
        return node


def call(function: str, place: ast.AST, *arguments: str | ast.AST) -> ast.Call:
    """A call of what the kernel knows as `function`, in the place of a node."""
    nodes = [ast.Constant(a) if isinstance(a, str) else a for a in arguments]
    node = ast.Call(ast.Name(function, ast.Load()), nodes, [])
    return ast.fix_missing_locations(ast.copy_location(node, place))


def noted(log: Path, line: str, value: Any) -> Any:
    """Note a number that a cell prints after "≈", and the line before; return it."""
    if isinstance(value, (int, float)):
        name = " ".join(line.replace("≈", " ").split())
        append(log, {"line": name, "value": value})
    return value


def append(log: Path, entry: dict) -> None:
    """Add a line to the log."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def compared(log: Path, text: str, names: str, *values: Any) -> Any:
    """Compare as the cell does; note whether it holds, and the smallest slack."""
    triples = list(zip(names.split(), values[:-1], values[1:], strict=True))
    results = [COMPARISONS[getattr(ast, name)](a, b) for name, a, b in triples]
    try:
        holds = all(bool(torch.as_tensor(result).all()) for result in results)
    except (TypeError, ValueError, RuntimeError):
        holds = all(map(bool, results))
    append(log, {"claim": text, "holds": holds, "slack": smallest_slack(triples)})
    return functools.reduce(lambda a, b: a and b, results)


def smallest_slack(triples: list[tuple[str, Any, Any]]) -> float | None:
    """By how much the closest of some comparisons holds; None if they measure nothing."""
    if not all(name in ("Lt", "LtE", "Gt", "GtE") for name, _, _ in triples):
        return None
    try:
        slacks = [
            torch.as_tensor(b - a if name in ("Lt", "LtE") else a - b).min().item()
            for name, a, b in triples
        ]
    except (TypeError, ValueError, RuntimeError):
        return None
    return float(min(slacks))


def perturb() -> None:
    """Do what the environment asks of this process."""
    if run := int(os.environ.get("ROUNDING_NOISE", 0)):
        add_noise(run)
    if count := int(os.environ.get("ROUNDING_THREADS", 0)):
        keep_threads(count)


def perturb_cells(shell: Any) -> None:
    """Do what the environment asks of a notebook's kernel; `shell` is IPython's."""
    perturb()
    if run := int(os.environ.get("ROUNDING_SEEDS", 0)):
        shell.ast_transformers.append(OtherSeeds(run))
    if log := os.environ.get("ROUNDING_LOG"):
        for function in (compared, noted):
            name = f"_{function.__name__}_by_rounding"
            shell.user_ns[name] = functools.partial(function, Path(log))
        shell.ast_transformers.append(Claims())


def pytest_configure() -> None:
    """Pytest has loaded this as a plugin."""
    perturb()
