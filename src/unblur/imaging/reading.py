"""Files and bytes → `Photo`: decoding, orientation, colour modes, 16-bit depth, metadata."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, JpegImagePlugin, UnidentifiedImageError

from unblur.imaging.errors import ImageError
from unblur.imaging.formats import FORMATS, READ_ONLY, format_of
from unblur.imaging.metadata import Metadata, metadata_of, orientation_of, require_sdr
from unblur.imaging.photo import Photo, Pixels, upright

DEFAULT_MAX_PIXELS = 170_000_000  # just below the size at which Pillow suspects an attack

# Phones store a preview or a gain map behind the JPEG: the first picture is the photo.
_SAME_CONTAINER = {"MPO": "JPEG"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_SIXTEEN_BIT_MODES = {"I;16", "I;16L", "I;16B"}
_MOST_SCANS = 500  # of a JPEG; progressive ones have about ten


def read_photo(
    source: Path | str | bytes, max_pixels: int = DEFAULT_MAX_PIXELS, name: str | None = None
) -> Photo:
    """Read a photo from a path or from a file's bytes.

    name: what error messages call the source; by default its path, or "image" for bytes.
    Raises ImageError with a one-line message for anything that is not one readable still photo of
    at most `max_pixels`.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), name or "image", None, max_pixels)
    path = Path(source)
    name = name or str(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ImageError(f"{name}: is no regular file")  # reading a pipe could wait for ever
        with path.open("rb") as file:
            return _read(file, name, path, max_pixels)
    except FileNotFoundError:
        raise ImageError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: is a folder, not a photo") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror or error})") from None


def allow_large_photos(max_pixels: int) -> None:
    """Let this process decode photos up to `max_pixels`; for programs, not for libraries.

    Pillow has a limit of its own, which counts for the whole process.
    """
    if max_pixels > DEFAULT_MAX_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def probe_size(path: Path) -> tuple[int, int]:
    """(width, height), upright, from a file's header; (0, 0) when it cannot be told quickly."""
    if not path.is_file():  # opening a pipe could wait for ever
        return (0, 0)
    try:
        with path.open("rb") as file, _open(file, str(path), path) as image:
            width, height = image.size
            return (height, width) if orientation_of(image) >= 5 else (width, height)
    except (ImageError, OSError):
        return (0, 0)


def check_photo(
    file: BinaryIO, max_pixels: int = DEFAULT_MAX_PIXELS, name: str = "image"
) -> tuple[str, int, int]:
    """(format, width, height) from a file's header, without decoding it; not upright.

    Raises ImageError as `read_photo` does, but for damage that only decoding finds.
    """
    with _open(file, name, None) as image:
        format_ = _checked(image, file, None, name, max_pixels)
        return format_, *image.size


def _checked(
    image: Image.Image, file: BinaryIO, path: Path | None, name: str, max_pixels: int
) -> str:
    """The format of what may be decoded."""
    format_ = _SAME_CONTAINER.get(image.format or "", image.format or "")
    _check_label(format_, path, name)
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width}×{height} pixels are more than the limit of "
            f"{max_pixels / 1e6:g} MP; raise --max-pixels if this is meant"
        )
    if format_ == "JPEG" and _scans(file) > _MOST_SCANS:
        raise ImageError(f"{name}: is built to take long to decode; it is not opened")
    return format_


def _scans(file: BinaryIO) -> int:
    """How many passes over all pixels a JPEG asks for, at most; each costs as much as a photo."""
    place = file.tell()
    file.seek(0)
    count = file.read().count(b"\xff\xda")
    file.seek(place)
    return count


def _read(file: BinaryIO, name: str, path: Path | None, max_pixels: int) -> Photo:
    with _open(file, name, path) as image:
        format_ = _checked(image, file, path, name, max_pixels)
        width, height = image.size
        try:
            _check_single(image, format_, name)
            if _is_sixteen_bit(image):
                # Pillow knows the metadata of the file even where it cannot keep its depth.
                if format_ == "PNG":
                    image.load()  # EXIF and XMP may stand behind the pixels
                turn = orientation = orientation_of(image)
                metadata = metadata_of(image, file)
                pixels, alpha = _decode_sixteen_bit(file, format_)
                if format_ == "TIFF" and image.tag_v2.get(338, (0,))[0] == 0:  # type: ignore[attr-defined]
                    alpha = None  # a channel of unknown use, such as a selection
            else:
                before = orientation_of(image)
                image.load()  # TIFF is turned upright by this
                turn = orientation_of(image)
                orientation = before if format_ == "TIFF" else turn
                converted, metadata = _to_supported_mode(image, metadata_of(image, file), name)
                pixels, alpha = _split_alpha(np.asarray(converted))
                if format_ == "BMP" and alpha is not None and not alpha.any():
                    alpha = None  # programs that know of none leave its bytes at 0
                del converted
            if metadata.cicp:
                require_sdr(metadata.cicp[1], name)
            metadata = metadata.upright(orientation)
            encoding = _encoding(image)
        except ImageError:
            raise
        except MemoryError:
            raise ImageError(f"{name}: not enough memory to decode {width}×{height}") from None
        except Exception as error:  # decoders raise whatever a damaged file drives them to
            detail = str(error).strip().splitlines()  # libvips says the cause last
            raise ImageError(
                f"{name}: damaged, incomplete or unusual {format_} file"
                + (f" ({detail[-1].strip()[:100]})" if detail else "")
            ) from error
    return Photo(
        pixels=upright(pixels, turn),
        alpha=None if alpha is None else upright(alpha, turn),
        format=format_,
        metadata=metadata,
        encoding=encoding,
    )


