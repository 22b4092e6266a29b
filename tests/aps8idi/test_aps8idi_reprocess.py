"""What was published is correlated again with another qmap, beside the first."""

from __future__ import annotations

import h5py
import pytest
from xpcs_room import ONLINE, REPROCESS, XpcsRoom


@pytest.mark.slow
def test_a_published_dataset_is_made_again_beside_the_first(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    first = room.run(ONLINE, raw=room.posix(folder / "a01.h5"), qmap=qmap, options={"avg_frame": 2})
    assert first.completed, first
    before = room.record(first.value["subject"])
    finer = room.qmap(experiment, "finer.hdf", rings=5)
    again = room.run(REPROCESS, subject=first.value["subject"], qmap=finer, suffix="_finer")
    assert again.completed, again
    record = room.record(again.value["subject"])
    assert record is not None
    assert again.value["subject"] != first.value["subject"]
    assert record["dc"]["titles"] == [{"title": "a01 finer"}]
    told = record["project_metadata"]["reprocessing"]
    assert told["original"] == {"subject": first.value["subject"]}
    assert told["qmap"]["source_path"] == f"{experiment}/finer.hdf"
    assert told["suffix"] == "_finer"
    with h5py.File(room.root("aps8idi_results") / again.value["result"]) as file:
        assert file["/xpcs/multitau/normalized_g2"].shape[1] == 5
        assert file["/xpcs/spatial_mean/intensity_vs_time"].shape == (2, 32)  # averaged as the first was
    assert room.record(first.value["subject"]) == before


@pytest.mark.parametrize(
    ("subject", "suffix", "error"), [("globus://nobody/knows", "_x", "UnknownName"), ("any", "_", "InvalidInput")]
)
def test_what_cannot_be_made_again_is_refused(room: XpcsRoom, subject: str, suffix: str, error: str) -> None:
    experiment = room.experiment()
    ended = room.run(REPROCESS, subject=subject, qmap=room.qmap(experiment), suffix=suffix)
    assert ended.error_type == error
