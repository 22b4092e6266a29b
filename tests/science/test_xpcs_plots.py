from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image
from xpcs_result import Sample, write_result

from orchestration.science import errors
from orchestration.science.xpcs import drawing, figures, plots
from orchestration.science.xpcs.fit import Estimate
from orchestration.science.xpcs.results import open_result
from orchestration.science.xpcs.show_cli import analyse, plot

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sample = Sample(q_bins=5, phi_bins=2, twotime=1, twotime_frames=60)
    return write_result(tmp_path_factory.mktemp("result") / "A001_silica_results.hdf", sample)


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(*arguments: str | Path) -> None:
    plot.main(args=[str(word) for word in arguments], standalone_mode=False)


def shown(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_command_writes_all_pictures_fits_and_metadata(both: Path, tmp_path: Path) -> None:
    run(both, "--out", tmp_path / "web", "--fit", "stretched")
    pictures = {
        "scattering_pattern_lin.png": (790, 600),
        "scattering_pattern_log.png": (790, 600),
        "total_intensity_vs_time.png": (900, 450),
        "A001_silica_g2_corr_000_008.png": (1300, 1000),
        "A001_silica_g2_corr_009_017.png": (1300, 370),
        "A001_silica_saxs_1d.png": (800, 550),
        "A001_silica_tau_q.png": (700, 550),
        "A001_silica_twotime_001.png": (1300, 600),
        "A001_silica_overview.png": (1400, 840),
    }
    assert listing(tmp_path / "web") == {*pictures, "A001_silica_fits.json", "metadata.json"}
    for name, (width, height) in pictures.items():
        image = shown(tmp_path / "web" / name)
        assert image.shape[1] == pytest.approx(width, rel=0.25)
        assert image.shape[0] == pytest.approx(height, rel=0.25)
        white = (image == 255).all(axis=2).mean()
        assert 0.1 < white < 0.995, name
        assert len(np.unique(image[::5, ::5].reshape(-1, 3), axis=0)) > 20, name


def colored(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], color: str) -> int:
    wanted = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)])
    return int((image == wanted).all(axis=2).sum())


def test_page_has_points_with_their_curves(both: Path, tmp_path: Path) -> None:
    result = open_result(both)
    fits, _ = analyse(result, "single")
    assert fits is not None
    image = shown(plots.g2_page(result, fits, tmp_path, 0))
    height, width = image.shape[0] // 3, image.shape[1] // 3
    for row in range(3):
        for column in range(3):
            panel = image[row * height : (row + 1) * height, column * width : (column + 1) * width]
            assert colored(panel, figures.BLUE) > 50
            assert colored(panel, figures.ORANGE) > 50
    last = shown(plots.g2_page(result, fits, tmp_path, 9))
    assert colored(last[:, width:], figures.BLUE) == 0


