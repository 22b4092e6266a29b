"""HDF5 compression filters beyond those built in, loaded only for files that need them."""

from __future__ import annotations

import importlib

import h5py

from orchestration.science.errors import ScanUnreadable


def make_available(dataset: h5py.Dataset) -> None:
    """Load ``hdf5plugin`` if the dataset was written through a filter that HDF5 itself lacks."""
    properties = dataset.id.get_create_plist()
    numbers = [properties.get_filter(index)[0] for index in range(properties.get_nfilters())]
    if all(h5py.h5z.filter_avail(number) for number in numbers):
        return
    try:
        importlib.import_module("hdf5plugin")
    except ImportError as error:
        raise ScanUnreadable(
            f"{dataset.name} is compressed with HDF5 filter {numbers}, which needs hdf5plugin",
            where=str(dataset.file.filename),
            next_step="install the `science` extra",
        ) from error
