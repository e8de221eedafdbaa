"""The page that people look at: its files, as they lie in `agent/web`."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from aiohttp import web

from agent.api.route import Route, Routes, Stream
from agent.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = Path(__file__).parents[1] / "web"
INDEX: Final = "index.html"
_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

routes = Routes("page", "The page itself.", name="Of one of its files.")


class File(NamedTuple):
    """One of its files."""

    content_type: str
    body: bytes
    packed: bytes
    """With gzip."""
    etag: str


@routes.add(
    Route(
        "GET",
        "/",
        stream=Stream("text/html", "HTML; what it shows it asks this API for."),
        who="everybody",
    )
)
async def show_page(request: web.Request) -> web.Response:
    """The page, for a browser."""
    return await _serve(request, INDEX)


@routes.add(
    Route(
        "GET",
        "/web/{name:.+}",
        stream=Stream("text/javascript", "A script, a style sheet or an image."),
        errors={404: "the page has no such file"},
        who="everybody",
    )
)
async def page_file(request: web.Request) -> web.Response:
    """A part of the page."""
    return await _serve(request, request.match_info["name"])


@cache
def files() -> Mapping[str, File]:
    """All files of the page, by their names with `/`.

    Read together, when the first is asked for: an upgrade under a running agent mixes nothing of
    two versions. Raises OSError.
    """
    return {
        path.relative_to(FOLDER).as_posix(): _file(path)
        for path in sorted(FOLDER.rglob("*"))
        if path.suffix in _TYPES
    }


def _file(path: Path) -> File:
    body = path.read_bytes()
    return File(
        content_type=_TYPES[path.suffix],
        body=body,
        packed=gzip.compress(body, mtime=0),
        etag=hashlib.sha256(body).hexdigest()[:32],
    )


async def _serve(request: web.Request, name: str) -> web.Response:
    if not files.cache_info().currsize:
        await in_thread(files, "read the page")
    file = files().get(name)
    if file is None:
        raise web.HTTPNotFound(text=f"the page has no file {name!r}")
    headers = {
        # Asked for again each time, and answered with 304 as long as it is the same.
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
    }
    body = file.body
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        body = file.packed
    same = any(each.value == file.etag for each in request.if_none_match or ())
    # What is not sent again bears the same headers: browsers keep those of the last answer.
    response = web.Response(
        status=304 if same else 200,
        body=None if same else body,
        headers=headers,
        content_type=file.content_type,
        charset="utf-8",
    )
    response.headers["ETag"] = f'W/"{file.etag}"'  # of what is shown, however it is packed
    return response
