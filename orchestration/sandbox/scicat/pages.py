"""A page that shows what the catalogue holds, for people."""

from __future__ import annotations

import html
from datetime import datetime
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.scicat.accounts import User
from orchestration.sandbox.scicat.answers import not_found
from orchestration.sandbox.scicat.catalogue import Catalogue
from orchestration.sandbox.settings import Account

_VISITOR = User(Account(username="visitor", password="", rights=frozenset({"admin"})))
"""Sees all: the page is for whoever runs the sandbox."""

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem; color: #1d2733; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .6rem .8rem; border-bottom: 1px solid #d5dbe1 }
img { max-width: 160px; max-height: 160px; display: block; background: #000 }
code { font-size: .85em; overflow-wrap: anywhere }
"""


class Pages:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def routes(self) -> list[Route]:
        return [
            Route("/", self.index),
            Route("/catalogue", self.index),
            Route("/catalogue/{pid:path}", self.record),
        ]

    async def index(self, request: Request) -> Response:
        datasets = list(self._catalogue.visible(_VISITOR))[::-1]
        rows = "".join(self._row(dataset) for dataset in datasets)
        count = f"{_counted(len(datasets), 'dataset')}, newest first." if datasets else "Nothing is catalogued yet."
        table = (
            '<table><thead><tr><th scope="col">Preview</th><th scope="col">Dataset</th><th scope="col">Type</th>'
            '<th scope="col">Size</th><th scope="col">Created</th></tr></thead>'
            f"<tbody>{rows}</tbody></table>"
        )
        return HTMLResponse(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Catalogue of the sandbox</title>'
            f"<style>{_STYLE}</style></head><body><main><h1>Catalogue</h1><p>{count}</p>"
            f"{table if rows else ''}</main></body></html>"
        )

    async def record(self, request: Request) -> Response:
        """All of one dataset as JSON, thumbnails left out."""
        pid = request.path_params["pid"]
        dataset = next((one for one in self._catalogue.visible(_VISITOR) if one["pid"] == pid), None)
        if dataset is None:
            raise not_found(pid)
        blocks = self._catalogue.blocks(_VISITOR, pid)
        captions = [one["caption"] for one in self._catalogue.attachments(_VISITOR, pid)]
        return JSONResponse({**dataset, "origdatablocks": blocks, "attachments": captions})

    def _row(self, dataset: Document) -> str:
        pid = documents.text(dataset, "pid")
        name = html.escape(documents.text(dataset, "datasetName"))
        description = html.escape(documents.text(dataset, "description"))
        size = _readable(documents.number(dataset, "size"))
        return (
            f"<tr><td>{self._preview(pid)}</td>"
            f'<td><a href="/catalogue/{quote(pid)}">{name}</a><br><code>{html.escape(pid)}</code><br>{description}</td>'
            f"<td>{html.escape(documents.text(dataset, 'type'))}</td>"
            f"<td>{size}<br>{_counted(documents.whole(dataset, 'numberOfFiles'), 'file')}</td>"
            f"<td>{html.escape(_moment(documents.text(dataset, 'createdAt')))}</td></tr>"
        )

    def _preview(self, pid: str) -> str:
        for attachment in self._catalogue.attachments(_VISITOR, pid):
            image = documents.text(attachment, "thumbnail")
            if image.startswith("data:image/"):
                caption = html.escape(documents.text(attachment, "caption"), quote=True)
                return f'<img src="{html.escape(image, quote=True)}" alt="{caption}">'
        return ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _moment(text: str) -> str:
    """``2026-11-29 13:31:03 UTC``, of the time that SciCat writes."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S %Z") if text else ""


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
