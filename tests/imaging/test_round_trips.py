"""What goes in comes out: pixels, depth, alpha, greyness, profile, EXIF, XMP, DPI."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from unblur.imaging import (
    ImageError,
    Metadata,
    Photo,
    comparison,
    encode_photo,
    parse_format,
    probe_size,
    read_photo,
    write_photo,
)
from unblur.imaging.exif import Entry, read_directory
from unblur.imaging.metadata import metadata_of

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<?xpacket begin=""?><x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF '
    b'xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d" tiff:Make="Test"/>'
    b'</r:RDF></x:xmpmeta><?xpacket end="w"?>'
)
MAKE, EXPOSURE, LATITUDE = 0x010F, 0x829A, 2
EIGHT_BIT = ["jpg", "png", "tif", "webp", "avif", "bmp"]


def exif(orientation: int = 1, size: tuple[int, int] | None = None) -> Image.Exif:
    tags = Image.Exif()
    tags[MAKE] = "Testcam"
    tags[0x0112] = orientation
    details = tags.get_ifd(0x8769)
    details[EXPOSURE] = 0.125
    if size:
        details[0xA002], details[0xA003] = size
    tags.get_ifd(0x8825)[LATITUDE] = (52.0, 30.0, 0.0)
    return tags


def tags_of(photo: Photo) -> Image.Exif:
    tags = Image.Exif()
    tags.load(photo.metadata.exif)
    return tags


def saved(image: Image.Image, extension: str, orientation: int = 1) -> bytes:
    """A file with every kind of metadata that Pillow can write to the format."""
    options: dict = {"icc_profile": SRGB, "dpi": (300, 300)}
    if extension == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", (XMP % orientation).decode())
    elif extension == "tif":
        tags = exif(orientation, image.size)
        options["tiffinfo"] = {
            **dict(tags),
            0x8769: dict(tags.get_ifd(0x8769)),
            0x8825: dict(tags.get_ifd(0x8825)),
            700: XMP % orientation,
        }
    elif extension != "bmp":
        options["xmp"] = XMP % orientation
    if extension not in ("bmp", "tif"):
        options["exif"] = exif(orientation, image.size)
    buffer = io.BytesIO()
    image.save(buffer, parse_format(extension).name, **options)
    return buffer.getvalue()


def xmp_of(image: Image.Image) -> bytes:
    value = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if value is None and image.format == "TIFF":
        value = image.tag_v2.get(700)
    return value.encode() if isinstance(value, str) else bytes(value or b"")


@pytest.mark.parametrize("extension", EIGHT_BIT)
def test_metadata_and_size_survive(scene: np.ndarray, extension: str) -> None:
    source = Image.fromarray(scene[100:260, 200:500])
    photo = read_photo(saved(source, extension))
    assert photo.pixels.shape == (160, 300, 3)
    again = Image.open(io.BytesIO(encode_photo(photo)))
    assert (again.format, again.size, again.mode) == (photo.format, source.size, "RGB")
    if extension == "bmp":
        assert again.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        return
    assert again.info["icc_profile"] == SRGB
    tags = again.getexif()
    assert tags[MAKE] == "Testcam"
    assert float(tags.get_ifd(0x8769)[EXPOSURE]) == 0.125
    assert tuple(map(float, tags.get_ifd(0x8825)[LATITUDE])) == (52.0, 30.0, 0.0)
    assert b'tiff:Make="Test"' in xmp_of(again)
    if extension in ("jpg", "png", "tif"):
        assert again.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("extension", ["png", "tif", "bmp"])
def test_lossless_formats_keep_every_pixel(scene: np.ndarray, extension: str) -> None:
    photo = Photo(scene[:50, :70], format=parse_format(extension).name)
    assert np.array_equal(read_photo(encode_photo(photo)).pixels, scene[:50, :70])


def test_webp_of_quality_100_is_lossless(scene: np.ndarray) -> None:
    photo = Photo(scene[:50, :70], format="WEBP")
    assert np.array_equal(read_photo(encode_photo(photo, quality=100)).pixels, photo.pixels)


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(extension: str, orientation: int) -> None:
    upright = np.zeros((24, 40, 3), np.uint8)
    upright[:12, :20] = (250, 0, 0)
    upright[:12, 20:] = (0, 250, 0)
    upright[12:, :20] = (0, 0, 250)
    # What the sensor stored, so that the orientation tag turns it upright.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(upright)
    stored = image if orientation == 1 else image.transpose(undo[orientation])
    photo = read_photo(saved(stored, extension, orientation))
    assert photo.pixels.shape == upright.shape
    for y, x in ((4, 4), (4, 36), (20, 4), (20, 36)):
        assert np.abs(photo.pixels[y, x].astype(int) - upright[y, x]).max() < 40
    again = Image.open(io.BytesIO(encode_photo(photo)))
    tags = again.getexif()
    assert tags.get(0x0112, 1) == 1
    if extension != "avif":  # libavif stores orientation outside EXIF
        assert tags[MAKE] == "Testcam"
    details = tags.get_ifd(0x8769)
    assert (details[0xA002], details[0xA003]) == (40, 24)
    if orientation != 1:
        xmp = xmp_of(again)
        assert b'tiff:Orientation="1"' in xmp or b"tiff:Orientation" not in xmp


def sixteen_bit_file(array: np.ndarray, extension: str) -> bytes:
    grey = array.ndim == 2 or array.shape[2] == 2
    image = pyvips.Image.new_from_array(array, interpretation="grey16" if grey else "rgb16")
    image = image.copy(xres=300 / 25.4, yres=300 / 25.4)
    if not grey:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", SRGB)
    image.set_type(pyvips.GValue.blob_type, "xmp-data", XMP % 1)
    return image.pngsave_buffer() if extension == "png" else image.tiffsave_buffer()


@pytest.mark.parametrize(
    ("extension", "channels"),
    # Pillow knows no TIFF of two channels.
    [("png", 0), ("png", 2), ("png", 3), ("png", 4), ("tif", 0), ("tif", 3), ("tif", 4)],
)
@settings(max_examples=8, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
def test_sixteen_bits_are_kept(
    extension: str, channels: int, height: int, width: int, seed: int
) -> None:
    shape = (height, width, channels) if channels else (height, width)
    array = np.random.default_rng(seed).integers(0, 65536, shape, np.uint16)
    photo = read_photo(sixteen_bit_file(array, extension))
    assert photo.pixels.dtype == np.uint16
    assert photo.is_grey == (channels in (0, 2))
    assert (photo.alpha is not None) == (channels in (2, 4))
    again = read_photo(encode_photo(photo))
    for read in (photo, again):
        colours = array if channels == 0 else array[..., 0] if channels == 2 else array[..., :3]
        assert np.array_equal(read.pixels, colours)
        if read.alpha is not None:
            assert np.array_equal(read.alpha, array[..., -1])
        assert read.metadata.icc_profile == (None if photo.is_grey else SRGB)
        assert read.metadata.xmp is not None
        assert b"Testcam" in read.metadata.xmp or b'Make="Test"' in read.metadata.xmp
        assert read.metadata.dpi == pytest.approx((300, 300), abs=0.5)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_exif_of_sixteen_bit_files_is_kept(scene: np.ndarray, extension: str) -> None:
    from dataclasses import replace

    wide = scene[:30, :40].astype(np.uint16) * 257
    metadata = Metadata(exif=exif().tobytes(), icc_profile=SRGB)
    photo = Photo(wide, format=parse_format(extension).name, metadata=metadata)
    again = read_photo(encode_photo(photo))
    assert np.array_equal(again.pixels, wide)
    assert again.metadata.icc_profile == SRGB
    tags = tags_of(again)
    assert tags[MAKE] == "Testcam"
    assert float(tags.get_ifd(0x8769)[EXPOSURE]) == 0.125
    # And once more, since a second pass must not lose what the first kept.
    third = read_photo(encode_photo(replace(again, pixels=wide)))
    assert float(tags_of(third).get_ifd(0x8769)[EXPOSURE]) == 0.125


@pytest.mark.parametrize("wide", [False, True])
def test_the_gamma_of_a_png_is_kept(scene: np.ndarray, wide: bool) -> None:
    part = scene[:30, :40].astype(np.uint16) * 257 if wide else scene[:30, :40]
    source = encode_photo(Photo(part, format="PNG", metadata=Metadata(gamma=1.0, dpi=(300, 300))))
    again = encode_photo(read_photo(source))
    for data in (source, again):
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.info["gamma"] == 1.0
        assert data.index(b"gAMA") < data.index(b"IDAT")
        assert np.array_equal(read_photo(data).pixels, part)
    with_profile = Metadata(gamma=None, icc_profile=SRGB)
    assert b"gAMA" not in encode_photo(Photo(part, format="PNG", metadata=with_profile))


def chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def png_saying(part: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks behind its header."""
    data = encode_photo(Photo(part, format="PNG"))
    return data[:33] + b"".join(chunk(*each) for each in chunks) + data[33:]


