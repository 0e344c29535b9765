import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from leaf_fer.data import image_ops
from leaf_fer.data.augment import OPERATIONS, normalize, strong, weak

both_views = pytest.mark.parametrize("view", [weak, strong])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(count, size=24, seed=1):
    """(count, 3, size, size) uint8, channels-last, without black."""
    images = torch.randint(
        1, 256, (count, size, size, 3), dtype=torch.uint8, generator=seeded(seed)
    )
    return images.permute(0, 3, 1, 2)


@both_views
def test_the_same_seed_gives_the_same_views(view):
    assert torch.equal(view(pictures(20), seeded(3)), view(pictures(20), seeded(3)))


@both_views
def test_another_seed_gives_other_views(view):
    assert not torch.equal(view(pictures(20), seeded(3)), view(pictures(20), seeded(4)))


@both_views
def test_views_are_bytes_of_the_same_shape_and_channels_last_in_memory(view):
    views = view(pictures(20), seeded())
    assert views.shape == (20, 3, 24, 24)
    assert views.dtype == torch.uint8
    assert views.is_contiguous(memory_format=torch.channels_last)


@both_views
def test_the_memory_of_the_images_does_not_matter(view):
    images = pictures(20)
    assert torch.equal(view(images, seeded()), view(images.contiguous(), seeded()))


@both_views
def test_the_images_are_left_alone(view):
    images = pictures(20)
    before = images.clone()
    view(images, seeded())
    assert torch.equal(images, before)


@both_views
def test_the_view_of_an_image_does_not_depend_on_the_other_images(view):
    images, others = pictures(20), pictures(20, seed=2)
    others[7] = images[7]
    assert torch.equal(view(images, seeded())[7], view(others, seeded())[7])


@both_views
@pytest.mark.parametrize("rows", [slice(1, None, 2), slice(2, None, 3), slice(4, 9), slice(7, 7)])
def test_rows_of_a_batch_get_the_views_that_they_have_in_the_whole_batch(view, rows):
    images = pictures(20)
    part = view(images[rows], seeded(), count=20, rows=rows)
    assert torch.equal(part, view(images, seeded())[rows])


@both_views
def test_rows_leave_the_generator_as_the_whole_batch_does(view):
    whole, part = seeded(), seeded()
    view(pictures(20), whole)
    view(pictures(10), part, count=20, rows=slice(1, None, 2))
    assert torch.equal(whole.get_state(), part.get_state())


@both_views
def test_other_than_the_rows_of_a_batch_are_refused(view):
    with pytest.raises(ValueError, match=r"expected 5 images, slice\(1, None, 2\) of 10, got 6"):
        view(pictures(6), seeded(), count=10, rows=slice(1, None, 2))


@both_views
def test_one_image_is_a_batch(view):
    assert view(pictures(1), seeded()).shape == (1, 3, 24, 24)


@both_views
def test_images_of_floats_are_refused(view):
    with pytest.raises(ValueError, match=r"uint8, got \(2, 3, 24, 24\) torch.float32"):
        view(pictures(2).float(), seeded())


@both_views
def test_images_with_channels_last_in_their_shape_are_refused(view):
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
        view(pictures(2).permute(0, 2, 3, 1), seeded())


@both_views
def test_the_host_never_waits_for_the_device(view):
    images = torch.empty((20, 24, 24, 3), dtype=torch.uint8, device="meta").permute(0, 3, 1, 2)
    assert view(images, seeded()).shape == images.shape  # a meta tensor has no values to wait for


@both_views
def test_the_number_of_threads_is_the_same_afterwards(view):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        view(pictures(2), seeded())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@both_views
def test_views_are_the_same_on_every_device(view):
    images = pictures(64)
    assert torch.equal(view(images.cuda(), seeded()).cpu(), view(images, seeded()))


def weak_candidates(image, padding):
    """All crops of an image and their mirror images."""
    size = image.shape[2]
    wide = F.pad(image, [padding] * 4)
    starts = range(2 * padding + 1)
    crops = [wide[:, y : y + size, x : x + size] for y in starts for x in starts]
    return torch.stack(crops + [crop.flip(2) for crop in crops])


