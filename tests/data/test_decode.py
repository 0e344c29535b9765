import os
import struct
import threading
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from leaf_fer.data import decode as module
from leaf_fer.data.decode import (
    UnreadableImage,
    align,
    crop,
    cut,
    decode,
    fingerprint,
    resize,
)


def noise(height: int = 12, width: int = 10, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def gradient(size: int) -> np.ndarray:
    """Red tells the column, green the row."""
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    image = np.zeros((size, size, 3), dtype=np.uint8)
    image[..., 0], image[..., 1] = ramp[None, :], ramp[:, None]
    return image


def saved(path: Path, pixels: np.ndarray | Image.Image, **options: object) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + body + struct.pack(">I", 4) + b"IDAT" + b"\0" * 64


def reason(path: Path, **options: int) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(path, **options)
    assert str(path) not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_decode_returns_the_pixels_of_a_lossless_file(tmp_path, suffix):
    image = decode(saved(tmp_path / f"face.{suffix}", noise()))
    np.testing.assert_array_equal(image, noise())


@pytest.mark.parametrize("format_", ["JPEG", "WEBP", "JPEG2000", "GIF"])
def test_decode_opens_a_file_whose_extension_is_wrong(tmp_path, format_):
    path = saved(tmp_path / "face.png", noise(), format=format_)
    assert decode(path).shape == (12, 10, 3)


def test_decoded_pixels_can_be_written_to(tmp_path):
    assert decode(saved(tmp_path / "face.png", noise())).flags.writeable


def test_decode_opens_an_image_of_one_pixel(tmp_path):
    assert decode(saved(tmp_path / "face.png", noise(1, 1))).shape == (1, 1, 3)


def test_gray_becomes_three_equal_channels(tmp_path):
    image = decode(saved(tmp_path / "face.png", noise(channels=1)))
    np.testing.assert_array_equal(image, np.stack([noise(channels=1)] * 3, axis=2))


def test_black_and_white_becomes_0_and_255(tmp_path):
    image = decode(saved(tmp_path / "face.png", Image.fromarray(noise()).convert("1")))
    assert set(np.unique(image)) == {0, 255}


def test_cmyk_becomes_rgb(tmp_path):
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image = decode(saved(tmp_path / "face.jpg", red, quality=95))
    np.testing.assert_allclose(image.mean(axis=(0, 1)), [255, 0, 0], atol=4)


def test_gray_of_16_bits_keeps_its_upper_8(tmp_path):
    gray = (noise(channels=1).astype(np.uint16) << 8) + 77
    image = decode(saved(tmp_path / "face.png", gray))
    np.testing.assert_array_equal(image[..., 1], noise(channels=1))


def test_big_endian_gray_of_16_bits_keeps_its_upper_8(tmp_path):
    pixels = Image.frombytes("I;16B", (2, 1), b"\x12\x34\xff\xff")
    image = decode(saved(tmp_path / "face.tif", pixels))
    assert image[0, :, 0].tolist() == [0x12, 0xFF]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 100, 255], [0, 100, 255]),
        ([0, 257, 65535], [0, 1, 255]),
        ([-100, -20, 100], [0, 102, 255]),
        ([0, 40000, 200000], [0, 51, 255]),
        ([70000, 70000, 70000], [0, 0, 0]),
    ],
)
def test_wide_integers_are_scaled_by_the_smallest_range_that_holds_them(tmp_path, values, expected):
    image = decode(saved(tmp_path / "face.tif", np.array([values], dtype=np.int32)))
    assert image[0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.2, 1.0], [0, 51, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        ([-1.0, -0.6, 1.0], [0, 51, 255]),
        ([np.nan, np.inf, 1.0], [0, 0, 255]),
    ],
)
def test_floats_are_scaled_by_the_smallest_range_that_holds_them(tmp_path, values, expected):
    image = decode(saved(tmp_path / "face.tif", np.array([values], dtype=np.float32)))
    assert image[0, :, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_becomes_black(tmp_path, mode):
    pixels = np.full((4, 4, 4), 255, dtype=np.uint8)
    pixels[:2, :, 3] = 0
    image = decode(saved(tmp_path / "face.png", Image.fromarray(pixels).convert(mode)))
    assert image[:2].max() == 0
    assert image[2:].min() == 255


def test_half_transparent_white_over_black_is_gray(tmp_path):
    image = decode(saved(tmp_path / "face.png", np.full((2, 2, 4), [255, 255, 255, 128], np.uint8)))
    np.testing.assert_array_equal(image, 128)


def test_a_transparent_color_of_a_gray_file_becomes_black(tmp_path):
    path = saved(tmp_path / "face.png", np.array([[200, 90]], np.uint8), transparency=200)
    assert decode(path)[0, :, 0].tolist() == [0, 90]


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(tmp_path, format_):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    path = saved(tmp_path / "face", first, format=format_, save_all=True, append_images=[second])
    np.testing.assert_allclose(decode(path).mean(axis=(0, 1)), [255, 0, 0], atol=4)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_exif_tells(tmp_path, suffix, orientation):
    upright = gradient(16)[:, :12]
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[module.ORIENTATION] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(tmp_path / f"face.{suffix}", np.ascontiguousarray(turned), exif=exif, **options)
    np.testing.assert_array_equal(decode(path), upright)


def test_damaged_exif_data_do_not_hide_an_image(tmp_path):
    path = saved(tmp_path / "face.jpg", noise(), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12")
    assert decode(path).shape == (12, 10, 3)


def test_a_missing_file_is_unreadable(tmp_path):
    assert reason(tmp_path / "face.png") == "does not exist"


def test_a_folder_is_unreadable(tmp_path):
    assert reason(tmp_path) == "is not a file"


def test_a_pipe_is_unreadable_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "face.png")
    assert reason(tmp_path / "face.png") == "is not a file"


def test_an_empty_file_is_unreadable(tmp_path):
    (tmp_path / "face.png").touch()
    assert reason(tmp_path / "face.png") == "is empty"


def test_an_impossible_name_is_unreadable(tmp_path):
    assert reason(tmp_path / ("x" * 5000)).startswith("cannot be opened")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path):
    path = saved(tmp_path / "face.png", noise())
    path.chmod(0)
    assert reason(path).startswith("cannot be opened")


