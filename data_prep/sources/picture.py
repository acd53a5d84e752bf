"""One picture as an image viewer shows it: upright, over white where it is transparent, with 8 bits per channel."""

import contextlib
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from harness.errors import UsageError

__all__ = ["Picture", "is_picture", "read_picture"]

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
GREY = ("1", "L", "LA", "La")


class Picture(NamedTuple):
    """What is seen of a file."""

    image: Image.Image  # in the mode L or RGB
    is_transparent: bool  # some of it shows the white behind it


def is_picture(file: Path) -> bool:
    """Whether a file, whatever its name, begins as a picture does."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS):
            return True
    except Exception:  # noqa: BLE001 - Pillow's readers raise whatever their parsing runs into
        return False


def read_picture(file: Path) -> Picture:
    """Return the picture in a file. Raises UsageError that names the file and says what to do."""
    try:
        with warnings.catch_warnings(action="ignore"):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as opened:
                return _seen(opened, file)
    except UsageError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged file ends in any of a dozen errors
        reason = _reason(file, error)
        raise UsageError(
            f"{file} cannot be read as an image ({reason}); save it anew as PNG or JPEG, or remove it"
        ) from None


def _seen(opened: Image.Image, file: Path) -> Picture:
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format != "MPO":  # of which the first is the photograph, the others its previews
        raise UsageError(f"{file} holds {frames} pictures; save the one that is meant as a file of its own")
    opened.load()
    image = _with_8_bits(opened, file)
    with contextlib.suppress(Exception):  # a viewer shows a picture whose notes are damaged all the same
        image = ImageOps.exif_transpose(image)
    mode = "L" if image.mode in GREY else "RGB"
    if not image.has_transparency_data:
        return Picture(image.convert(mode), is_transparent=False)
    colours = image.convert("RGBA")
    lowest, _ = colours.getchannel("A").getextrema()
    white = Image.new("RGBA", colours.size, "white")
    white.alpha_composite(colours)
    return Picture(white.convert("RGB").convert(mode), is_transparent=lowest != 255)


def _with_8_bits(image: Image.Image, file: Path) -> Image.Image:
    """Return a picture with 8 bits per channel; grey of 16 bits is scaled, so that 65535 is white as 255 is."""
    has_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if has_16_bits:
        scaled = Image.fromarray(np.round(np.asarray(image, np.float64) / 257).astype(np.uint8))
        scaled.info.update({name: value for name, value in image.info.items() if name == "exif"})
        return scaled
    if image.mode in ("I", "F"):
        raise UsageError(
            f"{file} has 32 bits per pixel (mode {image.mode}), for which no range is agreed on; "
            "bring all images to 8 bits, or give them as an .npz"
        )
    return image


def _reason(file: Path, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        is_empty = file.is_file() and not file.stat().st_size
        return "it is empty" if is_empty else f"it is none of {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