@pytest.mark.parametrize("wide", [False, True])
def test_the_colours_that_a_png_names_are_kept(scene: np.ndarray, wide: bool) -> None:
    part = scene[:30, :40].astype(np.uint16) * 257 if wide else scene[:30, :40]
    p3 = (b"cICP", bytes([12, 13, 0, 1]))
    primaries = (b"cHRM", struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000))
    made = encode_photo(read_photo(png_saying(part, p3, primaries)))
    for each in (p3, primaries):
        assert 0 < made.index(chunk(*each)) < made.index(b"IDAT")
    assert np.array_equal(read_photo(made).pixels, part)
    assert b"cICP" not in encode_photo(
        read_photo(png_saying(part, (b"cICP", bytes([1, 13, 0, 1]))))
    )


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("format_", ["PNG", "AVIF", "HEIF"])
def test_hdr_is_refused(scene: np.ndarray, format_: str, transfer: int, name: str) -> None:
    if format_ == "PNG":
        data = png_saying(scene[:30, :40], (b"cICP", bytes([9, transfer, 0, 1])))
    else:
        data = named_by_nclx(scene, format_, 9, transfer)
    with pytest.raises(ImageError, match=rf"is HDR \({name}\).*convert it to SDR"):
        read_photo(data)


def named_by_nclx(scene: np.ndarray, format_: str, primaries: int, transfer: int) -> bytes:
    if format_ == "HEIF":
        pytest.importorskip("pillow_heif")
    data = encode_photo(Photo(scene[:64, :64], format=format_))
    before, found, behind = data.partition(b"colrnclx")
    assert found
    return before + found + struct.pack(">HH", primaries, transfer) + behind[4:]


