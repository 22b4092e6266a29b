"""What the address of the tokens answers in a bad moment is not taken for a token."""

from __future__ import annotations

import pytest
from nersc_ground import Ground

from orchestration.errors import ServiceUnavailable
from orchestration.sandbox.testing import submit


@pytest.mark.parametrize("status", [429, 502, 503])
def test_a_refusal_in_place_of_a_token_is_forgotten(ground: Ground, status: int) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    ground.facility.client.faults.add(r"POST /nersc/oidc", "status", status=status, times=0)
    with pytest.raises(ServiceUnavailable):
        jobs.reserve("key1-1")
    ground.facility.client.faults.clear()
    assert submit(jobs, spec, jobs.reserve("key1-1"))
