"""A web page of somebody else's, open in the browser of whoever runs the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from playwright.async_api import Page

    from tests.page.kit import Lab

TOKEN = "the-attacker-knows-it-somehow"
"""Even so a page of another origin cannot send it: the browser asks first."""

_FETCH = """
async ({base, webhook, token}) => {
  const told = [];
  const body = JSON.stringify({name: "evil", url: "http://127.0.0.1:9/", events: ["online"]});
  const types = [null, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data",
                 "application/json", "text/plain; application/json"];
  const what = [["POST", "v1/webhooks"], ["POST", `v1/webhooks/${webhook}/test`],
                ["PATCH", `v1/webhooks/${webhook}`], ["DELETE", `v1/webhooks/${webhook}`],
                ["DELETE", "v1/sessions/current"], ["POST", "v1/reload"]];
  for (const [method, path] of what) {
    for (const type of types) {
      for (const mode of ["cors", "no-cors"]) {
        for (const bearer of token ? [null, token] : [null]) {
          const headers = {};
          if (type) headers["Content-Type"] = type;
          if (bearer) headers.Authorization = `Bearer ${bearer}`;
          const sent = method === "DELETE" ? undefined : new TextEncoder().encode(body);
          try {
            const answer = await fetch(base + path, {method, mode, headers, body: sent,
                                                     credentials: "include"});
            told.push([method, path, String(type), mode, answer.type, answer.status]);
          } catch (error) {
            told.push([method, path, String(type), mode, "error", 0]);
          }
        }
      }
    }
  }
  navigator.sendBeacon(base + "v1/webhooks", new Blob([body], {type: "text/plain"}));
  return told;
}
"""
_READ = """
async ({base}) => {
  const told = [];
  for (const path of ["v1/devices", "v1/webhooks", "v1/status", "metrics", "", "web/main.js"]) {
    for (const mode of ["cors", "no-cors"]) {
      try {
        const answer = await fetch(base + path, {mode, credentials: "include"});
        told.push([path, mode, answer.type, (await answer.text()).length]);
      } catch (error) {
        told.push([path, mode, "error", 0]);
      }
    }
    for (const tag of ["script", "img", "link"]) {
      const node = document.createElement(tag);
      if (tag === "link") node.rel = "stylesheet";
      const come = new Promise((done) => {
        node.onload = () => done("loaded");
        node.onerror = () => done("error");
      });
      node[tag === "link" ? "href" : "src"] = base + path;
      document.head.append(node);
      told.push([path, tag, await come, 0]);
    }
  }
  const events = new EventSource(base + "v1/events");
  told.push(["v1/events", "EventSource", await new Promise((done) => {
    events.onopen = () => done("opened");
    events.onerror = () => done("error");
  }), 0]);
  events.close();
  return told;
}
"""
_FORMS = """
async ({base, webhook}) => {
  const paths = ["v1/webhooks", `v1/webhooks/${webhook}/test`, "v1/reload", "v1/sessions"];
  let count = 0;
  for (const path of paths) {
    for (const enctype of ["text/plain", "application/x-www-form-urlencoded",
                           "multipart/form-data"]) {
      const frame = document.createElement("iframe");
      frame.name = `frame${count += 1}`;
      document.body.append(frame);
      const form = document.createElement("form");
      Object.assign(form, {method: "POST", action: base + path, enctype, target: frame.name});
      const field = document.createElement("input");
      field.name = '{"name": "evil", "url": "http://127.0.0.1:9/", "events": ["online"], "x": "';
      field.value = '"}';
      form.append(field);
      document.body.append(form);
      const come = new Promise((done) => { frame.onload = done; });
      form.submit();
      await come;
    }
  }
  return count;
}
"""
_FRAME = """
async ({base}) => {
  const frame = document.createElement("iframe");
  const come = new Promise((done) => { frame.onload = done; });
  frame.src = base;
  document.body.append(frame);
  await come;
  try {
    return frame.contentWindow.document.body.textContent;
  } catch (error) {
    return error.name;
  }
}
"""


class Elsewhere:
    """A server of web pages, each empty and without any policy."""

    def __init__(self, host: str = "127.0.0.1", name: str = "") -> None:
        self._host = host
        self._name = name or host
        self.base = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, 0).start()
        self.base = f"http://{self._name}:{self._runner.addresses[0][1]}/"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _page(self, request: web.Request) -> web.Response:
        del request  # whatever it is for
        text = "<!doctype html><title>Elsewhere</title><body>"
        return web.Response(text=text, content_type="text/html")


async def state(lab: Lab) -> list[Any]:
    """All that an attack could have changed."""
    paths = ("webhooks", "sessions", "leases", "silences")
    answers = [await lab.ask("GET", f"/v1/{path}") for path in paths]
    (hooks, sessions, *rest) = answers
    names = [(row["name"], row["url"], row["enabled"]) for row in hooks["webhooks"]]
    ids = [row["id"] for row in sessions["sessions"]]
    files = {path.name: path.read_bytes() for path in lab.place.rglob("*.toml") if path.is_file()}
    samples = sum("sample" in str(each.body) for each in lab.receiver.requests)
    return [names, ids, rest, files, samples]


async def change(page: Page, base: str, webhook: str, token: str = "") -> list[Any]:
    """Ask for changes by `fetch`, in every way that a page has: what each came to."""
    how = {"base": base, "webhook": webhook, "token": token}
    told: list[Any] = await page.evaluate(_FETCH, how)
    return told


async def read(page: Page, base: str) -> list[Any]:
    """Ask for what there is to read: what each came to."""
    told: list[Any] = await page.evaluate(_READ, {"base": base})
    return told


async def submit(page: Page, base: str, webhook: str) -> None:
    """Send forms, which are asked for without any question before."""
    assert await page.evaluate(_FORMS, {"base": base, "webhook": webhook}) == 12


async def frame(page: Page, base: str) -> str:
    """Show the page in a frame: what can be seen of it, or the error's name."""
    return str(await page.evaluate(_FRAME, {"base": base}))
