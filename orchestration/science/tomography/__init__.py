"""Parallel-beam tomography: from a Data Exchange HDF5 file to slices, volumes and pictures."""
