"""The last copy of anything is never deleted, whatever was written over what, and whoever asks twice."""

from __future__ import annotations

import os
import time

import pytest
from retention_bench import Bench

from orchestration.errors import DeletionUnproven
from orchestration.ledger.copies import CopyState, Role
from orchestration.paths import RelativePath


def test_a_copy_with_a_whole_witness_is_proved(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    assert [witness.copy.endpoint for witness in bench.prove(original).witnesses] == ["server"]


@pytest.mark.parametrize("content", [b"another", b"else"], ids=["longer", "of the same length"])
def test_a_file_that_was_acquired_again_under_the_same_name_is_kept(bench: Bench, content: bytes) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    bench.file("source").write_bytes(content)  # within the slack that clocks are given
    with pytest.raises(DeletionUnproven, match=r"anew|not what was verified"):
        bench.prove(original)


def test_a_replica_that_was_written_over_is_kept(bench: Bench) -> None:
    copy = bench.put("source")
    bench.put("server")
    bench.file("source").write_bytes(b"else")
    os.utime(bench.file("source"), (time.time() + 3600, time.time() + 3600))
    with pytest.raises(DeletionUnproven, match="changed after it was verified"):
        bench.prove(copy)


def test_what_is_left_of_an_interrupted_deletion_may_go(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    bench.file("source").unlink()
    assert bench.prove(original).witnesses


def test_one_file_under_two_names_is_one_witness(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    bench.put("server")
    bench.put("server_raw", path=RelativePath("p/scan.h5"))
    with pytest.raises(DeletionUnproven, match=r"2 verified copies are needed.*1 proved.*same storage"):
        bench.prove(original, min_copies=2)
    bench.put("archive")
    assert len(bench.prove(original, min_copies=2).witnesses) == 2


def test_a_copy_that_is_made_anew_while_its_deletion_is_proved_is_kept(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    witness = bench.put("server")
    bench.put("source", b"a longer scan", role=Role.ORIGINAL)
    assert "made anew" in bench.begin(original, witness)
    assert bench.ledger.copies.get(original.id).state is CopyState.PRESENT


def test_a_copy_that_is_being_deleted_is_no_witness_again_because_its_old_proof_is_told_again(bench: Bench) -> None:
    original = bench.put("source", role=Role.ORIGINAL)
    witness = bench.put("server")
    assert not bench.begin(witness, original)
    bench.put("server")
    assert bench.ledger.copies.get(witness.id).state is CopyState.DELETING
    with pytest.raises(DeletionUnproven):
        bench.prove(original)


def test_the_same_folder_behind_a_link_is_the_same_storage(bench: Bench, tmp_path: os.PathLike[str]) -> None:
    server = bench.endpoint("server")
    link = server.mount.parent / "link" if server.mount else None
    assert link is not None
    link.symlink_to("server")
    assert server.shares_storage_with(server.model_copy(update={"mount": link, "root_path": "/elsewhere"}))
