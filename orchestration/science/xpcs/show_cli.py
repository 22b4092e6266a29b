"""The command that shows a result: fits, pictures and what a search index is told."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from orchestration.science.errors import OutputFailed, ParametersInvalid
from orchestration.science.staging import publish, staging
from orchestration.science.xpcs import documents, manifest, metadata
from orchestration.science.xpcs.documents import Document
from orchestration.science.xpcs.extra import Extra
from orchestration.science.xpcs.fit import MODELS, Fits, Model, fit_g2
from orchestration.science.xpcs.fitting import fitting
from orchestration.science.xpcs.naming import Names
from orchestration.science.xpcs.power_law import PowerLaw, fit_power_law
from orchestration.science.xpcs.results import Result, open_result

METADATA = "metadata.json"

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("result", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="Folder for the pictures; made if absent.")
@click.option("--extra-metadata", "file", type=_PATH, help="JSON file of what the flow knows: source_files, cycle, ...")
@click.option("--extra", "text", help="The same as JSON text.")
@click.option("--fit", "model", type=click.Choice(MODELS), default="single", show_default=True, help="Of g2.")
@click.option("--files", type=_PATH, help="JSON file for the list of RESULT and all that belongs to it.")
def plot(result: Path, out: Path, file: Path | None, text: str | None, model: Model, files: Path | None) -> None:
    """Fit RESULT and write pictures, <name>_fits.json and metadata.json into OUT: all of them, or none."""
    paths = show(result, out, model=model, extra=_extra(file, text), files=files)
    click.echo(f"{len(paths)} files: {paths[-1]}")


def _extra(file: Path | None, text: str | None) -> Extra:
    if file is not None and text is not None:
        raise ParametersInvalid("both --extra and --extra-metadata are given", where="command line")
    if file is not None:
        return Extra.read(file)
    return Extra() if text is None else Extra.parse(text, where="--extra")


def show(path: Path, out: Path, *, model: Model, extra: Extra, files: Path | None = None) -> list[Path]:
    """Write everything that can be shown of a result; the paths, ``metadata.json`` last.

    Args:
        files: where the list of all files goes, with the metadata, once they are in place.

    Raises:
        ScanUnreadable, ResultInvalid: if the result is not one.
        PictureFailed: if a picture cannot be drawn; nothing is written then.
        OutputFailed: if the files cannot be put in place.
        ParametersInvalid: if the list would take the place of what it is to list.
    """
    if files is not None and files in {path, Names.receipt(path), out / METADATA}:
        raise ParametersInvalid("the list of files has the name of one of them", where=str(files))
    final = _drawn(path, out, model=model, extra=extra, files=files)
    if files is not None:
        told = manifest.document(manifest.files(path, final))
        documents.put(files, fitting({**told, "metadata": documents.load(out / METADATA)}))
    return final


def _drawn(path: Path, out: Path, *, model: Model, extra: Extra, files: Path | None) -> list[Path]:
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
        return _replace(staged, out, result.name, [] if files is None else [files])


def analyse(result: Result, model: Model) -> tuple[Fits | None, PowerLaw | None]:
    """The fits of g2 and of τ over q; None where the result has not what they need."""
    if result.multitau is None:
        return None, None
    fits = fit_g2(result.multitau.seconds, result.multitau.g2, result.multitau.best_err, model=model)
    return fits, None if result.dynamic.q is None else fit_power_law(result.dynamic.q, fits)


def _write(path: Path, document: Document) -> Path:
    path.write_text(documents.dump(document), encoding="utf-8")
    return path


def _replace(staged: list[Path], out: Path, name: str, lists: list[Path]) -> list[Path]:
    """What tells of the others goes first and comes last: where it is, all files beside it are of one run."""
    final = [out / path.name for path in staged]
    ours = re.compile(rf"{re.escape(name)}_((g2_corr_\d+_\d+|twotime_\d+|tau_q)\.png|fits\.json)")
    try:
        old = {path for path in out.iterdir() if ours.fullmatch(path.name)}
        for path in (*lists, out / METADATA, *(old - set(final))):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputFailed(f"an old result cannot be removed: {error.strerror}", where=str(error.filename)) from error
    for source, target in zip(staged, final, strict=True):
        publish(source, target)
    return final
