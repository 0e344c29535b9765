import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as tv

from leaf_fer.data import image_ops

AFFINE = Image.Transform.AFFINE


def shear_x(image, slope):
    return image.transform(image.size, AFFINE, (1, slope, 0, 0, 1, 0))


def shear_y(image, slope):
    return image.transform(image.size, AFFINE, (1, 0, 0, slope, 1, 0))


def translate_x(image, fraction):
    return image.transform(image.size, AFFINE, (1, 0, fraction * image.width, 0, 1, 0))


def translate_y(image, fraction):
    return image.transform(image.size, AFFINE, (1, 0, 0, 0, 1, fraction * image.height))


# name -> the same in Pillow, and the range of magnitudes
PILLOW = {
    "autocontrast": (lambda image, _: ImageOps.autocontrast(image), 0, 1),
    "brightness": (lambda image, v: ImageEnhance.Brightness(image).enhance(v), 0, 1),
    "color": (lambda image, v: ImageEnhance.Color(image).enhance(v), 0, 1),
    "contrast": (lambda image, v: ImageEnhance.Contrast(image).enhance(v), 0, 1),
    "equalize": (lambda image, _: ImageOps.equalize(image), 0, 1),
    "identity": (lambda image, _: image, 0, 1),
    "posterize": (lambda image, v: ImageOps.posterize(image, int(v)), 1, 8),
    "rotate": (lambda image, v: image.rotate(v), -30, 30),
    "sharpness": (lambda image, v: ImageEnhance.Sharpness(image).enhance(v), 0, 1),
    "shear_x": (shear_x, -0.3, 0.3),
    "shear_y": (shear_y, -0.3, 0.3),
    "solarize": (lambda image, v: ImageOps.solarize(image, v), 0, 256),
    "translate_x": (translate_x, -0.3, 0.3),
    "translate_y": (translate_y, -0.3, 0.3),
}


# name -> kernel whose arguments it makes; the others are kernels and take magnitudes
MOVES = {
    "rotate": image_ops.affine,
    "shear_x": image_ops.slide,
    "shear_y": image_ops.affine,
    "translate_x": image_ops.slide,
    "translate_y": image_ops.slide,
}


def operate(name, images, magnitude):
    """An operation on images (n, 3, H, W) with magnitudes (n,)."""
    function, arguments = getattr(image_ops, name), magnitude
    if name in MOVES:
        matrices = [function(value, *images.shape[2:]) for value in magnitude.tolist()]
        function, arguments = MOVES[name], torch.tensor(matrices, dtype=torch.float64)
    return image_ops.as_images(function(image_ops.as_rows(images), arguments))


def noise(generator, size):
    return torch.rand(8, 3, size, size, generator=generator)


def soft(generator, size):
    """Smooth, of low contrast and tinted, as photographs are."""
    coarse = torch.rand(8, 3, 4, 4, generator=generator) * 0.6
    tint = torch.rand(8, 3, 1, 1, generator=generator) * 0.4
    return F.interpolate(coarse, size=(size, size), mode="bilinear") + tint


def structured(generator, size):
    """Constants, ramps, stripes, a checkerboard, dots and two-colored images."""
    x = torch.arange(size).expand(size, size)
    dots = (torch.rand(size, size, generator=generator) < 0.02).float()
    plain = (
        torch.zeros(size, size),
        torch.ones(size, size),
        torch.full((size, size), 0.5),
        x / size,
        x.T / size,
        (x % 2).float(),
        ((x + x.T) % 2 * 0.01) + 0.4,
        dots,
    )
    tint = torch.tensor([1.0, 0.7, 0.1]).view(3, 1, 1)
    return torch.stack([image * tint for image in plain])


def to_bytes(images):
    return (images * 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [5, 48, 101])