def test_the_colours_that_a_heic_names_are_kept(scene: np.ndarray) -> None:
    photo = read_photo(named_by_nclx(scene, "HEIF", 12, 13))
    assert photo.metadata.cicp == (12, 13)
    assert read_photo(encode_photo(photo)).metadata.cicp == (12, 13)


def test_the_colours_that_an_avif_names_are_kept(scene: np.ndarray) -> None:
    photo = read_photo(named_by_nclx(scene, "AVIF", 12, 13))
    assert read_photo(encode_photo(photo)).metadata.cicp == (12, 13)


@pytest.mark.parametrize("extension", ["jpg", "tif", "webp"])
def test_formats_that_name_no_colours_have_a_profile_of_them(
    scene: np.ndarray, extension: str
) -> None:
    """Display P3 stays what it is: a colour management shows the same through the profile."""
    photo = read_photo(named_by_nclx(scene, "AVIF", 12, 13))
    data = encode_photo(photo, parse_format(extension))
    profile = read_photo(data).metadata.icc_profile
    assert profile is not None
    colour = Image.new("RGB", (1, 1), (200, 100, 50))
    srgb = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(colour, io.BytesIO(profile), srgb)
    # By the definition of both: P3's primaries in sRGB's, and sRGB's curve for both.
    assert shown.getpixel((0, 0)) == (215, 93, 31)  # type: ignore[union-attr]
    unknown = Photo(scene[:8, :8], metadata=Metadata(cicp=(22, 13)))
    assert read_photo(encode_photo(unknown, parse_format("jpg"))).metadata.icc_profile is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_channels_of_unknown_use_are_no_transparency(dtype: type) -> None:
    pixels = np.full((40, 60, 4), np.iinfo(dtype).max // 3, dtype)
    pixels[:20, :, 3] = 0
    kind = "rgb16" if dtype is np.uint16 else "srgb"
    image = pyvips.Image.new_from_array(pixels, interpretation=kind)
    data = bytearray(image.tiffsave_buffer())
    start = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, start)[0]):
        place = start + 2 + 12 * index
        if struct.unpack_from("<H", data, place)[0] == 338:  # ExtraSamples
            struct.pack_into("<H", data, place + 8, 0)
    photo = read_photo(bytes(data))
    assert photo.alpha is None
    assert np.array_equal(photo.pixels, pixels[:, :, :3])