@pytest.mark.parametrize(
    "content", [b"neutral,happy\n", bytes(range(256)) * 40, b"%!PS-Adobe-3.0 "]
)
def test_what_is_no_image_is_unreadable(tmp_path, content):
    (tmp_path / "face.png").write_bytes(content)
    assert reason(tmp_path / "face.png") == "is not an image"


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_half_a_file_is_truncated(tmp_path, format_):
    path = saved(tmp_path / "face", noise(40, 40), format=format_)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path) == "is truncated"


@pytest.mark.parametrize(
    "format_", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "PPM", "WEBP", "JPEG2000"]
)
def test_a_file_damaged_anywhere_is_decoded_or_unreadable(tmp_path, format_):
    path = saved(tmp_path / "face", noise(40, 40), format=format_)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, min(len(damaged), 200), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with suppress(UnreadableImage):
            assert decode(path, max_pixels=10**6).dtype == np.uint8


def test_a_decompression_bomb_is_unreadable_by_its_size(tmp_path):
    (tmp_path / "face.png").write_bytes(png_header(30_000, 30_000))
    expected = "is 30000 x 30000 pixels; at most 100000000 pixels are opened"
    assert reason(tmp_path / "face.png") == expected


def test_the_limit_of_pixels_is_an_option(tmp_path):
    path = saved(tmp_path / "face.png", noise(10, 10))
    assert decode(path, max_pixels=100).shape == (10, 10, 3)
    assert reason(path, max_pixels=99).startswith("is 10 x 10 pixels")


def test_a_large_image_within_the_limit_gives_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(saved(tmp_path / "face.png", noise())).shape == (12, 10, 3)


