from hashlib import sha256

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from leaf_fer.data import face_parameters as parameters
from leaf_fer.data import synthetic
from leaf_fer.data.dice import Dice
from leaf_fer.data.face_parameters import ACTION_UNITS, PROTOTYPES
from leaf_fer.data.table import EXPRESSIONS
from leaf_fer.errors import UserError

MANY = np.arange(8000)


def mean_units() -> NDArray[np.float64]:
    """(8, U), how far each action unit moves on average, by expression, on its stronger side."""
    shown = synthetic.labels(0, MANY)
    moved = synthetic.action_units(0, MANY).max(-1).astype(np.float64)
    return np.stack([moved[shown == row].mean(0) for row in range(len(EXPRESSIONS))])


def row(expression: str) -> int:
    return EXPRESSIONS.index(expression)


def sides_of(unit: int, expression: str) -> NDArray[np.float32]:
    """(B, 2), one action unit on both sides of all faces that show an expression."""
    chosen = MANY[synthetic.labels(0, MANY) == row(expression)]
    return synthetic.action_units(0, chosen)[:, ACTION_UNITS.index(unit)].astype(np.float32)


def test_render_returns_bytes_of_the_size_asked_for() -> None:
    images = synthetic.render(0, np.arange(3), 48)
    assert images.dtype == np.uint8
    assert images.shape == (3, 48, 48, 3)


@pytest.mark.parametrize("size", [32, 33, 48, 224])
def test_a_face_is_the_same_in_any_batch(size: int) -> None:
    index = np.array([5, 123456789, 0, 77, 40, 41, 42])
    together = synthetic.render(1, index, size)
    alone = np.concatenate([synthetic.render(1, index[i : i + 1], size) for i in range(len(index))])
    np.testing.assert_array_equal(together, alone)


def test_a_face_is_the_same_on_both_sides_of_a_chunk() -> None:
    step = synthetic.PIXELS // 32**2
    whole = synthetic.render(0, np.arange(2 * step + 1), 32)
    later = synthetic.render(0, np.arange(3, 2 * step + 1), 32)
    np.testing.assert_array_equal(whole[3:], later)


def test_three_faces_do_not_mix_up_colors_and_faces() -> None:
    three = synthetic.render(0, np.arange(3), 32)
    four = synthetic.render(0, np.arange(4), 32)
    np.testing.assert_array_equal(three, four[:3])


def test_labels_and_units_are_the_same_in_any_batch() -> None:
    order = np.array([40, 3, 3, 17])
    np.testing.assert_array_equal(synthetic.labels(2, order), synthetic.labels(2, MANY)[order])
    units = synthetic.action_units(2, MANY)[order]
    np.testing.assert_array_equal(synthetic.action_units(2, order), units)


def test_a_tensor_of_indices_gives_the_same_faces_as_an_array() -> None:
    index = torch.tensor([4, 9])
    np.testing.assert_array_equal(
        synthetic.render(0, index, 32), synthetic.render(0, index.numpy(), 32)
    )


def test_no_index_gives_no_face() -> None:
    assert synthetic.render(0, np.arange(0), 32).shape == (0, 32, 32, 3)


def test_seeds_draw_different_faces() -> None:
    one, two = (synthetic.render(seed, np.arange(4), 32) for seed in (0, 1))
    assert (one != two).any(axis=(1, 2, 3)).all()


def test_seeds_and_indices_are_not_interchangeable() -> None:
    shifted = synthetic.labels(1, np.arange(100)) == synthetic.labels(0, np.arange(1, 101))
    assert shifted.mean() < 0.5


def test_faces_of_one_seed_differ() -> None:
    images = synthetic.render(0, np.arange(200), 32).reshape(200, -1)
    assert len(np.unique(images, axis=0)) == 200


def test_no_image_is_nearly_constant() -> None:
    spread = synthetic.render(0, np.arange(200), 32).reshape(200, -1).std(1)
    assert spread.min() > 15


def test_no_image_is_mostly_black_or_white() -> None:
    images = synthetic.render(0, np.arange(200), 32)
    clipped = ((images == 0) | (images == 255)).mean(axis=(1, 2, 3))
    assert clipped.max() < 0.25


def test_sizes_show_the_same_face() -> None:
    small, large = (synthetic.render(0, np.arange(20), size) for size in (32, 96))
    shrunk = large.reshape(20, 32, 3, 32, 3, 3).mean(axis=(2, 4))
    assert np.abs(shrunk - small).mean() < 8


@pytest.mark.parametrize("size", [-1, 0, 31, 225])
def test_a_size_out_of_range_is_told(size: int) -> None:
    with pytest.raises(UserError, match=f"expected 32 to 224, got {size}"):
        synthetic.render(0, np.arange(1), size)


def test_labels_are_balanced() -> None:
    counts = np.bincount(synthetic.labels(0, MANY), minlength=8)
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(1000)


def test_labels_are_class_rows() -> None:
    shown = synthetic.labels(0, MANY)
    assert shown.dtype == np.int64
    assert set(shown.tolist()) == set(range(8))


