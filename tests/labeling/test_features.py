import numpy as np
import pytest
import torch
from PIL import Image

from leaf_fer.data import folder as folders
from leaf_fer.data.augment import normalize
from leaf_fer.data.store import prepare
from leaf_fer.errors import UserError
from leaf_fer.labeling import features as module
from leaf_fer.labeling.features import Encoder, components, contrast, features_of, plain
from leaf_fer.labeling.network import network
from leaf_fer.models import (
    Architecture,
    Card,
    build_classifier,
    load_model,
    save_model,
    save_start,
)
from leaf_fer.models.backbone import create_backbone
from leaf_fer.types import MEAN, STD


@pytest.fixture
def store(folder):
    """12 faces of 32 pixels; the first cannot be read."""
    (folder / "00.png").write_text("no image")
    return prepare(folders.read(folder), 32, progress=False)


class TestContrast:
    def test_it_is_each_pixel_by_its_neighborhood(self):
        images = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), dtype=np.uint8)
        found = contrast(images, radius=2).reshape(2, 9, 9)
        gray = np.pad(images @ np.array([0.299, 0.587, 0.114]), ((0, 0), (2, 2), (2, 2)), "edge")
        for y in range(9):
            for x in range(9):
                around = gray[1, y : y + 5, x : x + 5]
                expected = (gray[1, y + 2, x + 2] - around.mean()) / (around.std() + 8)
                assert found[1, y, x] == pytest.approx(expected, abs=2e-3)

    def test_brightness_does_not_matter_and_contrast_hardly(self):
        face = np.random.default_rng(0).integers(60, 120, (1, 32, 32, 3), dtype=np.uint8)
        same = contrast(face)
        np.testing.assert_allclose(contrast(face + 100), same, atol=1e-3)
        more = contrast(2 * face)
        assert np.corrcoef(more.ravel(), same.ravel())[0, 1] > 0.99


class TestComponents:
    def test_the_first_have_most_of_the_variance_and_the_scale_is_one(self):
        rng = np.random.default_rng(0)
        values = (rng.standard_normal((500, 6)) * [9, 5, 1, 3, 0.5, 2] + 4).astype(np.float32)
        center, axes = components(values)
        found = (values - center) @ axes
        variance = found.var(axis=0)
        assert variance[0] == pytest.approx(1, rel=1e-4)
        assert (np.diff(variance) < 0).all()
        np.testing.assert_allclose(np.corrcoef(found.T), np.eye(6), atol=1e-3)
        distances = np.linalg.norm(values[:50] - values[50:100], axis=1)
        ratio = np.linalg.norm(found[:50] - found[50:100], axis=1) / distances
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)  # it only turns and scales

    @pytest.mark.parametrize("shape", [(3, 200), (300, 200), (1, 4)])
    def test_there_are_no_more_than_it_takes(self, shape):
        values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        assert components(values)[1].shape == (shape[1], min(module.WIDTH, *shape))


class TestFeatures:
    def test_faces_are_seen_once_and_found_again_by_content(self, store, folder, tmp_path):
        seen = []

        def encode(images):
            seen.append(len(images))
            return contrast(images)

        first = features_of(store, Encoder(32, "mine", encode), tmp_path)
        assert sum(seen) == 11
        (folder / "01.png").rename(folder / "0001.png")  # sorts to the same place
        again = prepare(folders.read(folder), 32, progress=False)
        np.testing.assert_array_equal(
            features_of(again, Encoder(32, "mine", encode), tmp_path), first
        )
        assert sum(seen) == 11
        features_of(store, Encoder(32, "other", encode), tmp_path)
        assert sum(seen) == 22

    def test_another_face_is_seen(self, store, folder, tmp_path):
        before = features_of(store, plain(), tmp_path)
        Image.new("RGB", (40, 40), (200, 10, 90)).save(folder / "05.png")
        after = features_of(prepare(folders.read(folder), 32, progress=False), plain(), tmp_path)
        assert not np.allclose(before[5], after[5])

    def test_one_that_cannot_be_read_is_nothing(self, store, tmp_path):
        found = features_of(store, plain(), tmp_path)
        assert found.shape[0] == 12
        assert (found[0] == 0).all()
        assert np.isfinite(found).all()
        assert (np.abs(found[1:]).max(axis=1) > 0).all()

    def test_it_does_not_matter_that_only_some_make_the_components(
        self, store, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(module, "SAMPLE", 6)
        monkeypatch.setattr(module, "BATCH", 4)
        found = features_of(store, plain(), tmp_path)
        assert found.shape[1] == 6
        for row in range(1, 12):  # faces keep their places, in whatever order they were encoded
            alone = contrast(store.gather(np.array([row])))
            others = contrast(store.gather(np.arange(1, 12)))
            assert np.abs(others - alone).max(axis=1).argmin() == row - 1
        monkeypatch.setattr(module, "BATCH", 256)
        np.testing.assert_allclose(module._compute(store, plain()), found, atol=1e-4)

    def test_a_damaged_file_is_computed_again(self, store, tmp_path):
        first = features_of(store, plain(), tmp_path)
        (file,) = tmp_path.glob("features-*.npy")
        file.write_bytes(file.read_bytes()[:100])
        np.testing.assert_array_equal(features_of(store, plain(), tmp_path), first)


class TestNetwork:
    @pytest.fixture
    def model(self, tmp_path):
        """A run folder with the model of 32 pixels."""
        torch.manual_seed(0)
        shape = Architecture(backbone="test_resnet", num_classes=3, image_size=32)
        card = Card(shape, ("a", "b", "c"), MEAN, STD)
        save_model(tmp_path / "run" / "model", build_classifier(shape), card)
        return tmp_path / "run"

    def test_a_run_gives_the_features_of_its_model(self, model, store):
        encoder = network(model)
        images = store.gather(np.arange(1, 5))
        classifier, card = load_model(model / "model")
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = classifier(normalize(pixels, card.mean, card.std)).features
        assert encoder.size == 32
        torch.testing.assert_close(torch.from_numpy(encoder.encode(images)), expected)

    def test_starting_weights_give_those_of_their_network(self, tmp_path, store):
        torch.manual_seed(0)
        backbone, width = create_backbone("test_resnet", 112)
        mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
        save_start(
            tmp_path / "w", backbone, "test_resnet", origin="", license="", mean=mean, std=std
        )
        encoder = network(tmp_path / "w")
        images = store.gather(np.arange(1, 5))
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = backbone.eval()(normalize(pixels, mean, std))
        assert encoder.size == 112
        assert encoder.encode(images).shape == (4, width)
        torch.testing.assert_close(torch.from_numpy(encoder.encode(images)), expected)

    def test_other_weights_are_another_encoder(self, model, tmp_path):
        shape = Architecture(backbone="test_resnet", num_classes=3, image_size=32)
        torch.manual_seed(1)
        card = Card(shape, ("a", "b", "c"), MEAN, STD)
        save_model(tmp_path / "other", build_classifier(shape), card)
        assert network(model).key == network(model / "model").key != network(tmp_path / "other").key

    def test_what_is_no_model_is_refused(self, tmp_path):
        with pytest.raises(UserError, match=f"^--model {tmp_path}: expected weights.json and"):
            network(tmp_path)
        torch.save({"weight": torch.ones(2)}, tmp_path / "bare.pth")
        with pytest.raises(UserError, match=r"^--model .*bare.pth: does not say of which network"):
            network(tmp_path / "bare.pth")
