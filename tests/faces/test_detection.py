import numpy as np
import pytest

from leaf_fer.data.alignment import SIZE, TEMPLATE, similarity
from leaf_fer.data.decode import align, decode
from leaf_fer.errors import UserError
from leaf_fer.faces.boxes import overlaps
from leaf_fer.faces.detection import CenterFace, Faces, YuNet, centers

from .conftest import installed, scene

CORNERS = [(20, 30), (230, 150), (450, 60)]


def test_every_face_of_a_scene_is_found_once(detector, portraits):
    faces = detector.detect(scene(portraits, *CORNERS))
    middles = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    expected = np.array(CORNERS) + 72
    order = np.argsort(middles[:, 0])
    assert len(faces) == 3
    assert np.abs(middles[order] - expected).max() < 25


def test_faces_have_the_types_that_they_promise(detector, portraits):
    faces = detector.detect(scene(portraits, *CORNERS))
    assert faces.boxes.shape == (3, 4)
    assert faces.points.shape == (3, 5, 2)
    assert {faces.boxes.dtype, faces.scores.dtype, faces.points.dtype} == {np.dtype(np.float32)}
    assert (np.diff(faces.scores) <= 0).all()
    assert ((faces.scores > 0.5) & (faces.scores <= 1)).all()


def test_the_points_of_a_face_are_in_the_order_of_the_template(detector, portraits):
    for eye, other, nose, left, right in detector.detect(scene(portraits, *CORNERS)).points:
        assert eye[0] < nose[0] < other[0]
        assert left[0] < right[0]
        assert max(eye[1], other[1]) < nose[1] < min(left[1], right[1])


def test_points_bring_the_eyes_to_the_template(detector, portraits):
    for points in detector.detect(scene(portraits, *CORNERS)).points:
        moved = points @ similarity(points)[:, :2].T + similarity(points)[:, 2]
        assert np.abs(moved - TEMPLATE)[:2].max() < 5


def test_an_aligned_face_has_its_eyes_where_the_template_has_them(detector, yunet, astronaut):
    aligned = align(astronaut, detector.detect(astronaut).points[0], SIZE)
    again = yunet.detect(np.pad(aligned, ((40, 40), (40, 40), (0, 0)))).points[0] - 40
    assert np.abs(again - TEMPLATE)[:2].max() < 5


def test_the_eyes_of_a_photo_are_where_they_are(detector, astronaut):
    faces = detector.detect(astronaut)
    assert len(faces) == 1
    assert np.abs(faces.points[0, :2] - [[203, 103], [248, 105]]).max() < 5


@pytest.mark.parametrize(
    ("package", "names", "count"),
    [
        ("insightface", ("data", "images", "t1.jpg"), 6),
        ("feat", ("tests", "data", "multi_face.jpg"), 5),
        ("feat", ("tests", "data", "BWPictureHuman.jpg"), 1),
    ],
)
def test_all_people_of_a_group_photo_are_found(detector, package, names, count):
    assert len(detector.detect(decode(installed(package, *names)))) == count


def test_a_photo_without_a_person_has_no_face(detector):
    assert len(detector.detect(decode(installed("skimage", "data", "coffee.png")))) == 0


def test_no_faces_have_shapes_too(detector):
    faces = detector.detect(np.full((64, 48, 3), 110, np.uint8))
    assert (faces.boxes.shape, faces.points.shape) == ((0, 4), (0, 5, 2))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (33, 31)])
def test_pictures_of_any_size_are_looked_at(detector, size):
    assert len(detector.detect(np.zeros((*size, 3), np.uint8))) == 0


@pytest.mark.parametrize("kind", [YuNet, CenterFace])
def test_large_pictures_are_shrunk_and_their_faces_enlarged(kind, portraits, weights, centerface):
    from leaf_fer.faces.detection import centerface_file

    detector = kind(weights if kind is YuNet else centerface_file(), side=480)
    small = detector.detect(scene(portraits, (200, 100)))
    image = scene(portraits, (200, 100)).repeat(3, axis=0).repeat(3, axis=1)
    large = detector.detect(image)
    assert overlaps(large.boxes, 3 * small.boxes).item() > 0.8
    assert np.abs(large.points - 3 * small.points).max() < 12


def sizes_seen(detector, shape, monkeypatch):
    seen, look = [], detector._look
    monkeypatch.setattr(detector, "_look", lambda image: seen.append(image.shape) or look(image))
    detector.detect(np.zeros((*shape, 3), np.uint8))
    return [size[:2] for size in seen]


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((600, 400), [(600, 400)]),
        ((640, 640), [(640, 640)]),
        ((1000, 500), [(1000, 500), (640, 320)]),
        ((960, 2560), [(480, 1280), (240, 640)]),
        ((2, 5000), [(1, 1280), (1, 640)]),
    ],
)
def test_detectors_see_a_picture_and_a_smaller_one(yunet, shape, seen, monkeypatch):
    assert sizes_seen(yunet, shape, monkeypatch) == seen