def test_truncated_files_stay_unreadable_where_pillow_is_told_to_accept_them(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = saved(tmp_path / "face.jpg", noise(40, 40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path) == "is truncated"


def test_decoding_leaves_the_settings_of_pillow_and_of_warnings_alone(tmp_path):
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    path = saved(tmp_path / "face.png", noise())
    threads = [threading.Thread(target=lambda: [decode(path) for _ in range(20)]) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_equal_pixels_have_one_fingerprint_whatever_the_format(tmp_path):
    png = decode(saved(tmp_path / "face.png", noise()))
    bmp = decode(saved(tmp_path / "face.bmp", noise()))
    np.testing.assert_array_equal(fingerprint(png), fingerprint(bmp))


def test_one_different_value_gives_another_fingerprint():
    other = noise()
    other[3, 4, 1] ^= 1
    assert (fingerprint(noise()) != fingerprint(other)).any()


def test_the_fingerprint_depends_on_the_shape():
    image = np.zeros((4, 6, 3), dtype=np.uint8)
    assert (fingerprint(image) != fingerprint(image.reshape(6, 4, 3))).any()


def test_resize_squeezes_to_a_square():
    assert resize(noise(12, 7), 5).shape == (5, 5, 3)


def test_resize_to_the_same_size_changes_nothing():
    np.testing.assert_array_equal(resize(noise(8, 8), 8), noise(8, 8))


def test_resize_averages_what_it_shrinks():
    board = np.zeros((64, 64, 3), dtype=np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    np.testing.assert_allclose(resize(board, 8), 128, atol=1)


def test_crop_returns_the_pixels_inside_the_box():
    box = np.array([2, 3, 6, 9], dtype=np.float32)
    np.testing.assert_array_equal(crop(noise(), box), noise()[3:9, 2:6])


def test_crop_clips_a_box_that_reaches_beyond_the_image():
    box = np.array([-5, -5, 500, 4], dtype=np.float32)
    np.testing.assert_array_equal(crop(noise(), box), noise()[:4])


@pytest.mark.parametrize("box", [[4, 4, 4, 8], [8, 2, 3, 5], [50, 50, 60, 60], [-9, 0, -1, 5]])
def test_crop_without_a_pixel_is_unreadable(box):
    with pytest.raises(UnreadableImage, match="none inside its box"):
        crop(noise(), np.array(box, dtype=np.float32))


def template(size: int) -> np.ndarray:
    alignment = pytest.importorskip("leaf_fer.data.alignment")
    return (alignment.TEMPLATE * size / alignment.SIZE).astype(np.float32)


def test_align_leaves_a_face_that_is_in_place():
    np.testing.assert_allclose(align(gradient(112), template(112), 112), gradient(112), atol=1)


def test_align_moves_a_face_into_place():
    wide = np.zeros((150, 160, 3), dtype=np.uint8)
    wide[20:132, 30:142] = gradient(112)
    aligned = align(wide, template(112) + np.float32([30, 20]), 112)
    np.testing.assert_allclose(aligned, gradient(112), atol=1)


def test_align_turns_a_face_upright():
    points = np.stack([111 - template(112)[:, 1], template(112)[:, 0]], axis=1)
    aligned = align(np.ascontiguousarray(np.rot90(gradient(112), -1)), points, 112)
    np.testing.assert_allclose(aligned, gradient(112), atol=1)


def test_align_averages_what_it_shrinks():
    board = np.zeros((448, 448, 3), dtype=np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    inner = align(board, template(448), 112)[8:-8, 8:-8]
    np.testing.assert_allclose(inner, 128, atol=2)


def test_a_large_face_is_aligned_where_a_small_one_is():
    small, large = gradient(112), resize(gradient(112), 448)
    aligned = align(large, template(112) * 4 + 1.5, 112)
    np.testing.assert_allclose(aligned[4:-4, 4:-4], small[4:-4, 4:-4], atol=4)


def test_points_that_coincide_are_unreadable():
    with pytest.raises(UnreadableImage, match="points"):
        align(noise(), np.full((5, 2), 4, dtype=np.float32), 8)


def test_cut_prefers_points_to_a_box():
    box = np.array([0, 0, 4, 4], dtype=np.float32)
    face = cut(gradient(112), 112, box, template(112))
    np.testing.assert_allclose(face, gradient(112), atol=1)


def test_cut_without_known_points_uses_the_box():
    box, unknown = np.array([2, 3, 6, 7], np.float32), np.full((5, 2), np.nan, np.float32)
    np.testing.assert_array_equal(cut(noise(), 4, box, unknown), noise()[3:7, 2:6])


def test_cut_without_a_known_box_uses_the_whole_image():
    unknown = np.full(4, np.nan, dtype=np.float32)
    np.testing.assert_array_equal(cut(noise(), 6, unknown), resize(noise(), 6))
