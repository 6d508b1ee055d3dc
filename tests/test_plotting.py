import matplotlib as mpl
import pytest
import torch
from matplotlib import font_manager

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
    figure = plot_history(a_history(held_out=False), title="copy")
    assert len(figure.axes) == 1
    assert lines(figure.axes[0]) == [([1, 2, 3, 4, 5], [2.0, 1.5, 1.0, 0.5, 0.25])]
    assert figure.get_suptitle() == "copy"


def test_held_out_loss_and_accuracy_are_drawn_at_the_steps_of_their_evaluation():
    loss, accuracy = plot_history(a_history(held_out=True)).axes
    assert lines(loss) == [
        ([1, 2, 3, 4, 5], [2.0, 1.5, 1.0, 0.5, 0.25]),
        ([2, 4, 5], [1.75, 1.25, 0.75]),
    ]
    assert lines(accuracy) == [([2, 4, 5], [0.25, 0.5, 0.875])]
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels == ["training (dropout on)", "held-out (dropout off)"]


def test_each_head_is_drawn_with_queries_in_rows_and_keys_in_columns():
    weights = torch.rand(5, 2, 3)
    figure = plot_attention(weights, ["a", "b"], ["x", "y", "z"], title="look")
    maps = [axis for axis in figure.axes if axis.images and axis.get_title()]
    assert [axis.get_title() for axis in maps] == [f"head {i}" for i in range(5)]
    for axis, expected in zip(maps, weights, strict=True):
        assert axis.images[0].get_array().tolist() == expected.tolist()
        assert axis.images[0].get_clim() == (0, 1)
        assert [label.get_text() for label in axis.get_xticklabels()] == ["x", "y", "z"]
        assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert figure.get_suptitle() == "look"


def test_five_heads_leave_the_rest_of_the_second_row_empty():
    figure = plot_attention(torch.rand(5, 2, 3), "ab", "xyz")
    hidden = [axis for axis in figure.axes if not axis.get_visible()]
    assert len(hidden) == 3


def test_one_head_needs_one_map():
    figure = plot_attention(torch.rand(1, 2, 3), "ab", "xyz")
    assert [axis.get_title() for axis in figure.axes if axis.get_visible()] == [
        "head 0",
        "",
    ]


def test_figures_can_be_drawn_in_the_books_style(tmp_path):
    use_book_style()
    assert mpl.rcParams["axes.grid"] is True
    for number, figure in enumerate(
        (
            plot_history(a_history(held_out=True), "t"),
            plot_attention(torch.rand(5, 2, 3), "ab", "xyz"),
        )
    ):
        path = tmp_path / f"{number}.png"
        figure.savefig(path)
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
    figure = plot_attention_layers(layers, list("abc"), list("vwxyz"))
    maps = [axis for axis in figure.axes if axis.images]
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
    ],
)
def test_layers_that_do_not_fit_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        plot_attention_layers(layers, list("abc"), list("vwxyz"))
