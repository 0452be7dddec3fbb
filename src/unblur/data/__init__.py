"""Data sets: layouts, pairs, splits, checks, preparation, and samples for training."""

from unblur.data.cache import ImageCache
from unblur.data.check import Report, check_dataset
from unblur.data.dataset import Dataset, Pair, require_outside
from unblur.data.errors import DataError
from unblur.data.layouts import LAYOUTS, open_dataset, require_healthy
from unblur.data.prepare import prepare, synthesize
from unblur.data.preview import contact_sheet
from unblur.data.samples import Augmentation, Positions, Sample, Samples
from unblur.data.shards import write_shards
from unblur.data.sources import ArraySource, FileSource, ImageSource
from unblur.data.splits import (
    Leak,
    Split,
    find_leak,
    leak_of,
    make_split,
    read_split,
    select_frames,
    write_split,
)
from unblur.data.transforms import (
    averaged,
    in_patches,
    of_sequences,
    of_subset,
    resized,
    without_blurred,
)

__all__ = [
    "LAYOUTS",
    "ArraySource",
    "Augmentation",
    "DataError",
    "Dataset",
    "FileSource",
    "ImageCache",
    "ImageSource",
    "Leak",
    "Pair",
    "Positions",
    "Report",
    "Sample",
    "Samples",
    "Split",
    "averaged",
    "check_dataset",
    "contact_sheet",
    "find_leak",
    "in_patches",
    "leak_of",
    "make_split",
    "of_sequences",
    "of_subset",
    "open_dataset",
    "prepare",
    "read_split",
    "require_healthy",
    "require_outside",
    "resized",
    "select_frames",
    "synthesize",
    "without_blurred",
    "write_shards",
    "write_split",
]
