"""The kernels for GPUs against the processors: on a GPU where there is one, and run by a processor everywhere."""

from __future__ import annotations

import contextlib
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xpcs_cuda
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xpcs_bench import Bench, Outcome, make
from xpcs_reference import multitau

from orchestration.science.errors import DeviceFailed, DeviceMissing, FramesNotFinite, ParametersInvalid
from orchestration.science.xpcs import engines, sparse
from orchestration.science.xpcs.engines import Engine
from orchestration.science.xpcs.frames import Selection, TimedEvents
from orchestration.science.xpcs.gpu import device
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.parameters import Method, Parameters

TOLERANCE = 1e-5
"""Of sums in single precision that are made in another order, relative."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    description = MovieDescription(rows=24, columns=26, frames=301, photons=0.3, contrast=0.3, decay=9.0, seed=4)
    return make(tmp_path_factory.mktemp("bench"), description, rings=2, sectors=2, blemishes=0.05)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(params=["a processor", pytest.param("a GPU", marks=pytest.mark.gpu)])
def graphics(request: pytest.FixtureRequest, kernels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """What takes GPU 0's place: the rest of the program does not know."""
    if request.param == "a processor":
        monkeypatch.setattr(device, "opened", lambda number: xpcs_cuda.opened(kernels))
    with engines.engine(0) as engine:
        yield engine


def demand_same(found: Outcome, wanted: Outcome) -> None:
    assert found.values.keys() == wanted.values.keys()
    for name, values in wanted.values.items():
        if "config" not in name and np.asarray(values).dtype.kind == "f":
            np.testing.assert_allclose(found[name], values, rtol=TOLERANCE, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("method", ["dense", "sparse"])
@pytest.mark.parametrize("selection", [Selection(), Selection(begin=3, stride=2, average=3), Selection(end=5)], ids=str)
def test_a_result_is_that_of_the_processors(
    bench: Bench, graphics: Engine, method: Method, selection: Selection
) -> None:
    wanted = bench.correlate(Parameters(type="Both", method=method, frames=selection, save_G2=True))
    found = bench.correlate(Parameters(type="Both", method=method, frames=selection, save_G2=True, gpu_id=0))
    demand_same(found, wanted)
    assert (found.receipt["device"], wanted.receipt["device"]) == (graphics.name, "cpu")


@pytest.mark.usefixtures("graphics")
def test_what_does_not_fit_the_memory_is_correlated_band_by_band(bench: Bench) -> None:
    whole, bands = (bench.correlate(Parameters(method="dense", memory=each, gpu_id=0)) for each in (1.0, 0.001))
    demand_same(bands, whole)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(2, 150),
    pixels=st.integers(1, 12),
    rate=st.sampled_from([0.0, 0.02, 0.3, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_both_ways_to_correlate_agree_with_the_definition(
    graphics: Engine, frames: int, pixels: int, rate: float, seed: int
) -> None:
    counts = np.random.default_rng(seed).poisson(rate, (frames, pixels)).astype(np.uint16)
    lags, place = Lags.of(frames), np.arange(pixels)
    right = multitau(counts.astype(np.float64)).g2
    series = graphics.series(place, lags, pixels=pixels, segment_level=0)
    for low in range(0, frames, 37):
        part = counts[low : low + 37]
        series.add(graphics.taken(part), np.ones(len(part), dtype=np.float32))
    by_frames = np.stack([series.pixels(lag) for lag in range(len(lags))])
    time, pixel = np.nonzero(counts)
    train = sparse.Train.of(np.bincount(pixel, minlength=pixels))
    events = TimedEvents(time.astype(np.int32), pixel.astype(np.uint32), counts[time, pixel], frames)
    train.add([events], place.astype(np.int32))
    scale, start = np.ones(frames, dtype=np.float32), np.array([0, pixels])
    by_events = graphics.correlate(train, scale, start, lags, segment_level=0, keep_pixels=True)
    assert by_events.pixels is not None
    np.testing.assert_allclose(by_frames, right, rtol=TOLERANCE, atol=1e-6)
    np.testing.assert_allclose(by_events.pixels, right, rtol=TOLERANCE, atol=1e-6)
    sums = series.sums(np.zeros(pixels, dtype=np.int64), 1)
    np.testing.assert_allclose(by_events.sums, sums, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_events.segments[:, 0], counts.sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32"])
def test_frames_of_any_type_are_summed(graphics: Engine, dtype: str) -> None:
    frames = np.random.default_rng(1).poisson(3.0, (70, 50)).astype(dtype)
    wanted = np.arange(50) % 3 != 0
    survey = graphics.survey(wanted, 70)
    survey.add(graphics.taken(frames), 0, average=1, group=1, path=Path("a.h5"))
    np.testing.assert_allclose(survey.means, frames[:, wanted].mean(axis=1, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(survey.total, frames.sum(axis=0, dtype=np.float64), rtol=1e-12)


def test_a_value_that_is_not_finite_is_found_wherever_it_is(graphics: Engine) -> None:
    frames = np.ones((40, 50), dtype=np.float32)
    frames[33, 7] = np.nan
    survey = graphics.survey(np.arange(50) > 20, 40)
    with pytest.raises(FramesNotFinite, match="frame 33"):
        survey.add(graphics.taken(frames), 0, average=1, group=1, path=Path("a.h5"))


# ----- the device -----------------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(DeviceMissing, match="GPU") as caught:
        bench.correlate(Parameters(gpu_id=99))
    assert "--gpu-id" in caught.value.where
    with pytest.raises(ParametersInvalid, match="below -2"):
        Parameters(gpu_id=-3)


def test_a_gpu_that_somebody_has_is_passed_over_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(device, "_LOOK_AGAIN", 0.01)
    (tmp_path / "locks").mkdir()
    with (tmp_path / "locks" / "gpu_0.lock").open("w") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        with device._free(2) as first:
            assert first == 1
            found: list[int] = []
            waits = threading.Thread(target=lambda: found.append(_taken()))
            waits.start()
            waits.join(0.2)
            assert not found
            fcntl.flock(others, fcntl.LOCK_UN)
            waits.join(10)
            assert found == [0]


def _taken() -> int:
    with device._free(2) as number:
        return number


def test_a_failure_of_the_device_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=RuntimeError),
        memory=SimpleNamespace(OutOfMemoryError=MemoryError),
        driver=SimpleNamespace(CUDADriverError=RuntimeError),
        compiler=SimpleNamespace(CompileException=RuntimeError),
        Device=contextlib.nullcontext,
    )
    monkeypatch.setattr(device, "_cupy", lambda: SimpleNamespace(cuda=cuda))
    with pytest.raises(DeviceFailed, match="out of memory") as caught, device.opened(0):
        raise MemoryError("out of memory allocating 7 bytes")
    assert "--gpu-id -1" in caught.value.next_step