@pytest.mark.parametrize("picture", [noise, soft, structured])
@pytest.mark.parametrize("name", PILLOW)
def test_every_operation_gives_the_pixels_of_pillow(name, picture, size):
    generator = torch.Generator().manual_seed(size)
    oracle, low, high = PILLOW[name]
    images = to_bytes(picture(generator, size))
    fraction = torch.rand(len(images), generator=generator, dtype=torch.float64)
    fraction[:2] = torch.tensor([0.0, 1.0])
    magnitude = low + (high - low) * fraction
    actual = operate(name, images, magnitude)
    arrays = images.permute(0, 2, 3, 1).numpy()
    expected = [
        np.asarray(oracle(Image.fromarray(array), value))
        for array, value in zip(arrays, magnitude.tolist(), strict=True)
    ]
    np.testing.assert_array_equal(actual.permute(0, 2, 3, 1).numpy(), np.stack(expected))


@pytest.mark.parametrize("name", PILLOW)
def test_every_operation_gives_the_pixels_of_pillow_on_oblong_images(name):
    generator = torch.Generator().manual_seed(0)
    oracle, low, high = PILLOW[name]
    images = to_bytes(soft(generator, 40))[:, :, :23].contiguous(memory_format=torch.channels_last)
    magnitude = low + (high - low) * torch.rand(8, generator=generator, dtype=torch.float64)
    actual = operate(name, images, magnitude)
    for face, value, result in zip(images, magnitude.tolist(), actual, strict=True):
        expected = np.asarray(oracle(Image.fromarray(face.permute(1, 2, 0).numpy()), value))
        np.testing.assert_array_equal(result.permute(1, 2, 0).numpy(), expected)


def shift(image, x, y):
    return tv.affine(image, 0.0, [x, y], 1.0, [0.0, 0.0])


def shear(image, x, y):
    angles = [math.degrees(math.atan(slope)) for slope in (x, y)]
    return tv.affine(image, 0.0, [0, 0], 1.0, angles, center=[0.0, 0.0])


# name -> the same in torchvision, magnitudes, largest difference in gray levels of one pixel
TORCHVISION = {
    "autocontrast": (lambda images, _: tv.autocontrast(images), [0.0], 1),
    "brightness": (tv.adjust_brightness, [0.05, 0.3, 0.95], 0),
    "color": (tv.adjust_saturation, [0.05, 0.3, 0.95], 1),
    "contrast": (tv.adjust_contrast, [0.05, 0.3, 0.95], 1),
    "equalize": (lambda images, _: tv.equalize(images), [0.0], 0),
    "posterize": (lambda images, v: tv.posterize(images, int(v)), [4.0, 5.9, 7.2, 8.0], 0),
    "sharpness": (tv.adjust_sharpness, [0.05, 0.3, 0.95], 0),
    "solarize": (tv.solarize, [1.0, 100.0, 128.0, 255.0], 0),
}
GEOMETRY = {
    "rotate": (tv.rotate, [-30.0, -11.0, 7.0, 25.0]),
    "shear_x": (lambda images, v: shear(images, v, 0.0), [-0.3, 0.17]),
    "shear_y": (lambda images, v: shear(images, 0.0, v), [-0.3, 0.17]),
    "translate_x": (lambda images, v: shift(images, -round(v * 64), 0), [-0.25, 0.125]),
    "translate_y": (lambda images, v: shift(images, 0, -round(v * 64)), [-0.25, 0.125]),
}


@pytest.mark.parametrize("picture", [noise, soft])
@pytest.mark.parametrize("name", TORCHVISION)
def test_operations_on_colors_are_those_of_torchvision_up_to_its_rounding(name, picture):
    oracle, magnitudes, tolerance = TORCHVISION[name]
    images = to_bytes(picture(torch.Generator().manual_seed(0), 64))
    for value in magnitudes:
        actual = operate(name, images, torch.full((8,), value, dtype=torch.float64))
        assert (actual.int() - oracle(images, value).int()).abs().max() <= tolerance


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometric_operations_are_those_of_torchvision_but_for_one_pixel_in_200(name):
    oracle, magnitudes = GEOMETRY[name]
    images = to_bytes(noise(torch.Generator().manual_seed(0), 64))
    for value in magnitudes:
        actual = operate(name, images, torch.full((8,), value, dtype=torch.float64))
        assert (actual != oracle(images, value)).float().mean() < 0.005