def test_yunet_is_asked_as_opencv_documents_it(yunet, weights, portraits):
    cv2 = pytest.importorskip("cv2")
    image = scene(portraits, (10, 20), (200, 150)) * np.array([1.0, 0.8, 0.6])  # not gray
    image = image.astype(np.uint8)
    oracle = cv2.FaceDetectorYN.create(str(weights), "", (640, 360), 0.6, 0.3)
    rows = oracle.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    rows = rows[np.argsort(-rows[:, 14])]
    faces = yunet.detect(image)
    np.testing.assert_allclose(faces.scores, rows[:, 14])
    np.testing.assert_allclose(faces.boxes[:, 2:] - faces.boxes[:, :2], rows[:, 2:4], rtol=1e-5)
    np.testing.assert_allclose(faces.points.reshape(-1, 10), rows[:, 4:14], rtol=1e-5)


class Network:
    """Remembers its input and sees nothing in it."""

    def setInput(self, blob):  # noqa: N802 (OpenCV's name)
        self.blob = blob

    def forward(self, names):
        height, width = (side // 4 for side in self.blob.shape[2:])
        return [np.zeros((1, depth, height, width), np.float32) for depth in (1, 2, 2, 10)]


def test_centerface_is_given_rgb_with_sides_that_32_divides(centerface, monkeypatch):
    network = Network()
    monkeypatch.setattr(centerface, "_network", network)
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    centerface.detect(image)
    assert network.blob.shape == (1, 3, 96, 96)
    np.testing.assert_array_equal(network.blob[0, :, :70, :90], image.transpose(2, 0, 1))
    assert not network.blob[0, :, 70:].any()


def slow_centers(heat, scale, offset, points, least):
    """The published decoding, cell by cell, y before x."""
    found = []
    for row in range(heat.shape[0]):
        for column in range(heat.shape[1]):
            if heat[row, column] <= least:
                continue
            high, wide = (4 * np.exp(scale[axis, row, column]) for axis in (0, 1))
            middle = [4 * (cell + offset[axis, row, column] + 0.5)
                      for axis, cell in ((0, row), (1, column))]  # fmt: skip
            top, left = middle[0] - high / 2, middle[1] - wide / 2
            marks = [(points[2 * k + 1, row, column] * wide + left,
                      points[2 * k, row, column] * high + top) for k in range(5)]  # fmt: skip
            found.append(((left, top, left + wide, top + high), heat[row, column], marks))
    return [np.array(part) for part in zip(*found, strict=True)]


def test_centers_are_decoded_as_published():
    rng = np.random.default_rng(0)
    heat = rng.uniform(0, 1, (6, 9)).astype(np.float32)
    maps = [rng.normal(0, 1, (depth, 6, 9)).astype(np.float32) for depth in (2, 2, 10)]
    faces = centers(heat, *maps, 0.6)
    boxes, scores, points = slow_centers(heat, *maps, 0.6)
    np.testing.assert_allclose(faces.boxes, boxes, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(faces.scores, scores)
    np.testing.assert_allclose(faces.points, points, rtol=1e-4, atol=1e-4)


def test_a_face_in_one_cell_in_closed_form():
    heat, scale, offset = np.zeros((8, 8)), np.zeros((2, 8, 8)), np.zeros((2, 8, 8))
    points = np.full((10, 8, 8), 0.5)
    heat[3, 5], scale[:, 3, 5], offset[:, 3, 5] = 0.9, np.log([4, 2]), [0.25, -0.25]
    faces = centers(heat, scale, offset, points, 0.5)
    # 16 pixels high and 8 wide around x = 4 * 5.25 and y = 4 * 3.75
    np.testing.assert_allclose(faces.boxes, [[17, 7, 25, 23]])
    np.testing.assert_allclose(faces.points[0], [[21, 15]] * 5)


def test_enlarged_faces_keep_their_scores():
    one = np.ones(1, np.float32)
    faces = Faces(np.ones((1, 4), np.float32), one, np.ones((1, 5, 2), np.float32)).enlarged(2.5)
    assert (faces.boxes == 2.5).all()
    assert (faces.points == 2.5).all()
    assert faces.scores.tolist() == [1]
    assert faces.boxes.dtype == np.float32


@pytest.mark.parametrize("kind", [YuNet, CenterFace])
def test_weights_that_are_none_are_named(kind, tmp_path, capfd):
    pytest.importorskip("cv2")
    file = tmp_path / "weights.onnx"
    for content in (b"", b"not a network", b"\x08\x07" + bytes(999)):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"weights\.onnx: not the weights of {kind.name}$"):
            kind(file)
    with pytest.raises(UserError, match=r"missing\.onnx: cannot be read: No such file"):
        kind(tmp_path / "missing.onnx")
    assert capfd.readouterr() == ("", "")  # of OpenCV, which knows more than anybody wants


def test_weights_of_another_network_are_named(weights, centerface):
    from leaf_fer.faces.detection import centerface_file

    with pytest.raises(UserError, match="not the weights of yunet"):
        YuNet(centerface_file())
    with pytest.raises(UserError, match="not the weights of centerface"):
        CenterFace(weights)


def test_opencv_says_nothing_when_weights_are_read(weights, capfd):
    pytest.importorskip("cv2")
    YuNet(weights)
    assert capfd.readouterr() == ("", "")
