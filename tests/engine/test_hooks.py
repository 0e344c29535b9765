from types import SimpleNamespace

import pytest

from leaf_fer.engine.hooks import Recorder
from leaf_fer.engine.record import Journal, RunFolder
from leaf_fer.types import Clock

ALL = "every pseudo-label of the first 4 steps has counted, doubtful ones too"
NONE = "no pseudo-label of the first 4 steps has counted"


def recorder(folder, state, total, validate=None):
    """A recorder of two classes."""
    folder.lock()
    return Recorder(
        folder,
        state,
        total_steps=total,
        validate=validate,
        keep=lambda state: None,
        classes=("a", "b"),
        even=True,
        log_steps=1,
    )


def warned(folder):
    return [(line["step"], line["warning"]) for line in folder.lines() if "warning" in line]


def warnings(path, masks, *, step, total):
    """The warnings after the epoch that ends at ``step``; the log has a mask per step."""
    folder, state = RunFolder(path), SimpleNamespace(step=step)
    hooks = recorder(folder, state, total)
    before = Journal(folder, 0)  # of another process, as after an interruption
    for number, mask in enumerate(masks, start=1):
        before.write(number, {"watch": {} if mask is None else {"mask": mask}})
    before.close()
    hooks.epoch(Clock(step, total, 2), state)
    hooks.close()
    return warned(folder)


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ([1.0, 0.9995, 1.0, 1.0], [(4, ALL)]),
        ([0.0, 0.0, 0.0005, 0.0], [(4, NONE)]),
        ([1.0, 1.0, 1.0, 0.99], []),
        ([0.0, 0.0, 0.0, 0.01], []),
        ([None, None, None, None], []),
    ],
)
def test_a_mask_that_lets_all_or_nothing_through_is_told(tmp_path, masks, told):
    assert warnings(tmp_path, masks, step=4, total=8) == told


@pytest.mark.parametrize(
    ("step", "total", "told"), [(2, 8, 0), (4, 8, 1), (6, 8, 0), (8, 8, 0), (4, 7, 1), (1, 1, 1)]
)
def test_it_is_told_once_where_half_of_the_run_is_over(tmp_path, step, total, told):
    assert len(warnings(tmp_path, [0.0] * step, step=step, total=total)) == told


def test_a_collapse_is_told_once_and_not_of_a_network_that_has_just_begun(tmp_path):
    folder, state = RunFolder(tmp_path), SimpleNamespace(step=0, averaged=None, facts={})
    found = {"balanced_accuracy": 0.5, "overall_accuracy": 0.5}
    hooks = recorder(
        folder, state, 100, validate=lambda model: {**found, "predicted_shares": shares}
    )
    for state.step, share in ((10, 0.95), (20, 0.95), (30, 0.95), (40, 0.5), (50, 0.95)):
        shares = {"a": 1 - share, "b": share}
        hooks.epoch(Clock(state.step, 100, 10), state)
    hooks.close()
    text = "95 % of the predictions are 'b': the run has collapsed"
    assert warned(folder) == [(20, text), (50, text)]