def case(name):
    """Eight images and magnitudes within the range of an operation."""
    _, low, high = PILLOW[name]
    generator = torch.Generator().manual_seed(0)
    fraction = torch.rand(8, generator=generator, dtype=torch.float64)
    return to_bytes(noise(generator, 16)), low + (high - low) * fraction


@pytest.mark.parametrize("name", PILLOW)
def test_every_operation_leaves_its_input_alone(name):
    images, magnitude = case(name)
    before = images.clone()
    operate(name, images, magnitude)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", PILLOW)
def test_images_together_become_what_each_becomes_alone(name):
    images, magnitude = case(name)
    alone = [operate(name, images[i : i + 1], magnitude[i : i + 1]) for i in range(8)]
    assert torch.equal(operate(name, images, magnitude), torch.cat(alone))


@pytest.mark.parametrize("name", PILLOW)
def test_the_memory_of_the_input_does_not_matter(name):
    images, magnitude = case(name)
    expected = operate(name, images, magnitude)
    assert torch.equal(operate(name, images.contiguous(), magnitude), expected)
    apart = images.repeat_interleave(2, dim=0).contiguous(memory_format=torch.channels_last)
    assert torch.equal(operate(name, apart[::2], magnitude), expected)


@pytest.mark.parametrize("name", sorted(PILLOW.keys() - {"identity"}))
def test_results_are_channels_last_in_memory(name):
    images, magnitude = case(name)
    result = operate(name, images.contiguous(), magnitude)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_sliding_is_an_affine_map():
    rows = image_ops.as_rows(to_bytes(noise(torch.Generator().manual_seed(0), 16)))
    slides = (image_ops.shear_x, image_ops.translate_x, image_ops.translate_y)
    matrices = [function(value, 16, 16) for value in (-2.0, -0.3, 0.2) for function in slides]
    matrices = torch.tensor(matrices[:8], dtype=torch.float64)
    assert torch.equal(image_ops.slide(rows, matrices), image_ops.affine(rows, matrices))


def test_rows_moved_out_of_the_image_are_black():
    rows = torch.full((1, 4, 4 * 3), 7, dtype=torch.uint8)
    row = torch.tensor([[-100, 0, 3, 4]])
    moved = image_ops.move_rows(rows, row, torch.tensor([[0, 100, -100, 0]]))
    assert not moved.any()


def test_rows_move_by_their_own_column():
    images = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).repeat(1, 3, 1, 1)
    rows, row, column = image_ops.as_rows(images), [[2, 0, 0]], [[0, 1, -2]]
    moved = image_ops.move_rows(rows, torch.tensor(row), torch.tensor(column))
    expected = torch.tensor([[7, 8, 9], [2, 3, 0], [0, 0, 1]], dtype=torch.uint8)
    assert torch.equal(image_ops.as_images(moved), expected.expand(1, 3, 3, 3))


def cut(side, x, y, size=20):
    """A white image with a square cut out."""
    rows = torch.full((1, size, size * 3), 255, dtype=torch.uint8)
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (side, x, y))
    return image_ops.as_images(image_ops.cutout(rows, *numbers))[0]


def test_cutout_fills_a_square_around_its_center():
    face = cut(0.4, 0.5, 0.25)
    expected = torch.full((3, 20, 20), 255, dtype=torch.uint8)
    expected[:, 1:9, 6:14] = torch.tensor([125, 123, 114], dtype=torch.uint8).view(3, 1, 1)
    assert torch.equal(face, expected)


def test_cutout_is_clipped_at_the_borders():
    filled = cut(0.4, 0.0, 1.0)[0] == 125
    assert filled[16:, :4].all()
    assert filled.sum() == 16


def test_cutout_of_no_side_changes_nothing():
    assert (cut(0.0, 0.51, 0.49) == 255).all()
