import numpy as np
import pytest

from leaf_fer.faces.drawing import draw


def flat(level=128, height=240, width=320):
    return np.full((height, width, 3), level, np.uint8)


def boxes(*rows):
    return np.array(rows, dtype=np.float32).reshape(-1, 4)


def changed(one, other):
    """Rows and columns of pixels that differ, as slices."""
    rows, columns = np.nonzero((one != other).any(axis=2))
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def label_of(image, box, text):
    """The part of a picture that a label takes, drawn alone."""
    with_text, without = draw(image, boxes(box), [text]), draw(image, boxes(box), [""])
    return with_text[changed(with_text, without)]


PLACES = [
    (100, 80, 180, 160),  # room all around
    (0, 0, 60, 60),  # the corners
    (260, 0, 320, 60),
    (0, 180, 60, 240),
    (260, 180, 320, 240),
    (-50, -50, 30, 30),  # beyond the picture
    (300, 220, 400, 400),
    (0, 0, 320, 240),  # all of it
    (-80, -80, 400, 400),
    (318, 100, 319, 101),  # tiny
]
TEXTS = ["anger 0.93", "ÄÖÜ fgjpqy | 0.5", "happiness 0.61\nsurprise 0.22", "very " * 40 + "long"]


@pytest.mark.parametrize("box", PLACES)
@pytest.mark.parametrize("text", TEXTS)
def test_labels_are_never_cut(box, text):
    label = label_of(flat(), box, text)
    ring = np.ones(label.shape[:2], bool)
    ring[1:-1, 1:-1] = False
    assert (label[ring] == 0).all()  # ink that is cut reaches the edge
    assert (label[~ring] > 200).any()


@pytest.mark.parametrize("size", [(24, 24), (40, 400), (400, 40), (1080, 1920)])
def test_labels_are_never_cut_in_pictures_of_any_size(size):
    label = label_of(flat(128, *size), (5, 5, 20, 20), "anger 0.93")
    assert (label[0] == 0).all()
    assert (label[:, -1] == 0).all()


def test_text_that_is_too_wide_is_set_smaller_before_it_is_cut_short():
    text = "an expression whose name is so long that it hardly fits into this picture at all"
    narrow = label_of(flat(128, 900, 450), (90, 150, 150, 210), text)
    wide = label_of(flat(128, 450, 900), (90, 150, 150, 210), text)
    assert narrow.shape[0] < wide.shape[0]
    assert 400 < narrow.shape[1] <= 450 < wide.shape[1]


def test_text_keeps_its_distance_from_the_edge():
    ink = label_of(flat(128, 1080, 1920), (500, 500, 700, 700), "jjj").any(axis=2)  # j reaches left
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    margins = {rows[0], columns[0], len(ink) - 1 - rows[-1]}
    assert max(margins) - min(margins) <= 1  # letters may begin between two pixels


def test_a_label_looks_the_same_on_any_background():
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    labels = [label_of(image, PLACES[0], "fear 0.5") for image in (flat(127), flat(90), noise)]
    assert all(np.array_equal(label, labels[0]) for label in labels)
    # White on black has the largest contrast there is.
    assert ((labels[0] < 30).all(axis=2).mean() > 0.5) & (labels[0] == 255).all(axis=2).any()


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_box_is_seen_on_any_background(level):
    drawn = draw(flat(level), boxes((100, 80, 180, 160)), [""])
    middle = drawn[120, 95:110, 0].astype(int)
    assert {0, 255} <= set(middle.tolist())
    assert (drawn[121:159, 110:170] == level).all()  # the face is left alone
    assert (drawn[80, 110:170] == 255).all()


def test_boxes_beyond_the_picture_are_drawn_along_its_edge():
    drawn = draw(flat(), boxes((-80, -80, 400, 400)), [""])
    for edge in (drawn[:, :3], drawn[:, -3:], drawn[:3], drawn[-3:]):
        assert (edge == 255).any()


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([(60, 100, 110, 160), (120, 100, 170, 160), (180, 100, 230, 160)], "happiness 0.93"),
        ([(150, 20, 230, 100), (150, 110, 230, 190), (150, 200, 230, 290)], "fear 93 %\nor anger"),
    ],
)  # side by side; one above the other, with no room between them
def test_labels_hide_neither_faces_nor_each_other(rows, text):
    image = flat(128, 300, 400)
    rows, texts = boxes(*rows), [text] * 3
    places = []
    for row, text in enumerate(texts):
        before = [text if other < row else "" for other in range(3)]
        after = [text if other <= row else "" for other in range(3)]
        places.append(changed(draw(image, rows, before), draw(image, rows, after)))
    taken = np.zeros((300, 400), int)
    for place in places:
        taken[place] += 1
    for left, top, right, bottom in rows.astype(int):
        taken[top : bottom + 1, left : right + 1] += 1
    assert taken.max() == 1


def test_a_picture_without_faces_is_a_copy():
    image = flat()
    drawn = draw(image, boxes(), [])
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_the_picture_itself_is_not_drawn_on():
    image = flat()
    draw(image, boxes(*PLACES), ["x"] * len(PLACES))
    assert (image == 128).all()


def test_every_box_needs_a_label():
    with pytest.raises(ValueError, match="zip"):
        draw(flat(), boxes(PLACES[0]), [])