def test_the_expressions_of_a_seed_never_change() -> None:
    expected = [0, 2, 5, 7, 7, 0, 0, 2, 3, 7, 6, 5, 1, 6, 3, 1]
    assert synthetic.labels(0, np.arange(16)).tolist() == expected


def test_action_units_are_unit_intensities_of_both_sides() -> None:
    units = synthetic.action_units(0, MANY)
    assert units.dtype == np.float32
    assert units.shape == (len(MANY), len(ACTION_UNITS), 2)
    assert units.min() >= 0
    assert units.max() <= 1


@pytest.mark.parametrize("expression", [name for name in EXPRESSIONS if PROTOTYPES[name]])
def test_an_expression_moves_its_own_action_units_most(expression: str) -> None:
    mean = mean_units()[row(expression)]
    own = [ACTION_UNITS.index(unit) for unit in PROTOTYPES[expression]]
    assert mean[own].min() > 0.4
    assert np.delete(mean, own).max() < 0.25


def test_a_neutral_face_moves_slightly() -> None:
    mean = mean_units()[row("neutral")]
    assert 0 < mean.max() < 0.05


def test_expressions_leave_out_action_units_at_times() -> None:
    pulled = sides_of(12, "happiness").max(-1)
    assert 0.02 < (pulled < 0.05).mean() < 0.2


def test_fear_is_nearer_to_surprise_than_happiness_to_anger() -> None:
    mean = mean_units()
    near = np.linalg.norm(mean[row("fear")] - mean[row("surprise")])
    far = np.linalg.norm(mean[row("happiness")] - mean[row("anger")])
    assert near < far


def test_anger_and_disgust_borrow_from_each_other() -> None:
    mean = mean_units()
    wrinkle, lower = ACTION_UNITS.index(9), ACTION_UNITS.index(4)
    assert mean[row("anger"), wrinkle] > 2 * mean[row("happiness"), wrinkle]
    assert mean[row("disgust"), lower] > 2 * mean[row("happiness"), lower]


def test_contempt_pulls_one_corner_of_the_mouth() -> None:
    sides = sides_of(12, "contempt")
    assert np.median(sides.max(1) - sides.min(1)) > 0.4


def test_contempt_is_on_either_side() -> None:
    sides = sides_of(12, "contempt")
    assert 0.4 < (sides[:, 0] > sides[:, 1]).mean() < 0.6


def test_happiness_pulls_both_corners_of_the_mouth() -> None:
    sides = sides_of(12, "happiness")
    assert np.abs(sides[:, 0] - sides[:, 1]).max() < 0.2


@pytest.mark.parametrize("unit", ACTION_UNITS)
def test_every_action_unit_is_visible(unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(strength: float) -> NDArray[np.float64]:
        units = np.zeros((8, len(ACTION_UNITS), 2), np.float32)
        units[:, ACTION_UNITS.index(unit)] = strength
        monkeypatch.setattr(parameters, "intensities", lambda dice: units)
        return synthetic.render(0, np.arange(8), 48).astype(np.float64)

    changed = np.abs(drawn(1) - drawn(0)).max(-1) > 12
    assert changed.mean(axis=(1, 2)).max() > 0.005


def test_parameters_are_single_precision() -> None:
    dice = Dice(0, np.arange(5))
    for record in (parameters.identity(dice), parameters.scene(dice)):
        for name, values in vars(record).items():
            assert values.dtype == np.float32, name
            assert values.shape in {(5,), (5, 3)}, name


def test_some_people_wear_glasses_and_beards() -> None:
    people = parameters.identity(Dice(0, MANY))
    for share in ((people.glasses > 0).mean(), (people.beard > 0).mean()):
        assert 0.05 < share < 0.3


def test_dice_fill_the_range_evenly() -> None:
    counts, _ = np.histogram(Dice(3, MANY).uniform("any", 2, 4), bins=10, range=(2, 4))
    assert counts.sum() == len(MANY)
    assert np.abs(counts - 800).max() < 4 * np.sqrt(800)


def test_dice_of_two_names_are_unrelated() -> None:
    dice = Dice(0, MANY)
    first, second = dice.uniform("first", 0, 1), dice.uniform("second", 0, 1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_a_contact_sheet_has_a_row_per_expression() -> None:
    sheet = synthetic.contact_sheet(0, 5, 32)
    assert sheet.shape == (8 * 32, 5 * 32, 3)
    surprised = MANY[synthetic.labels(0, MANY) == row("surprise")][:1]
    place = row("surprise") * 32
    np.testing.assert_array_equal(
        sheet[place : place + 32, :32], synthetic.render(0, surprised, 32)[0]
    )


def test_a_change_of_the_drawing_has_a_version_of_its_own() -> None:
    # If this fails, raise VERSION and write the new digest down: stores are found by the version.
    digest = sha256(synthetic.render(0, range(8), 48).tobytes()).hexdigest()
    assert (synthetic.VERSION, digest[:16]) == (2, "37bb9583832bb6ae")