def test_transparency_of_bmp(scene: np.ndarray) -> None:
    pixels = scene[:30, :41]
    alpha = np.linspace(0, 255, pixels[:, :, 0].size).astype(np.uint8).reshape(30, 41)
    photo = Photo(pixels, alpha, format="BMP", metadata=Metadata(dpi=(300.0, 300.0)))
    again = read_photo(encode_photo(photo))
    assert np.array_equal(again.pixels, pixels)
    assert again.alpha is not None
    assert np.array_equal(again.alpha, alpha)
    assert again.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    # Of writers that know of no transparency all of it is 0.
    bare = read_photo(encode_photo(Photo(pixels, np.zeros_like(alpha), format="BMP")))
    assert bare.alpha is None
    assert np.array_equal(bare.pixels, pixels)


@pytest.mark.parametrize("quality", [94, 100])
def test_progressive_jpegs_of_much_detail_are_written(quality: int) -> None:
    grain = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    photo = Photo(grain, format="JPEG", encoding={"progressive": True, "subsampling": 0})
    again = read_photo(encode_photo(photo, quality=quality))
    assert np.abs(again.pixels.astype(int) - grain).mean() < 20


def directory(order: str, *entries: tuple[int, int, int, bytes], following: int = 0) -> bytes:
    """A directory of tags as TIFF lays it out: tag, type, count, and four bytes."""
    rows = [struct.pack(order + "HHI4s", *entry) for entry in entries]
    return (
        struct.pack(order + "H", len(rows)) + b"".join(rows) + struct.pack(order + "I", following)
    )


def camera_block(order: str, width: int, height: int) -> tuple[bytes, dict[str, bytes]]:
    """EXIF as a camera writes it, turned by 90°, and what of it must stay: not all is decoded."""
    text, short, long, rational, undefined = 2, 3, 4, 5, 7
    kept = {
        "artist": "© Jürgen Groß, 字\0".encode(),
        "note": b"Maker\0\0\1" + bytes(range(256)),
        "comment": b"UNICODE\0" + "größer".encode("utf-16-le"),
        "exposure": struct.pack(order + "II", 1, 30),
        "latitude": struct.pack(order + "6I", 52, 1, 30, 1, 1234, 100),
        "version": b"R98\0",
    }
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    sizes = [struct.pack(order + "I", side) for side in (width, height)]

    def pointer(place: int) -> bytes:
        return struct.pack(order + "I", place)

    values_at = 8 + (2 + 4 * 12 + 4) + (2 + 6 * 12 + 4) + (2 + 12 + 4) + (2 + 12 + 4) + (2 + 12 + 4)
    places, values = {}, b""
    for name in ("artist", "note", "comment", "exposure", "latitude"):
        places[name] = pointer(values_at + len(values))
        values += kept[name] + bytes(len(kept[name]) % 2)
    details_at = 8 + 2 + 4 * 12 + 4
    gps_at = details_at + 2 + 6 * 12 + 4
    interoperability_at, thumbnail_at = gps_at + 18, gps_at + 36
    block = header
    block += directory(
        order,
        (0x0112, short, 1, struct.pack(order + "HH", 6, 0)),
        (0x013B, text, len(kept["artist"]), places["artist"]),
        (0x8769, long, 1, pointer(details_at)),
        (0x8825, long, 1, pointer(gps_at)),
        following=thumbnail_at,
    )
    block += directory(
        order,
        (0x829A, rational, 1, places["exposure"]),
        (0x927C, undefined, len(kept["note"]), places["note"]),
        (0x9286, undefined, len(kept["comment"]), places["comment"]),
        (0xA002, long, 1, sizes[0]),
        (0xA003, long, 1, sizes[1]),
        (0xA005, long, 1, pointer(interoperability_at)),
    )
    block += directory(order, (2, rational, 3, places["latitude"]))
    block += directory(order, (1, text, 4, kept["version"]))
    block += directory(order, (0x0103, short, 1, struct.pack(order + "HH", 6, 0)))
    assert len(block) == values_at
    return b"Exif\0\0" + block + values, kept


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("extension", ["jpg", "png", "webp", "avif", "tif"])
def test_what_a_camera_tells_stays_byte_for_byte(extension: str, order: str) -> None:
    block, kept = camera_block(order, 60, 40)
    photo = read_photo(jpeg_with(block))
    assert (photo.width, photo.height) == (40, 60)
    again = read_photo(encode_photo(photo, parse_format(extension)))
    third = read_photo(encode_photo(again))
    for read in (photo, again, third):
        found = read_directory(io.BytesIO(read.metadata.exif.removeprefix(b"Exif\0\0")))
        details = found[0x8769]
        assert found[0x013B] == Entry(2, len(kept["artist"]), kept["artist"])
        assert details[0x927C] == Entry(7, len(kept["note"]), kept["note"])
        assert details[0x9286] == Entry(7, len(kept["comment"]), kept["comment"])
        assert details[0xA005] == {1: Entry(2, 4, kept["version"])}
        tags = tags_of(read)
        assert tags.get(0x0112, 1) == 1
        assert float(tags.get_ifd(0x8769)[EXPOSURE]) == pytest.approx(1 / 30)
        assert tuple(map(float, tags.get_ifd(0x8825)[LATITUDE])) == (52.0, 30.0, 12.34)
        assert [tags.get_ifd(0x8769)[tag] for tag in (0xA002, 0xA003)] == [40, 60]
        assert not tags.get_ifd(1)  # the thumbnail, which shows the photo as it was
    if extension == "jpg":  # makers' notes point at places in the block
        changed = [a != b for a, b in zip(block, again.metadata.exif, strict=True)]
        assert sum(changed) <= 8