def test_a_weak_view_is_a_crop_of_the_padded_image_or_its_mirror_image():
    images = pictures(30, size=9)
    for image, view in zip(images, weak(images, seeded(), padding=2), strict=True):
        assert (weak_candidates(image, 2) == view).flatten(1).all(1).any()


def test_weak_crops_half_of_the_images_and_mirrors_half():
    images = pictures(1, size=8).expand(4000, -1, -1, -1)
    views = weak(images, seeded(), padding=1)
    straight = (views == images).flatten(1).all(1).float().mean()
    mirrored = (views == images.flip(3)).flatten(1).all(1).float().mean()
    # a half is not cropped, of the rest one crop in nine is in the middle; a half is mirrored
    expected = (1 / 2 + 1 / 2 / 9) / 2
    assert abs(straight - expected) < 0.03
    assert abs(mirrored - expected) < 0.03


def test_all_weak_crops_are_equally_likely():
    image = pictures(1, size=8)
    views = weak(image.expand(6000, -1, -1, -1), seeded(), padding=1)
    candidates = weak_candidates(image[0], 1)
    counts = torch.stack([(views == crop).flatten(1).all(1).sum() for crop in candidates])
    moved = torch.cat((counts[:4], counts[5:9], counts[9:13], counts[14:]))  # not the middle
    torch.testing.assert_close(
        moved.double(), torch.full((16,), 6000 / 36).double(), rtol=0.3, atol=0
    )


@pytest.mark.parametrize(("size", "padding"), [(224, 8), (112, 4), (14, 1)])
def test_the_padding_is_8_pixels_at_224_in_proportion(size, padding):
    images = torch.full((200, 3, size, size), 255, dtype=torch.uint8)
    black = (weak(images, seeded())[:, 0] == 0).all(1).sum(1)  # black columns
    assert black.max() == padding


def test_no_padding_leaves_only_the_mirror():
    images = pictures(20)
    views = weak(images, seeded(), padding=0)
    same = (views == images).flatten(1).all(1) | (views == images.flip(3)).flatten(1).all(1)
    assert same.all()


def test_without_operations_a_strong_view_is_a_weak_one_with_a_square_cut_out():
    images = torch.full((100, 3, 30, 30), 255, dtype=torch.uint8)
    views = strong(images, seeded(), num_ops=0, padding=0)
    fill = torch.tensor([125, 123, 114], dtype=torch.uint8).view(3, 1, 1)
    filled = (views == fill).all(1)
    assert ((views == 255).all(1) | filled).all()
    assert (filled.any(1).sum(1).max(), filled.any(2).sum(1).max()) == (15, 15)


def test_cutout_has_sides_up_to_half_the_width_and_centers_everywhere():
    images = torch.full((4000, 3, 20, 20), 255, dtype=torch.uint8)
    filled = strong(images, seeded(), num_ops=0, padding=0)[:, 0] == 125
    middle = filled[:, 10, 10].float().mean()
    # a pixel in the middle is covered if the center is in a square around it: E[side^2]
    assert abs(middle - 0.5**2 / 3) < 0.015
    assert filled.any(0).all()


@pytest.fixture
def drawn(monkeypatch):
    """Number and magnitude of every operation that is drawn, in their order."""
    calls = []

    def recording(number, argument):
        def record(magnitude, height, width):
            calls.append((number, magnitude))
            return argument(magnitude, height, width)

        return record

    table = tuple(
        operation._replace(argument=recording(number, operation.argument))
        for number, operation in enumerate(OPERATIONS)
    )
    monkeypatch.setattr("leaf_fer.data.augment.OPERATIONS", table)
    return calls


@pytest.fixture
def used(monkeypatch):
    """Every kernel that runs and its arguments, (n, ...), in their order."""
    calls = []

    def recording(kernel):
        def record(rows, arguments):
            calls.append((kernel, arguments))
            return kernel(rows, arguments)

        return record

    kernels = {operation.kernel: recording(operation.kernel) for operation in OPERATIONS}
    table = tuple(operation._replace(kernel=kernels[operation.kernel]) for operation in OPERATIONS)
    monkeypatch.setattr("leaf_fer.data.augment.OPERATIONS", table)
    return calls


