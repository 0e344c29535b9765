import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

import leaf_fer
from leaf_fer import predict as module
from leaf_fer.build import computes_bfloat16
from leaf_fer.data import decode, synthetic
from leaf_fer.data.views import Images
from leaf_fer.engine.evaluate import evaluate
from leaf_fer.errors import UserError
from leaf_fer.models import Architecture, Card, build_classifier, save_model
from leaf_fer.predict import find_images
from leaf_fer.types import MEAN, STD

CLASSES = ("calm", "glad", "grim")
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with random weights."""
    path = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    network = Architecture(backbone="test_resnet", num_classes=3, image_size=SIZE)
    save_model(path, build_classifier(network), Card(network, CLASSES, MEAN, STD))
    return path


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Image files of 12 faces, and their pixels."""
    path = tmp_path_factory.mktemp("faces")
    pixels = synthetic.render(0, range(12), SIZE)
    for row, face in enumerate(pixels):
        Image.fromarray(face).save(path / f"{row:02}.png")
    return sorted(path.iterdir()), pixels


@pytest.fixture
def model(folder):
    return leaf_fer.load(folder, device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not decoders()


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def decoders():
    return [thread for thread in threading.enumerate() if thread.name.startswith("leaf-lane")]


def computing(model, call):
    """Have something called whenever the network computes."""
    model.model.register_forward_pre_hook(lambda *_: call())


def settings():
    """What decoding changes for the whole process."""
    return list(warnings.filters), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES


def table(predictions):
    return np.array([list(one.scores.values()) for one in predictions])


class TestAnswers:
    @pytest.mark.parametrize("batch_size", [1, 5, 12, 64])
    def test_they_come_in_the_order_of_the_files(self, model, faces, batch_size):
        paths, pixels = faces
        order = [3, 11, 0, 0, 7, 2, 9, 1, 4, 5, 6, 10, 8]
        found = list(model.predict([paths[row] for row in order], batch_size=batch_size))
        expected = model.probabilities(pixels[order])
        assert [one.path for one in found] == [paths[row] for row in order]
        np.testing.assert_allclose(table(found), expected, atol=1e-5)
        for one, row in zip(found, expected, strict=True):
            assert one.label == CLASSES[row.argmax()]
            assert one.confidence == one.scores[one.label] == max(one.scores.values())

    def test_a_file_that_cannot_be_read_changes_no_other(self, model, faces, tmp_path):
        paths, _ = faces
        (tmp_path / "text.png").write_text("no image")
        names = [*paths[:3], tmp_path / "text.png", tmp_path / "missing.png", *paths[3:]]
        found = list(model.predict(names, batch_size=4))
        wrong = [one for one in found if one.error]
        assert [one.path for one in found] == names
        assert [one.error for one in wrong] == ["is not an image", "does not exist"]
        assert all(one.label is one.confidence is one.scores is None for one in wrong)
        right = table(one for one in found if not one.error)
        np.testing.assert_allclose(right, table(model.predict(paths)), atol=1e-5)

    def test_no_file_no_answer(self, model):
        assert list(model.predict([])) == []

    def test_they_are_those_of_evaluate(self, folder, faces, one_thread):
        # To the bit in the same batches with as many threads; else to rounding, as above.
        paths, pixels = faces
        for precision in ("float32", "bfloat16"):
            model = leaf_fer.load(folder, device="cpu", precision=precision)
            images = Images(pixels, torch.device("cpu"))
            rows = np.arange(12)
            scores = evaluate(
                model.model, images, rows, batch_size=8, autocast=precision == "bfloat16"
            )
            found = model.predict(paths, batch_size=8 * module._Lanes(False).count)
            assert np.array_equal(table(found), scores)

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
    def test_a_gpu_gives_them_too(self, folder, model, faces):
        paths, _ = faces
        other = leaf_fer.load(folder, device="cuda", precision="float32")
        expected = table(model.predict(paths * 20, batch_size=7))
        found = table(other.predict(paths * 20, batch_size=7))
        np.testing.assert_allclose(found, expected, atol=1e-2)


class TestPipeline:
    def test_files_are_decoded_while_a_batch_is_computed(self, model, faces, monkeypatch):
        first, *_, last = faces[0]
        seen = threading.Event()

        def decoding(path):
            if path == last:
                seen.set()
            return decode.decode(path)

        monkeypatch.setattr(module, "decode", decoding)
        waited = []
        computing(model, lambda: waited.append(seen.wait(timeout=30)))
        lanes = module._Lanes(False).count
        list(model.predict([first] * 3 + [last] * 3, batch_size=3 * lanes))
        assert waited == [True] * 2

    def test_memory_does_not_grow_with_the_number_of_files(self, model, faces, monkeypatch):
        batches, begun, most = weakref.WeakSet(), 0, 0
        lanes = module._Lanes(False).count
        classify = model._begin

        def classified(pixels):
            nonlocal most
            batches.add(pixels)
            most = max(most, len(batches))
            return classify(pixels)

        def paths():
            nonlocal begun
            for _ in range(3000):
                begun += 1
                yield faces[0][0]

        monkeypatch.setattr(model, "_begin", classified)
        for number, _ in enumerate(model.predict(paths(), batch_size=50 * lanes)):
            assert begun - number <= 50 * (lanes + 1)
        assert number == 2999
        assert 1 <= most <= lanes

    def test_an_early_end_drops_what_is_not_begun(self, model, faces, monkeypatch):
        first, second, *_ = faces[0]
        decoded, closing = [], threading.Event()

        def decoding(path):
            decoded.append(path)
            if path == second:
                closing.wait(timeout=30)
            return decode.decode(path)

        class Threads(ThreadPoolExecutor):
            def shutdown(self, **options):
                super().shutdown(wait=False, **options)
                closing.set()
                super().shutdown()

        monkeypatch.setattr(module, "decode", decoding)
        monkeypatch.setattr(module, "ThreadPoolExecutor", Threads)
        lanes = module._Lanes(False).count
        answers = model.predict([first] * 200 + [second] * 200, batch_size=200 * lanes)
        next(answers)
        answers.close()
        assert not decoders()
        assert decoded.count(first) == 200
        assert decoded.count(second) < 100  # 8 by each of 8 threads at most

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_an_error_while_computing_ends_the_threads(self, model, faces, error):
        def fail():
            raise error

        computing(model, fail)
        with pytest.raises(error):
            list(model.predict(faces[0], batch_size=4))
        assert not decoders()

    def test_a_mistake_in_a_thread_is_not_hidden(self, model, faces, monkeypatch):
        def fail(*_):
            raise ZeroDivisionError

        monkeypatch.setattr(module, "cut", fail)
        with pytest.raises(ZeroDivisionError):
            next(model.predict(faces[0]))

    def test_settings_of_the_process_are_as_before(self, model, faces):
        before = settings()
        answers = model.predict(faces[0], batch_size=2)
        next(answers)
        assert settings() != before
        answers.close()
        assert settings() == before

    def test_threads_do_not_mix_up_the_warnings_of_the_caller(self, model, faces, monkeypatch):
        paths, before = faces[0][:4], settings()
        ignoring, decoding, heeding = threading.Event(), threading.Event(), threading.Event()

        def late(path):
            if path == paths[2]:
                ignoring.wait(timeout=30)
                with decode.lenient:
                    decoding.set()
                    heeding.wait(timeout=30)
            return decode.decode(path)

        monkeypatch.setattr(module, "decode", late)
        answers = model.predict(paths, batch_size=2)
        next(answers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ignoring.set()
            assert decoding.wait(timeout=30)
        heeding.set()
        assert len(list(answers)) == 3
        assert settings() == before


class TestLoad:
    @pytest.mark.parametrize(
        ("precision", "half"),
        [("float32", False), ("bfloat16", True), ("auto", computes_bfloat16("cpu"))],
    )
    def test_the_network_computes_in_the_precision_asked_for(self, folder, faces, precision, half):
        model = leaf_fer.load(folder, device="cpu", precision=precision)
        found = []
        computing(model, lambda: found.append(torch.is_autocast_enabled("cpu")))
        list(model.predict(faces[0]))
        model.probabilities(faces[1])
        assert found == [half, half]
        assert not torch.is_autocast_enabled("cpu")

    def test_an_unknown_precision_is_refused(self, folder):
        with pytest.raises(
            UserError, match="--precision half: expected one of auto, float32, bfloat16"
        ):
            leaf_fer.load(folder, precision="half")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there_is_refused(self, folder):
        with pytest.raises(UserError, match="--device cuda: torch sees no GPU here"):
            leaf_fer.load(folder, device="cuda")


def test_folders_are_listed_in_order_with_what_is_below_them(tmp_path):
    for name in ("b/2.png", "b/1.png", "a.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path / "b/2.png", "x.png", str(tmp_path)])
    below = [str(tmp_path / name) for name in ("a.jpg", "b/1.png", "b/2.png")]
    assert list(found) == [below[-1], "x.png", *below]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no image files there"):
        list(find_images([tmp_path]))


def test_pixels_are_named_like_the_files_they_are_in(model, faces):
    files, pixels = faces

    def rows(images):
        return np.array([list(one.scores.values()) for one in model.predict(images)])

    expected = rows(files[:3])
    mixed = [pixels[0], Image.open(files[1]), files[2]]
    assert [one.path for one in model.predict(mixed)] == [None, None, files[2]]
    np.testing.assert_allclose(rows(mixed), expected, rtol=1e-5)
    np.testing.assert_allclose(rows(pixels[:3]), expected, rtol=1e-5)
    fixed = pixels[:3].copy()
    fixed.setflags(write=False)
    np.testing.assert_allclose(model.probabilities(fixed), expected, rtol=1e-5)


def test_one_file_alone_is_one_face(model, faces):
    (found,) = model.predict(str(faces[0][0]))
    assert (found.path, found.error) == (faces[0][0], None)
    assert next(model.predict(Image.open(faces[0][0]))).scores == found.scores


def test_an_image_of_pillow_that_is_damaged_gives_an_error(model, faces, tmp_path):
    (tmp_path / "half.png").write_bytes(faces[0][0].read_bytes()[:300])
    with Image.open(tmp_path / "half.png") as image:
        (found,) = model.predict([image])
    assert found.label is None
    assert found.error


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.uint8), r"expected an image \(H, W, 3\) uint8, got \(8, 8\) uint8"),
        (np.zeros((8, 8, 3)), r"got \(8, 8, 3\) float64"),
        (np.zeros((0, 8, 3), np.uint8), "expected an image"),
        (3, "expected a path or an image, got int"),
    ],
)
def test_what_is_no_image_is_a_mistake(model, image, message):
    with pytest.raises(TypeError, match=message):
        list(model.predict([image]))
