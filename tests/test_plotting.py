import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from matplotlib import font_manager
from matplotlib.text import Text
from nbclient import NotebookClient

import transformer
from transformer import History
from transformer.plotting import (
    plot_attention,
    plot_attention_layers,
    plot_history,
    use_book_style,
    use_font_with_letters,
)


def a_history(*, held_out):
    history = History(loss=[2.0, 1.5, 1.0, 0.5, 0.25])
    if held_out:
        history.held_out_steps = [2, 4, 5]
        history.held_out_loss = [1.75, 1.25, 0.75]
        history.held_out_accuracy = [0.25, 0.5, 0.875]
    return history


def lines(axis):
    return [
        (list(map(float, line.get_xdata())), list(map(float, line.get_ydata())))
        for line in axis.get_lines()
    ]


def test_training_loss_is_drawn_over_steps_counted_from_one():
    plot_history(a_history(held_out=False), title="copy")
    figure = plt.gcf()
    assert len(figure.axes) == 1
    assert lines(figure.axes[0]) == [([1, 2, 3, 4, 5], [2.0, 1.5, 1.0, 0.5, 0.25])]
    assert figure.get_suptitle() == "copy"


def test_held_out_loss_and_accuracy_are_drawn_at_the_steps_of_their_evaluation():
    plot_history(a_history(held_out=True))
    loss, accuracy = plt.gcf().axes
    assert lines(loss) == [
        ([1, 2, 3, 4, 5], [2.0, 1.5, 1.0, 0.5, 0.25]),
        ([2, 4, 5], [1.75, 1.25, 0.75]),
    ]
    assert lines(accuracy) == [([2, 4, 5], [0.25, 0.5, 0.875])]
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels == ["training (dropout on)", "held-out (dropout off)"]


def test_each_head_is_drawn_with_queries_in_rows_and_keys_in_columns():
    weights = torch.rand(5, 2, 3)
    plot_attention(weights, ["a", "b"], ["x", "y", "z"], title="look")
    figure = plt.gcf()
    maps = [axis for axis in figure.axes if axis.images and axis.get_title()]
    assert [axis.get_title() for axis in maps] == [f"head {i}" for i in range(5)]
    for axis, expected in zip(maps, weights, strict=True):
        assert axis.images[0].get_array().tolist() == expected.tolist()
        assert axis.images[0].get_clim() == (0, 1)
        assert [label.get_text() for label in axis.get_xticklabels()] == ["x", "y", "z"]
        assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert figure.get_suptitle() == "look"


def test_five_heads_leave_the_rest_of_the_second_row_empty():
    plot_attention(torch.rand(5, 2, 3), "ab", "xyz")
    hidden = [axis for axis in plt.gcf().axes if not axis.get_visible()]
    assert len(hidden) == 3


def test_one_head_needs_one_map():
    plot_attention(torch.rand(1, 2, 3), "ab", "xyz")
    visible = [axis for axis in plt.gcf().axes if axis.get_visible()]
    assert [axis.get_title() for axis in visible] == ["head 0", ""]


