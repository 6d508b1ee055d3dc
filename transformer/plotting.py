"""The book's figures that more than one chapter needs.

Each function draws a new figure and returns nothing, so that a notebook shows it once,
whether or not the cell ends with `plt.show()`. Until then it is pyplot's current figure:
`plt.gcf()` hands it out, `plt.savefig(path)` stores it. Labels and titles are shown as they
are: to matplotlib, `$` would begin a formula.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from torch import Tensor

from transformer.training import History

# Okabe and Ito's palette, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, GREY = "#CC79A7", "#56B4E9", "#666666"
ATTENTION_COLORS = "Blues"
_AS_IT_IS = {"parse_math": False, "usetex": False}

#: Fonts with Japanese letters that macOS, Windows and Linux bring.
JAPANESE_FONTS = (
    "Hiragino Sans",
    "Yu Gothic",
    "Meiryo",
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "IPAexGothic",
)


def use_book_style() -> None:
    """Set matplotlib's defaults to the book's: size, palette, quiet axes."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.2),
            "figure.dpi": 130,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(
                color=[BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY]
            ),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "legend.frameon": False,
            "font.size": 10,
        }
    )


def use_font_with_letters(candidates: Sequence[str] = JAPANESE_FONTS) -> str | None:
    """Let matplotlib fall back on the first of `candidates` that is installed.

    Returns:
        Its name, or None if none of them is installed; then nothing changes.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    for name in candidates:
        if name in installed:
            families = [
                family for family in plt.rcParams["font.family"] if family != name
            ]
            plt.rcParams["font.family"] = [*families, name]
            return name
    return None


def plot_history(history: History, title: str = "") -> None:
    """Training loss, held-out loss and held-out accuracy over the steps."""
    has_held_out = bool(history.held_out_steps)
    figure, axes = plt.subplots(1, 1 + has_held_out, squeeze=False)
    steps = range(1, history.num_steps + 1)
    axes[0, 0].plot(
        steps, history.loss, color=SKY, linewidth=1, label="training (dropout on)"
    )
    axes[0, 0].set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, None))
    if has_held_out:
        axes[0, 0].plot(
            history.held_out_steps,
            history.held_out_loss,
            color=VERMILION,
            marker=".",
            label="held-out (dropout off)",
        )
        axes[0, 1].plot(
            history.held_out_steps,
            history.held_out_accuracy,
            color=VERMILION,
            marker=".",
        )
        axes[0, 1].set(xlabel="step", ylabel="held-out token accuracy", ylim=(0, 1.02))
    axes[0, 0].legend()
    figure.suptitle(title, **_AS_IT_IS)


def plot_attention(
    weights: Tensor,
    query_labels: Iterable[object],
    key_labels: Iterable[object],
    title: str = "",
) -> None:
    """One heat map a head: who looks (rows) at whom (columns).

    Args:
        weights: `[heads, query, key]` of one batch row.
        query_labels: one label a query position, a text or a number.
        key_labels: one label a key position.

    Raises:
        ValueError: if there is nothing to draw, or a label is missing or too many.
    """
    query_labels, key_labels = _texts(query_labels), _texts(key_labels)
    [heads] = _pixels("weights", [weights], query_labels, key_labels)
    num_heads = len(heads)
    columns = min(num_heads, 4)
    rows = -(-num_heads // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.1 * columns + 1, 2.3 * rows + 0.4), squeeze=False
    )
    for head, axis in enumerate(axes.flat):
        if head >= num_heads:
            axis.set_visible(False)
            continue
        image = _draw_map(axis, heads[head], query_labels, key_labels)
        axis.set_title(f"head {head}", fontsize=10)
        if head % columns == 0:
            axis.set_ylabel("query")
        axis.set_xlabel("key")
    figure.colorbar(image, ax=axes, shrink=0.8, label="attention weight")
    figure.suptitle(title, **_AS_IT_IS)


def plot_attention_layers(
    layers: Sequence[Tensor],
    query_labels: Iterable[object],
    key_labels: Iterable[object],
) -> None:
    """The maps of several layers in one figure: a row a layer, a column a head.

    Args:
        layers: `[heads, query, key]` of each layer.
        query_labels: one label a query position, a text or a number.
        key_labels: one label a key position.

    Raises:
        ValueError: if there is nothing to draw, the layers differ in shape, or a label is
            missing or too many.
    """
    if len(layers) == 0:
        raise ValueError("layers must hold the weights of at least one layer, got none")
    query_labels, key_labels = _texts(query_labels), _texts(key_labels)
    maps = _pixels("each layer", layers, query_labels, key_labels)
    num_heads = len(maps[0])
    height = 1.25 * len(query_labels) / len(key_labels) + 0.15
    figure, axes = plt.subplots(
        len(layers),
        num_heads,
        figsize=(1.25 * num_heads + 0.6, height * len(layers) + 0.9),
        squeeze=False,
    )
    for layer, heads in enumerate(maps):
        for head, axis in enumerate(axes[layer]):
            image = _draw_map(axis, heads[head], query_labels, key_labels, fontsize=8)
            axis.tick_params(
                labelbottom=layer == len(layers) - 1, labelleft=head == 0, length=2
            )
            if layer == 0:
                axis.set_title(f"head {head}", fontsize=9)
            if head == 0:
                axis.set_ylabel(f"layer {layer}\nquery", fontsize=9)
            if layer == len(layers) - 1:
                axis.set_xlabel("key", fontsize=9)
    bar = figure.colorbar(
        image, ax=axes, location="bottom", fraction=0.04, aspect=40, pad=0.02
    )
    bar.set_label("attention weight", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _texts(labels: Iterable[object]) -> list[str]:
    # format, unlike str, writes the number alone for a tensor that holds one.
    return [f"{label}" for label in labels]


def _pixels(
    name: str, maps: Sequence[Tensor], query_labels: list[str], key_labels: list[str]
) -> list[np.ndarray]:
    """Each map as an array, if all are `[heads, query, key]` and have an entry."""
    num_heads = len(maps[0]) if maps[0].dim() > 0 else 0
    wanted = [num_heads, len(query_labels), len(key_labels)]
    for weights in maps:
        if list(weights.shape) != wanted:
            raise ValueError(
                f"{name} must have shape [heads={wanted[0]}, query={wanted[1]}, "
                f"key={wanted[2]}], got {list(weights.shape)}"
            )
    if 0 in wanted:
        raise ValueError(f"{name} must not be empty, got shape {wanted}")
    return [weights.detach().float().cpu().numpy() for weights in maps]


def _draw_map(
    axis: Axes,
    pixels: np.ndarray,
    query_labels: list[str],
    key_labels: list[str],
    **style: float,
) -> AxesImage:
    axis.set_xticks(range(len(key_labels)), key_labels, **_AS_IT_IS, **style)
    axis.set_yticks(range(len(query_labels)), query_labels, **_AS_IT_IS, **style)
    axis.grid(False)
    return axis.imshow(pixels, cmap=ATTENTION_COLORS, vmin=0, vmax=1)
