"""The command that shows a result: fits, pictures and what a search index is told."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from orchestration.science.errors import OutputFailed
from orchestration.science.staging import publish, staging
from orchestration.science.xpcs import metadata
from orchestration.science.xpcs.fit import Fits, Model, PowerLaw, fit_g2, fit_power_law
from orchestration.science.xpcs.results import Result, open_result

METADATA = "metadata.json"

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("result", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="Folder for the pictures; made if absent.")
@click.option(
    "--extra-metadata", "extra", type=_PATH, help="JSON file of what the flow knows: source_files, cycle, ..."
)
@click.option(
    "--fit", "model", type=click.Choice(["single", "stretched"]), default="single", show_default=True, help="Of g2."
)
def plot(result: Path, out: Path, extra: Path | None, model: Model) -> None:
    """Fit RESULT and write pictures, <name>_fits.json and metadata.json into OUT: all of them, or none."""
    paths = show(result, out, model=model, extra=metadata.Extra.read(extra) if extra else metadata.Extra())
    click.echo(f"{len(paths)} files: {paths[-1]}")


def show(path: Path, out: Path, *, model: Model, extra: metadata.Extra) -> list[Path]:
    """Write everything that can be shown of a result; the paths, ``metadata.json`` last.

    Raises:
        ScanUnreadable, ResultInvalid: if the result is not one.
        PictureFailed: if a picture cannot be drawn; nothing is written then.
        OutputFailed: if the files cannot be put in place.
    """
    # It takes half a second to import, which no other command should wait for.
    from orchestration.science.xpcs import plots

    began = time.perf_counter()
    result = open_result(path)
    fits, law = analyse(result, model)
    with staging(out) as folder:
        staged = [*plots.draw_all(result, fits, law, folder)]
        if fits is not None:
            document = metadata.describe_fits(result, fits, law)
            staged.append(_write(folder / f"{result.name}_fits.json", document))
        seconds = time.perf_counter() - began
        described = metadata.describe(result, fits, law, extra, seconds=seconds, now=datetime.now(UTC))
        staged.append(_write(folder / METADATA, described))
        return _replace(staged, out, result.name)


def analyse(result: Result, model: Model) -> tuple[Fits | None, PowerLaw | None]:
    """The fits of g2 and of τ over q; None where the result has not what they need."""
    if result.multitau is None:
        return None, None
    fits = fit_g2(result.multitau.seconds, result.multitau.g2, result.multitau.best_err, model=model)
    return fits, None if result.dynamic.q is None else fit_power_law(result.dynamic.q, fits)


def _write(path: Path, document: dict[str, metadata.Json]) -> Path:
    path.write_text(metadata.dump(document), encoding="utf-8")
    return path


def _replace(staged: list[Path], out: Path, name: str) -> list[Path]:
    """``metadata.json`` goes first and comes last: where it is, all files beside it are of one run."""
    final = [out / path.name for path in staged]
    ours = re.compile(rf"{re.escape(name)}_((g2_corr_\d+_\d+|twotime_\d+|tau_q)\.png|fits\.json)")
    try:
        old = {path for path in out.iterdir() if ours.fullmatch(path.name)}
        for path in (out / METADATA, *(old - set(final))):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputFailed(f"an old result cannot be removed: {error.strerror}", where=str(error.filename)) from error
    for source, target in zip(staged, final, strict=True):
        publish(source, target)
    return final