def test_figures_can_be_drawn_in_the_books_style(tmp_path):
    use_book_style()
    assert mpl.rcParams["axes.grid"] is True
    plot_history(a_history(held_out=True), "t")
    plot_attention(torch.rand(5, 2, 3), "ab", "xyz")
    for number in plt.get_fignums():
        path = tmp_path / f"{number}.png"
        plt.figure(number).savefig(path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_first_installed_font_becomes_a_fallback():
    before = list(mpl.rcParams["font.family"])
    installed = font_manager.fontManager.ttflist[0].name
    assert use_font_with_letters(["No Such Font", installed]) == installed
    others = [family for family in before if family != installed]
    assert mpl.rcParams["font.family"] == [*others, installed]


def test_asking_for_a_font_twice_lists_it_once():
    installed = font_manager.fontManager.ttflist[0].name
    use_font_with_letters([installed])
    use_font_with_letters([installed])
    assert mpl.rcParams["font.family"].count(installed) == 1


def test_without_an_installed_font_nothing_changes():
    before = list(mpl.rcParams["font.family"])
    assert use_font_with_letters(["No Such Font"]) is None
    assert mpl.rcParams["font.family"] == before


def test_weights_that_carry_a_gradient_can_be_drawn():
    weights = torch.rand(5, 2, 3, requires_grad=True)
    plot_attention(weights, "ab", "xyz")


def test_each_layer_is_a_row_and_each_head_a_column_of_maps():
    layers = [torch.rand(2, 3, 5), torch.rand(2, 3, 5)]
    plot_attention_layers(layers, list("abc"), list("vwxyz"))
    maps = [axis for axis in plt.gcf().axes if axis.images]
    rows = torch.cat(layers)
    for axis, expected in zip(maps, rows, strict=True):
        assert axis.images[0].get_array().tolist() == expected.tolist()
        assert axis.images[0].get_clim() == (0, 1)
    for axis in maps[2:]:
        assert [label.get_text() for label in axis.get_xticklabels()] == list("vwxyz")
    for axis in maps[::2]:
        assert [label.get_text() for label in axis.get_yticklabels()] == list("abc")
    assert [axis.get_title() for axis in maps] == ["head 0", "head 1", "", ""]
    assert [axis.get_ylabel() for axis in maps] == [
        "layer 0\nquery",
        "",
        "layer 1\nquery",
        "",
    ]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least one layer, got none"),
        ([torch.rand(2, 3, 4)], r"query=3, key=5\], got \[2, 3, 4\]"),
        ([torch.rand(2, 3, 5), torch.rand(1, 3, 5)], r"heads=2, .* got \[1, 3, 5\]"),
        ([torch.tensor(0.5)], r"key=5\], got \[\]"),
        ([torch.rand(0, 3, 5)], r"must not be empty, got shape \[0, 3, 5\]"),
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        plot_attention_layers(layers, list("abc"), list("vwxyz"))
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("weights", "keys", "message"),
    [
        (torch.rand(2, 3), "xyz", r"query=2, key=3\], got \[2, 3\]"),
        (torch.rand(5, 2, 0), "", r"must not be empty, got shape \[5, 2, 0\]"),
    ],
)
def test_weights_that_are_no_map_are_refused_before_a_figure_is_begun(
    weights, keys, message
):
    with pytest.raises(ValueError, match=message):
        plot_attention(weights, "ab", keys)
    assert plt.get_fignums() == []


ODD_TEXTS = [
    "$",
    "$x_1^2$",
    r"a\$b",
    "$\\frac{$",
    r"\alpha_i",
    "%#&{}",
    "a\nb",
    "",
    "_x",
]


@pytest.mark.parametrize("odd", ODD_TEXTS)
def test_labels_and_titles_are_shown_as_they_are(odd):
    weights = torch.rand(2, 1, 1)
    for draw in (
        lambda: plot_attention(weights, [odd], ["key"]),
        lambda: plot_attention(weights, ["query"], [odd]),
        lambda: plot_attention(weights, ["query"], ["key"], title=odd),
        lambda: plot_attention_layers([weights], [odd], ["key"]),
        lambda: plot_attention_layers([weights], ["query"], [odd]),
        lambda: plot_history(a_history(held_out=True), title=odd),
    ):
        draw()
        figure = plt.gcf()
        figure.canvas.draw()
        texts = figure.findobj(
            lambda item: isinstance(item, Text) and item.get_text() == odd
        )
        assert any(not (text.get_parse_math() or text.get_usetex()) for text in texts)


def query_labels():
    return [label.get_text() for label in plt.gcf().axes[0].get_yticklabels()]


def test_labels_may_be_numbers():
    weights = torch.rand(1, 2, 2)
    for labels in ([3, 14], torch.tensor([3, 14]), range(3, 15, 11)):
        plot_attention(weights, labels, "xy")
        assert query_labels() == ["3", "14"]
        plot_attention_layers([weights], iter(labels), "xy")
        assert query_labels() == ["3", "14"]


CELL = """
import torch
from transformer import History
from transformer.plotting import plot_attention, plot_attention_layers, plot_history
import matplotlib.pyplot as plt
weights = torch.rand(1, 2, 2)
"""


def test_a_cell_shows_one_picture_whether_or_not_it_ends_with_show():
    calls = (
        'plot_history(History(loss=[2.0, 1.0]), "copy")',
        'plot_attention(weights, "ab", "xy")',
        'plot_attention_layers([weights], "ab", "xy")',
    )
    sources = [call + ending for call in calls for ending in ("", "\nplt.show()")]
    cells = [nbformat.v4.new_code_cell(source) for source in (CELL, *sources)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    path = str(Path(transformer.__file__).parents[1])
    client = NotebookClient(notebook, kernel_name="python3")
    client.execute(env=os.environ | {"PYTHONPATH": path})
    for cell in notebook.cells[1:]:
        [picture] = cell.outputs
        assert picture.output_type == "display_data", cell.source
        assert "image/png" in picture.data
