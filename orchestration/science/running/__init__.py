"""Runs one program as a job of a facility, exactly once, and leaves a report of how it ended.

``python -m orchestration.science run ORDERS`` is what every facility's scheduler is asked to start. It is all that has
to be known about a job when it is over: whether it ended well is read from its report, not from the scheduler.
Imports nothing but the standard library, to be up in some tens of milliseconds on a busy file system.
"""