def jpeg_with(block: bytes, size: tuple[int, int] = (60, 40), **more: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (90, 120, 150)).save(buffer, "JPEG", exif=block, **more)
    return buffer.getvalue()


@pytest.mark.parametrize("tag", [280, 281, 32995, 32996, 32997, 32998])
@pytest.mark.parametrize("deep", [False, True])
def test_exif_does_not_say_how_a_tiff_is_laid_out(tag: int, deep: bool) -> None:
    block = b"Exif\0\0II*\0\x08\0\0\0" + directory("<", (tag, 3, 2, struct.pack("<HH", 1, 7)))
    photo = read_photo(jpeg_with(block))
    if deep:
        photo = photo.with_pixels(photo.pixels.astype(np.uint16) * 257)
    data = encode_photo(photo, parse_format("tif"))
    assert np.array_equal(read_photo(data).pixels, photo.pixels)
    assert np.array_equal(pyvips.Image.new_from_buffer(data, "").numpy(), photo.pixels)


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp", "avif", "heic"])
def test_xmp_that_disagrees_turns_nothing(extension: str) -> None:
    if extension == "heic":
        pytest.importorskip("pillow_heif")
    photo = read_photo(jpeg_with(exif(1).tobytes(), xmp=XMP % 6))
    again = read_photo(encode_photo(photo, parse_format(extension)))
    assert (again.width, again.height) == (photo.width, photo.height) == (60, 40)


def test_a_block_that_fills_its_marker_is_kept() -> None:
    text = b"x" * (65_533 - 6 - 8 - 2 - 12 - 4 - 1) + b"\0"
    block = b"Exif\0\0II*\0\x08\0\0\0"
    block += directory("<", (MAKE, 2, len(text), struct.pack("<I", 26))) + text
    assert len(block) == 65_533
    assert read_photo(encode_photo(read_photo(jpeg_with(block)))).metadata.exif == block