def test_brightest_part_of_the_pattern_is_drawn_brightest(both: Path, tmp_path: Path) -> None:
    result = open_result(both)
    image = shown(plots.scattering(result, tmp_path, log=True))
    yellow = np.argwhere(np.abs(image[:, : image.shape[1] * 3 // 4].astype(int) - (253, 231, 37)).max(axis=2) < 12)
    assert len(yellow)
    # The beam lies left of the middle and above it is more of the detector than below.
    assert yellow[:, 1].mean() < 0.45 * image.shape[1]
    assert yellow[:, 0].mean() > 0.5 * image.shape[0]


def test_only_what_was_computed_is_drawn_and_pictures_of_an_earlier_run_do_not_stay(tmp_path: Path) -> None:
    sample = Sample(q_bins=2, phi_bins=1, multitau=False, twotime=1, twotime_frames=20, frames=20)
    path, out = write_result(tmp_path / "T_results.hdf", sample), tmp_path / "web"
    out.mkdir()
    other = "T_twotime_series_saxs_1d.png"
    for name in ("T_g2_corr_018_026.png", "T_twotime_007.png", "T_tau_q.png", "T_fits.json", other):
        (out / name).write_text("old")
    run(path, "--out", out)
    always = {"scattering_pattern_lin.png", "scattering_pattern_log.png", "total_intensity_vs_time.png"}
    always |= {"T_saxs_1d.png", "T_overview.png", "metadata.json"}
    assert listing(out) == always | {"T_twotime_001.png", other}


@pytest.mark.parametrize(
    ("values", "axes"),
    [
        (
            {
                "/xpcs/temporal_mean/scattering_2d": 0.0,
                "/xpcs/temporal_mean/scattering_1d": 0.0,
                "/xpcs/spatial_mean/intensity_vs_time": 0.0,
                "/xpcs/multitau/normalized_g2": 1.0,
                "/xpcs/qmap/energy": 0.0,
                "/xpcs/twotime/normalized_g2": 1.0,
            },
            ["q", "phi"],
        ),
        (
            {
                "/xpcs/temporal_mean/scattering_2d": np.nan,
                "/xpcs/temporal_mean/scattering_1d_segments": np.nan,
                "/xpcs/qmap/beam_center_x": np.nan,
                "/xpcs/multitau/normalized_g2": np.nan,
                "/xpcs/twotime/correlation_map/c2_00001": np.nan,
                "/xpcs/twotime/normalized_g2": np.nan,
            },
            ["x", "y"],
        ),
        (
            {
                "/xpcs/qmap/mask": 0,
                "/xpcs/multitau/normalized_g2_err": 0.0,
                "/xpcs/qmap/static_v_list_dim0": 0.0,
                "/xpcs/qmap/dynamic_v_list_dim0": 0.0,
            },
            ["q", "phi"],
        ),
    ],
    ids=["flat", "nan", "empty"],
)
def test_data_without_contents_and_other_axes_are_drawn_without_a_warning(
    tmp_path: Path, values: dict[str, float], axes: list[str]
) -> None:
    sample = Sample(rows=32, columns=32, q_bins=2, phi_bins=1, frames=100, twotime=1, twotime_frames=10)
    path = write_result(tmp_path / "s_results.hdf", sample)
    with h5py.File(path, "a") as file:
        for where, value in values.items():
            file[where][...] = value
        del file["/xpcs/qmap/map_names"]
        file["/xpcs/qmap/map_names"] = axes
    result = open_result(path)
    fits, law = analyse(result, "single")
    assert law is None
    pictures = plots.draw_all(result, fits, law, tmp_path)
    assert ("s_tau_q.png" in {picture.name for picture in pictures}) == (axes[0] == "q")
    for picture in pictures:
        assert shown(picture).std() > 0


@pytest.mark.parametrize("name", ["$x_{1}", "试样", "a\\b^2_$"])
def test_names_of_any_kind_are_drawn_as_they_are(both: Path, tmp_path: Path, name: str) -> None:
    result = replace(open_result(both), path=tmp_path / f"{name}_results.hdf")
    assert plots.saxs(result, tmp_path) == tmp_path / f"{name}_saxs_1d.png"


def test_long_series_are_drawn_as_envelopes(tmp_path: Path) -> None:
    result = open_result(write_result(tmp_path / "s_results.hdf", Sample(q_bins=2, phi_bins=1, frames=6000)))
    image = shown(plots.intensity(result, tmp_path))
    assert colored(image, figures.BLACK) > 1000
    assert len(np.unique(image[::5, ::5].reshape(-1, 3), axis=0)) > 5


def test_picture_that_fails_is_named_and_nothing_is_put_in_place(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("no room")

    monkeypatch.setattr(drawing, "intensity", fail)
    with pytest.raises(errors.OutputFailed, match=r"total_intensity_vs_time\.png cannot be drawn: ValueError: no room"):
        run(both, "--out", tmp_path / "web")
    assert listing(tmp_path / "web") == set()


def test_two_time_picture_of_a_result_without_one(tmp_path: Path) -> None:
    result = open_result(write_result(tmp_path / "s_results.hdf", Sample()))
    with pytest.raises(errors.PictureFailed, match="no two-time"):
        plots.twotime(result, tmp_path, 0)


def test_threads_draw_the_same_pictures_at_the_same_time(both: Path, tmp_path: Path) -> None:
    result = open_result(both)

    def draw(number: int) -> tuple[bytes, bytes]:
        folder = tmp_path / str(number)
        folder.mkdir()
        one, two = plots.saxs(result, folder), plots.intensity(result, folder)
        return one.read_bytes(), two.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(draw, range(4)))) == 1


def test_wrong_options_are_refused(both: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(plot, [str(both), "--out", str(tmp_path), "--fit", "double"])
    assert done.exit_code == 2
    assert isinstance(plot, click.Command)
    with pytest.raises(errors.ScanMissing):
        run(tmp_path / "absent.hdf", "--out", tmp_path)
    assert listing(tmp_path) == set()


def test_other_commands_do_not_wait_for_matplotlib() -> None:
    program = "import sys, orchestration.science.xpcs.show_cli; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_relaxation_times_are_drawn_in_a_unit_whose_numbers_are_short(both: Path) -> None:
    result = open_result(both)
    fits, _ = analyse(result, "single")
    assert fits is not None
    short = [replace(fit, tau=Estimate(fit.tau.value * 1e-4, fit.tau.error * 1e-4)) for fit in fits.bins]
    fits = replace(fits, bins=tuple(short))
    axes = Figure().add_subplot()
    drawing.tau_q(axes, result, fits, None, words="")
    times = [fit.tau.value for fit in fits.bins if fit.good]
    unit = axes.get_ylabel().removeprefix("τ (").removesuffix(")")
    low, high = axes.get_ylim()
    assert low < min(times) / {"s": 1.0, "ms": 1e-3, "µs": 1e-6}[unit] < high
    assert max(len(label.get_text()) for label in axes.get_yticklabels()) <= 5