def test_every_image_gets_three_operations(used):
    strong(pictures(50, size=8), seeded())
    assert sum(len(arguments) for _, arguments in used) == 150


@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_all_operations_are_equally_likely_with_magnitudes_all_over_their_range(number, drawn):
    _, low, high, _ = OPERATIONS[number]
    strong(pictures(2000, size=4), seeded())
    magnitudes = torch.tensor([magnitude for other, magnitude in drawn if other == number])
    fraction = (magnitudes - low) / (high - low)
    assert abs(len(fraction) / 6000 - 1 / 14) < 0.015
    assert 0 <= fraction.min() < 0.03
    assert 0.97 < fraction.max() < 1
    assert abs(fraction.mean() - 0.5) < 0.06


def test_the_operations_and_ranges_are_those_of_the_release():
    moves = (image_ops.affine, image_ops.slide)  # their arguments say which way
    names = [
        (operation.argument if operation.kernel in moves else operation.kernel).__name__
        for operation in OPERATIONS
    ]
    ranges = {
        name: (operation.low, operation.high)
        for name, operation in zip(names, OPERATIONS, strict=True)
    }
    enhance, slope = (0.05, 0.95), (-0.3, 0.3)
    assert ranges == {
        "autocontrast": (0, 1),
        "brightness": enhance,
        "color": enhance,
        "contrast": enhance,
        "equalize": (0, 1),
        "identity": (0, 1),
        "posterize": (4, 8),
        "rotate": (-30, 30),
        "sharpness": enhance,
        "shear_x": slope,
        "shear_y": slope,
        "solarize": (0, 256),
        "translate_x": slope,
        "translate_y": slope,
    }


def test_a_strong_view_is_its_operations_one_after_the_other(used, monkeypatch):
    monkeypatch.setattr("leaf_fer.data.augment.LARGEST_CUTOUT", 0.0)
    monkeypatch.setattr("leaf_fer.data.augment._crop", lambda faces, crops: list(faces))
    image = pictures(1)
    view = strong(image, seeded(), num_ops=5)
    rows = image_ops.as_rows(image)
    for kernel, arguments in used:
        rows = kernel(rows, arguments)
    assert torch.equal(view, image_ops.as_images(rows))


def test_images_that_wait_for_the_same_kernel_share_a_call(used):
    strong(pictures(200, size=8), seeded())
    kernels = {operation.kernel for operation in OPERATIONS}
    assert len(used) <= 3 * len(kernels)


@both_views
def test_images_that_do_not_fit_into_the_cache_together_get_the_same_views(view, monkeypatch):
    images = pictures(50)
    together = view(images, seeded())
    monkeypatch.setattr("leaf_fer.data.augment.BLOCK_BYTES", 20_000)
    assert torch.equal(view(images, seeded()), together)


def test_a_processor_works_on_no_more_than_fits_into_the_cache(used, monkeypatch):
    monkeypatch.setattr("leaf_fer.data.augment.BLOCK_BYTES", 3 * 24 * 24 * 3 * 4)
    strong(pictures(50), seeded())
    assert max(len(arguments) for _, arguments in used) == 3


def test_normalize_is_that_of_torchvision():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    images = pictures(4)
    expected = tv.normalize(tv.to_dtype(images, torch.float32, scale=True), mean, std)
    torch.testing.assert_close(normalize(images, mean, std), expected, rtol=0, atol=2e-6)


def test_normalized_images_are_channels_last_in_memory():
    normal = normalize(pictures(4), [0.5] * 3, [0.5] * 3)
    assert normal.is_contiguous(memory_format=torch.channels_last)
    assert normal.dtype == torch.float32


def test_black_and_white_normalize_to_minus_one_and_one():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    expected = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    torch.testing.assert_close(normalize(images, [0.5] * 3, [0.5] * 3), expected)


def test_floats_are_not_normalized_twice():
    with pytest.raises(ValueError, match="expected images"):
        normalize(pictures(2).float(), [0.5] * 3, [0.5] * 3)
