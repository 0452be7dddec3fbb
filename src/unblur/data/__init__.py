"""Data sets on disk: layouts, pairs, splits and checks."""

from unblur.data.check import Report, check_dataset
from unblur.data.errors import DataError
from unblur.data.layouts import LAYOUTS, Dataset, open_dataset, require_healthy
from unblur.data.sources import ArraySource, FileSource, ImageSource, Pair
from unblur.data.splits import Leak, Split, find_leak, make_split, read_split, write_split

__all__ = [
    "LAYOUTS",
    "ArraySource",
    "DataError",
    "Dataset",
    "FileSource",
    "ImageSource",
    "Leak",
    "Pair",
    "Report",
    "Split",
    "check_dataset",
    "find_leak",
    "make_split",
    "open_dataset",
    "read_split",
    "require_healthy",
    "write_split",
]
