from types import SimpleNamespace

import pytest

from leaf_fer.engine.hooks import Recorder
from leaf_fer.engine.record import Journal, RunFolder
from leaf_fer.types import Clock

ALL, NONE = (
    "every pseudo-label has counted so far, doubtful ones too",
    "no pseudo-label has counted so far",
)


def warnings(path, masks, *, step, total, epoch_steps=2):
    """The warnings after the epoch that ends at ``step``; the log has a mask per step."""
    folder = RunFolder(path)
    folder.lock()
    journal = Journal(folder, 0)  # of a process before, as after an interruption
    for number, mask in enumerate(masks, start=1):
        journal.write(number, {"watch": {} if mask is None else {"mask": mask}})
    journal.close()
    state = SimpleNamespace(step=step)
    recorder = Recorder(
        folder,
        state,
        total_steps=total,
        validate=None,
        keep=print,
        classes=("a", "b"),
        even=True,
        log_steps=1,
    )
    recorder.epoch(Clock(step, total, epoch_steps), state)
    recorder.close()
    return [(line["step"], line["warning"]) for line in folder.lines() if "warning" in line]


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
