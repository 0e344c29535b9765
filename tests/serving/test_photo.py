"""Images as phones send them, and as nobody should."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from leaf_fer.data.decode import UnreadableImage
from leaf_fer.serving.photo import MAX_SCANS, PHOTOS, read_photo, scans

from .conftest import face, post, saved

PIXELS = 1_000_000
FACE = face()


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def bomb(width, height):
    """A PNG file that says that it is large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def progressive(count, **more):
    """A JPEG file of at least ``count`` scans, of which most do nothing."""
    content = saved(FACE, "JPEG", progressive=True, **more)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * count + b"\xff\xd9"


PNG, JPEG = saved(FACE), saved(FACE, "JPEG", quality=95)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"no image", "is not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
        (PNG[:300], "is truncated"),
        (JPEG[: len(JPEG) // 2], "is truncated"),
        (PNG[:20], "is truncated"),
        (bomb(100_000, 100_000), "is 100000 x 100000 pixels; at most 1000000 pixels are opened"),
        (bomb(1001, 1000), "is 1001 x 1000 pixels; at most 1000000 pixels are opened"),
        (bomb(900, 900), "is truncated"),
        (saved(FACE, "TIFF"), "is not an image"),
        (saved(FACE, "PPM"), "is not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image"),
        (progressive(MAX_SCANS), f"is a JPEG file of more than {MAX_SCANS} scans"),
    ],
)
def test_what_is_wrong_is_said(content, reason):
    with pytest.raises(UnreadableImage) as found:
        read_photo(content, PIXELS)
    said = str(found.value)
    assert ("is truncated" if said.startswith("is damaged (") else said) == reason


def test_a_bomb_is_refused_before_any_pixel_is_decoded(monkeypatch):
    def load(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(UnreadableImage, match="pixels are opened"):
        read_photo(bomb(1001, 1000), PIXELS)


def test_damage_anywhere_is_never_more_than_a_refusal(client):
    random = np.random.default_rng(0)
    statuses = set()
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        whole = np.frombuffer(saved(FACE, kind), np.uint8)
        for _ in range(12):
            broken = whole.copy()
            places = random.integers(0, len(whole), 5)
            broken[places] = random.integers(0, 256, 5)
            end = len(whole) if random.random() < 0.5 else random.integers(1, len(whole))
            statuses.add(post(client, broken[:end].tobytes()).status_code)
    assert statuses == {200, 422}


@pytest.mark.parametrize("kind", PHOTOS)
def test_photos_of_every_format_are_read(kind):
    found = read_photo(saved(FACE, kind), PIXELS)
    assert np.abs(found.astype(int) - FACE).mean() < 20


def test_turned_photos_are_upright():
    about = Image.Exif()
    about[0x0112] = 6
    turned = np.ascontiguousarray(np.rot90(FACE))
    np.testing.assert_array_equal(read_photo(saved(turned, exif=about), PIXELS), FACE)


def test_of_an_animation_the_first_picture_counts():
    frames = [Image.fromarray(face(number)) for number in range(3)]
    for kind in ("PNG", "WEBP"):
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_array_equal(read_photo(content, PIXELS), FACE)


def test_other_colors_are_understood():
    gray = FACE.mean(axis=2)
    deep = Image.fromarray((gray * 257).astype(np.uint16))
    assert np.abs(read_photo(saved(deep), PIXELS)[..., 0] - gray).max() < 2
    printed = saved(Image.fromarray(FACE).convert("CMYK"), "JPEG", quality=95)
    assert np.abs(read_photo(printed, PIXELS).astype(int) - FACE).mean() < 10
    clear = Image.fromarray(np.dstack([FACE, np.zeros_like(FACE[..., :1])]))
    assert read_photo(saved(clear), PIXELS).max() == 0


def test_scans_are_counted_as_decoders_see_them():
    assert scans(JPEG) == 1
    ordinary = progressive(0)
    assert 5 < scans(ordinary) < 20
    assert scans(progressive(20)) == scans(ordinary) + 20
    inside = io.BytesIO()  # what a comment holds, and what follows the picture, is no scan
    Image.fromarray(FACE).save(inside, "JPEG", comment=b"\xff\xda" * 200)
    assert scans(inside.getvalue() + b"\xff\xda" * 200) == 1
    read_photo(inside.getvalue() + b"\xff\xda" * 200, PIXELS)
    assert scans(b"\xff\xd8" + b"\xff" * 1000) == 0