def test_blocks_as_some_programs_write_them(scene: np.ndarray) -> None:
    without_next = b"II*\0\x08\0\0\0" + struct.pack("<HHHII", 1, MAKE, 2, 8, 22) + b"Camera1\0"
    photo = read_photo(jpeg_with(b"Exif\0\0" + without_next))
    assert tags_of(photo)[MAKE] == "Camera1"
    image = Image.fromarray(scene[:9, :9])
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=b"Exif\0\0" * 2 + without_next)
    assert tags_of(read_photo(buffer.getvalue()))[MAKE] == "Camera1"
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    for header in (b"II*\0", b"II\0*"):  # the second is wrong, and opened all the same
        photo = read_photo(header + buffer.getvalue()[4:])
        assert np.array_equal(photo.pixels, scene[:9, :9])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_exif_spoils_no_photo(data: st.DataObject) -> None:
    block = bytearray(camera_block(data.draw(st.sampled_from("<>")), 60, 40)[0])
    end = data.draw(st.integers(6, len(block)))
    for _ in range(data.draw(st.integers(0, 6))):
        # Mostly the directories, of which each byte has a meaning.
        at = data.draw(st.integers(6, 230) | st.integers(6, len(block) - 1))
        block[at] = data.draw(st.sampled_from([0, 1, 2, 4, 7, 8, 13, 255]) | st.integers(0, 255))
    extension = data.draw(st.sampled_from(["jpg", "png", "webp", "avif", "tif"]))
    photo = read_photo(jpeg_with(bytes(block[:end])))
    again = read_photo(encode_photo(photo, parse_format(extension)))
    assert (again.width, again.height) == (photo.width, photo.height)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP"])
def test_a_block_that_is_no_exif_spoils_no_photo(
    scene: np.ndarray, tmp_path: Path, format_name: str
) -> None:
    path = tmp_path / f"photo.{format_name.lower()}"
    Image.fromarray(scene[:20, :30]).save(path, format_name, exif=b"Exif\0\0no TIFF block")
    assert probe_size(path) == (30, 20)
    photo = read_photo(path)
    assert photo.pixels.shape == (20, 30, 3)
    assert not photo.metadata.exif


@pytest.mark.parametrize("big", [False, True])
def test_text_of_a_tiff_stays_byte_for_byte(scene: np.ndarray, big: bool) -> None:
    artist = "© Jürgen".encode()
    tags = {0x013B: b"X" * len(artist), 0x8769: {EXPOSURE: 0.125}}
    buffer = io.BytesIO()
    Image.fromarray(scene[:9, :9]).save(buffer, "TIFF", tiffinfo=tags, big_tiff=big)
    photo = read_photo(buffer.getvalue().replace(b"X" * len(artist), artist))
    for extension in ("tif", "jpg"):
        again = read_photo(encode_photo(photo, parse_format(extension)))
        assert artist in again.metadata.exif
        assert float(tags_of(again).get_ifd(0x8769)[EXPOSURE]) == 0.125


@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp", "avif"])
def test_tags_of_the_wrong_type_do_not_spoil_a_photo(scene: np.ndarray, extension: str) -> None:
    text, whole, gps = 2, 4, 8 + 2 + 3 * 12 + 4
    block = b"Exif\0\0II*\0\x08\0\0\0" + directory(
        "<",
        (MAKE, text, 4, b"Abc"),
        (0x0112, text, 2, b"6"),  # Orientation is a number
        (0x8825, whole, 1, struct.pack("<I", gps)),
    )
    block += directory("<", (1, text, 2, b"N"), (5, text, 2, b"0"))  # AltitudeRef is a byte
    buffer = io.BytesIO()
    Image.fromarray(scene[:30, :40]).save(buffer, "JPEG", exif=block)
    photo = read_photo(buffer.getvalue())
    assert (photo.width, photo.height) == (40, 30)
    again = read_photo(encode_photo(photo, parse_format(extension)))
    tags = tags_of(again)
    assert tags[MAKE] == "Abc"
    assert tags.get(0x0112, 1) == 1
    assert dict(tags.get_ifd(0x8825)) == {1: "N", 5: "0"}


def test_a_tag_of_the_wrong_type_in_a_sixteen_bit_tiff(scene: np.ndarray) -> None:
    wide = scene[:30, :40].astype(np.uint16) * 257
    exif_with_make = Image.Exif()
    exif_with_make[MAKE] = "Abc"
    photo = Photo(wide, format="TIFF", metadata=Metadata(exif=exif_with_make.tobytes()))
    data = encode_photo(photo)
    text, whole = (struct.pack("<HHI", MAKE, *kind) for kind in ((2, 4), (4, 1)))
    assert text in data
    again = read_photo(data.replace(text, whole))
    assert np.array_equal(again.pixels, wide)


