import math

import pytest
import torch

from transformer.state_file import read_state, write_state


def test_what_is_read_is_what_was_written_type_for_type(tmp_path):
    state = {
        "nothing": None,
        "yes": True,
        "count": 7,
        "rate": 0.1,
        "worst": -math.inf,
        "name": "ß/a",
        "betas": (0.9, 0.999),
        "losses": [0.1, 2.5, 1 / 3],
        "steps": [3, 6],
        "empty": [],
        "groups": [{"lr": 1.0, "params": ["a", "b"]}],
        "milestones": {30: 1, 60: 2},
    }
    write_state(tmp_path / "state", state)
    found = read_state(tmp_path / "state")
    assert found == state
    assert repr(found) == repr(state)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.uint8, torch.int64, torch.bool]
)
def test_tensors_keep_their_numbers_types_and_shapes(tmp_path, dtype):
    grid = torch.arange(35).reshape(5, 7).to(dtype)
    state = {"turned": grid.T, "one": grid[0, 1], "rows": [grid[1], grid[:0]]}
    write_state(tmp_path / "state", state)
    found = read_state(tmp_path / "state")
    assert torch.equal(found["turned"], grid.T)
    assert torch.equal(found["one"], grid[0, 1])
    assert torch.equal(found["rows"][0], grid[1])
    assert found["rows"][1].shape == (0, 7)
    assert found["turned"].dtype == dtype


def test_names_that_share_a_tensor_are_both_stored(tmp_path):
    tied = torch.ones(3)
    write_state(tmp_path / "state", {"a": tied, "b": tied})
    assert read_state(tmp_path / "state")["b"].tolist() == [1, 1, 1]


def test_what_would_need_code_to_come_back_is_refused_and_named(tmp_path):
    with pytest.raises(TypeError, match=r"^state/a/1 is a function, which"):
        write_state(tmp_path / "state", {"a": [1, lambda: None]})
    assert list(tmp_path.iterdir()) == []