def _open(file: BinaryIO, name: str, path: Path | None) -> Image.Image:
    head = file.read(64)
    file.seek(0)
    if not head:
        raise ImageError(f"{name}: is empty")
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        register_heif(name)
    try:
        return Image.open(file)
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name}: more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} MP; "
            "raise --max-pixels if this is meant"
        ) from None
    except UnidentifiedImageError:
        raise ImageError(f"{name}: {_what_it_is_instead(head, path)}") from None
    except Exception as error:  # header parsers raise whatever a damaged file drives them to
        raise ImageError(f"{name}: damaged or incomplete image file ({error})") from error


def _what_it_is_instead(head: bytes, path: Path | None) -> str:
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "this kind of TIFF is not supported, or it is damaged; convert it to PNG"
    promised = format_of(path) if path else None
    return f"is not a {promised} image, or it is damaged" if promised else "is not a known image"


def register_heif(name: str) -> None:
    """Teach Pillow HEIC, from the `heif` extra."""
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(f"{name}: HEIC photos need: pip install 'unblur[heif]'") from None
    pillow_heif.register_heif_opener()


def _check_label(format_: str, path: Path | None, name: str) -> None:
    if format_ not in FORMATS and format_ not in READ_ONLY:
        raise ImageError(f"{name}: {format_} images are not supported; convert it to PNG first")
    promised = format_of(path) if path else None
    if promised is not None and promised != format_:
        extension = FORMATS[format_].extension if format_ in FORMATS else READ_ONLY[format_][0]
        raise ImageError(
            f"{name}: mislabelled, this is a {format_} image and not {promised}; "
            f"rename it to end in {extension}"
        )


def _check_single(image: Image.Image, format_: str, name: str) -> None:
    # Not `n_frames`: to count the pages of a hostile TIFF takes hours.
    if getattr(image, "is_animated", False) and image.format not in _SAME_CONTAINER:
        kind = "pages" if format_ == "TIFF" else "frames"
        raise ImageError(
            f"{name}: holds several {kind}; only single photos are supported, so split it first"
        )


def _is_sixteen_bit(image: Image.Image) -> bool:
    if image.mode in _SIXTEEN_BIT_MODES:
        return True
    if image.format == "PNG":
        return ";16" in str(getattr(image, "tile", ""))
    if image.format == "TIFF":
        return set(image.tag_v2.get(258, ())) == {16} and image.mode not in ("F", "I", "CMYK")  # type: ignore[attr-defined]
    return False


def _decode_sixteen_bit(file: BinaryIO, format_: str) -> tuple[Pixels, Pixels | None]:
    """PNG and TIFF with 16 bits a channel, which Pillow would reduce to 8 where there is colour."""
    import pyvips

    file.seek(0)
    if format_ == "PNG":
        image = pyvips.Image.pngload_buffer(file.read(), fail_on="warning")
    else:  # libtiff warns of any mistyped tag; of missing strips it raises errors
        image = pyvips.Image.tiffload_buffer(file.read(), fail_on="error")
    if image.format != "ushort" or image.bands > 4:
        raise ValueError(f"{image.bands} channels of {image.format} are not grey or RGB")
    # image.numpy() would drop the axes of a single pixel.
    shape = (image.height, image.width, image.bands)
    return _split_alpha(np.frombuffer(image.write_to_memory(), np.uint16).reshape(shape))


def _split_alpha(pixels: Any) -> tuple[Pixels, Pixels | None]:
    """H×W×{1, 2, 3, 4} or H×W → colours (H×W×3) or grey (H×W), and alpha."""
    if pixels.ndim == 2:
        return pixels, None
    channels = pixels.shape[2]
    alpha = pixels[:, :, -1] if channels in (2, 4) else None
    if channels in (1, 2):
        return pixels[:, :, 0], alpha
    return pixels[:, :, :3], alpha


def _to_supported_mode(
    image: Image.Image, metadata: Metadata, name: str
) -> tuple[Image.Image, Metadata]:
    """Any 8-bit mode → L, LA, RGB or RGBA; profiles of other colour spaces are applied."""
    mode = image.mode
    if mode in ("F", "I"):
        raise ImageError(f"{name}: 32-bit images are not supported; convert it to 16 bits first")
    if mode == "CMYK":
        return _from_cmyk(image, metadata)
    targets = {
        "1": "L",
        "L": "L",
        "P": "RGB",
        "RGB": "RGB",
        "RGBX": "RGB",
        "YCbCr": "RGB",
        "LA": "LA",
        "La": "LA",
        "PA": "RGBA",
        "RGBA": "RGBA",
        "RGBa": "RGBA",
    }
    if mode not in targets:
        raise ImageError(f"{name}: {mode} colours are not supported; convert it to RGB first")
    target = targets[mode]
    if "transparency" in image.info and not target.endswith("A"):
        target += "A"
    # A large photo is not copied without need.
    return (image if mode == target else image.convert(target)), metadata


def _from_cmyk(image: Image.Image, metadata: Metadata) -> tuple[Image.Image, Metadata]:
    """CMYK → sRGB by the embedded profile, else by Pillow's plain formula."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    converted: Image.Image | None = None
    if metadata.icc_profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # a profile that is none of CMYK
            profile = ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc_profile))
            converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
    return converted or image.convert("RGB"), Metadata(
        srgb.tobytes(), metadata.exif, metadata.xmp, metadata.dpi
    )


def _encoding(image: Image.Image) -> dict[str, object]:
    if image.format in ("JPEG", "MPO"):
        sampling = JpegImagePlugin.get_sampling(image)
        return {
            "subsampling": sampling if sampling in (0, 1, 2) else 2,
            "progressive": bool(image.info.get("progressive")),
        }
    return {}