def test_a_tiff_with_exif_opens_elsewhere(scene: np.ndarray) -> None:
    wide = scene[:30, :40].astype(np.uint16) * 257
    photo = Photo(wide, format="TIFF", metadata=Metadata(exif=exif().tobytes()))
    other = pyvips.Image.new_from_buffer(encode_photo(photo), "")
    assert np.array_equal(other.numpy(), wide)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_grey_and_alpha_are_kept(scene: np.ndarray, mode: str, extension: str) -> None:
    image = Image.fromarray(scene[:40, :60]).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    photo = read_photo(saved(image, extension))
    assert photo.is_grey == mode.startswith("L")
    again = Image.open(io.BytesIO(encode_photo(photo)))
    assert again.mode == mode
    assert np.array_equal(np.asarray(again), np.asarray(image))


def test_grey_jpeg_stays_grey_and_webp_keeps_alpha(scene: np.ndarray) -> None:
    grey = read_photo(saved(Image.fromarray(scene).convert("L"), "jpg"))
    assert Image.open(io.BytesIO(encode_photo(grey))).mode == "L"
    image = Image.fromarray(scene[:40, :60]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    again = Image.open(io.BytesIO(encode_photo(read_photo(saved(image, "webp")))))
    assert again.mode == "RGBA"
    assert np.array_equal(np.asarray(again)[:, :, 3], np.asarray(image)[:, :, 3])


def test_palette_images_become_rgb_or_rgba(scene: np.ndarray) -> None:
    image = Image.fromarray(scene[:40, :60]).quantize(32)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    photo = read_photo(buffer.getvalue())
    assert photo.pixels.shape == (40, 60, 3)
    assert photo.alpha is None
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0)
    photo = read_photo(buffer.getvalue())
    assert photo.alpha is not None
    assert set(np.unique(photo.alpha)) == {0, 255}


def test_cmyk_without_profile_becomes_rgb(scene: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene).convert("CMYK").save(buffer, "JPEG", quality=98)
    photo = read_photo(buffer.getvalue())
    assert photo.pixels.shape == scene.shape
    assert np.abs(photo.pixels.astype(int) - scene).mean() < 3
    assert photo.metadata.icc_profile  # says sRGB, not CMYK


