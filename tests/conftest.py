"""Every test runs without the credentials, settings and servers of the machine that it runs on."""

from __future__ import annotations

import os

_OURS = ("BEAMLINE_", "GLOBUS_", "SCICAT_", "PREFECT_", "PATH_NERSC_")
_KEPT = {"BEAMLINE_TEST_POSTGRESQL_URL"}

for name in [name for name in os.environ if name.startswith(_OURS) and name not in _KEPT]:
    del os.environ[name]

# Before anything imports Prefect, which reads its settings then. No test may find, or leave, a profile of the user.
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
