"""What runs beside the tape archive: bundles made, verified, fetched and removed with NERSC's ``hsi`` and ``htar``.

``python -m orchestration.hpss COMMAND`` is the program of every xfer job. Standard library only, and nothing else of
this project: it works with any Python of the facility. No name of a file is ever read by a shell.
"""