def test_cmyk_is_converted_with_its_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded profile is what decides: a stand-in transform must be asked with it."""
    seen = []

    def transform(image, source, target, outputMode):  # noqa: N803 (Pillow's own name)
        seen.append((source, outputMode))
        return Image.new("RGB", image.size, (10, 20, 30))

    monkeypatch.setattr(ImageCms, "profileToProfile", transform)
    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda p: p)
    monkeypatch.setattr(
        ImageCms, "createProfile", lambda name: type("P", (), {"tobytes": lambda s: SRGB})()
    )
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8), (9, 9, 9, 9)).save(buffer, "JPEG", icc_profile=b"the profile")
    photo = read_photo(buffer.getvalue())
    assert seen[0][0].getvalue() == b"the profile"
    assert photo.pixels[0, 0].tolist() == [10, 20, 30]
    assert photo.metadata.icc_profile == SRGB


def test_jpeg_keeps_its_subsampling(scene: np.ndarray) -> None:
    from PIL import JpegImagePlugin

    for subsampling in (0, 1, 2):
        buffer = io.BytesIO()
        Image.fromarray(scene).save(buffer, "JPEG", subsampling=subsampling)
        again = Image.open(io.BytesIO(encode_photo(read_photo(buffer.getvalue()))))
        assert JpegImagePlugin.get_sampling(again) == subsampling


def test_a_phone_photo_with_preview_is_one_photo(scene: np.ndarray) -> None:
    """MPO is JPEG with a second picture behind the first: the first is the photo."""
    buffer = io.BytesIO()
    first, second = Image.fromarray(scene), Image.fromarray(scene[::4, ::4])
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    photo = read_photo(buffer.getvalue())
    assert photo.format == "JPEG"
    assert photo.pixels.shape == scene.shape


def test_formats_that_cannot_hold_it_get_the_nearest(scene: np.ndarray) -> None:
    alpha = np.zeros(scene.shape[:2], np.uint16)
    photo = Photo(scene.astype(np.uint16) * 257, alpha=alpha)
    flat = read_photo(encode_photo(photo, parse_format("jpg"))).pixels
    assert flat.dtype == np.uint8
    assert flat.min() > 250  # all transparent on white
    opaque = Photo(photo.pixels)
    assert np.array_equal(read_photo(encode_photo(opaque, parse_format("bmp"))).pixels, scene)


def test_heic(tmp_path: Path, scene: np.ndarray) -> None:
    pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.heic"
    write_photo(Photo(scene, format="HEIF"), path)
    photo = read_photo(path)
    assert photo.format == "HEIF"
    assert np.abs(photo.pixels.astype(int) - scene).mean() < 6
    write_photo(photo, tmp_path / "again.heic")
    assert read_photo(tmp_path / "again.heic").pixels.shape == scene.shape


def test_text_beyond_latin_survives_in_sixteen_bit_png(scene: np.ndarray) -> None:
    xmp = "<x:xmpmeta xmlns:x='adobe:ns:meta/'>Zürich 字</x:xmpmeta>".encode()
    photo = Photo(scene[:9, :9].astype(np.uint16) * 257, metadata=Metadata(xmp=xmp))
    for _ in range(2):
        photo = read_photo(encode_photo(photo))
        assert photo.metadata.xmp == xmp
    assert Image.open(io.BytesIO(encode_photo(photo))).info["xmp"] == xmp


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("extension", ["png", "tif", "jpg"])
def test_no_resolution_is_invented(depth: type, extension: str) -> None:
    photo = Photo(np.zeros((5, 6, 3), depth), format=parse_format(extension).name)
    again = read_photo(encode_photo(photo))
    assert again.metadata.dpi is None


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf"), 4e9, -3.0])
def test_implausible_resolutions_are_dropped(value: float) -> None:
    image = Image.new("RGB", (4, 4))
    image.info["dpi"] = (value, 72)
    assert metadata_of(image, io.BytesIO()).dpi is None


def test_a_grey_profile_is_not_put_on_colours() -> None:
    grey_profile = SRGB[:16] + b"GRAY" + SRGB[20:]
    photo = Photo(np.zeros((5, 6), np.uint8), metadata=Metadata(icc_profile=grey_profile))
    assert read_photo(encode_photo(photo)).metadata.icc_profile == grey_profile
    webp = read_photo(encode_photo(photo, parse_format("webp")))
    assert webp.metadata.icc_profile is None
    assert comparison(photo, photo).metadata.icc_profile is None


def test_blocks_too_long_for_jpeg_do_not_stop_it(scene: np.ndarray) -> None:
    photo = Photo(
        scene[:9, :9], metadata=Metadata(xmp=b"x" * 70_000, exif=b"Exif\0\0" + b"M" * 70_000)
    )
    assert read_photo(encode_photo(photo, parse_format("jpg"))).pixels.shape == (9, 9, 3)


def test_sides_too_long_for_a_format_are_named() -> None:
    with pytest.raises(ImageError, match="WEBP holds at most 16383 pixels a side"):
        encode_photo(Photo(np.zeros((1, 20_000), np.uint8), format="WEBP"))
    assert read_photo(encode_photo(Photo(np.zeros((1, 65_500), np.uint8), format="JPEG")))
    with pytest.raises(ImageError, match="JPEG holds at most 65500 pixels a side"):
        encode_photo(Photo(np.zeros((1, 65_501), np.uint8), format="JPEG"))


def test_cmyk_with_an_unusable_profile_is_converted_plainly(scene: np.ndarray) -> None:
    for profile in (b"garbage" * 30, SRGB):
        buffer = io.BytesIO()
        image = Image.fromarray(scene[:20, :20]).convert("CMYK")
        image.save(buffer, "JPEG", quality=98, icc_profile=profile)
        assert read_photo(buffer.getvalue()).pixels.shape == (20, 20, 3)


def test_sixteen_bit_grey_with_alpha_can_be_read_from_our_tiff() -> None:
    wide = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1000
    again = read_photo(encode_photo(Photo(wide, alpha=wide[::-1]), parse_format("tif")))
    assert np.array_equal(again.pixels[:, :, 1], wide)
    assert again.alpha is not None
    assert np.array_equal(again.alpha, wide[::-1])


def test_layouts_of_other_files_are_not_copied(scene: np.ndarray) -> None:
    buffer = io.BytesIO()
    Image.fromarray(scene[:9, :9]).save(buffer, "TIFF", tiffinfo={271: "Testcam", 332: 1})
    again = Image.open(io.BytesIO(encode_photo(read_photo(buffer.getvalue()))))
    assert again.tag_v2[271] == "Testcam"
    assert 332 not in again.tag_v2
