// All phones' time beneath each other, by their ports: a hub that was lost is a column.

import { addressed, ask, query, readdress } from "../api.js";
import { el, order, part, pieces, put, say } from "../dom.js";
import { fleet } from "../fleet.js";
import { live } from "../live.js";
import { chart } from "../timeline.js";
import { CHOICES, EMPTY, FILTERS, fits } from "./device_rows.js";

export const title = "History";

const { platform: _, ...CHOSEN } = CHOICES;
/** That sorts as people count. @param {string} said */
const counted = (said) => said.replace(/\d+/g, (number) => number.padStart(4, "0"));
/** @param {Api.Device} device */
const hubOf = ({ host, port }) => `${fleet.hub ? `${host} · ` : ""}${port.includes(".") ? `Hub ${port.replace(/\.\d+$/, "")}` : port ? `Bus ${port.split("-")[0]}` : "No port"}`;
/** By host, hub, port. @param {Api.Device} device */
const place = (device) => counted(`${device.host} ${device.port ? 0 : 1} ${hubOf(device)} ${device.port} ${device.udid}`);

/**
 * @param {HTMLElement} root
 * @returns {import("../main.js").View}
 */
export function open(root) {
  const ended = new AbortController();
  const { signal } = ended;
  /** @type {Map<string, {tr: HTMLElement, show: (device: Api.Device) => void, end: () => void}>} By UDID. */
  const rows = new Map();
  /** @type {Map<string, HTMLElement>} By hub. */
  const bodies = new Map();
  /** Those that are still to be placed. @type {Api.Device[]} */
  let listed = [];
  let [timer, stale] = [0, true];

  const time = chart(
    (udids, range, aborted) => ask("GET", `v1/history${query(range)}${udids.map((udid) => `&udid=${encodeURIComponent(udid)}`).join("")}`, undefined, aborted),
    (udid) => (location.hash = `#/devices/${encodeURIComponent(udid)}`),
  );
  const search = el("input", { type: "search", "aria-label": "Search", placeholder: "Name, UDID, reason, holder, tag, model, port", oninput: () => readdress({ q: search.value }, true) });
  const selects = ["state", ...Object.keys(CHOSEN)].map((key) => {
    const select = el("select", { "aria-label": key, onchange: () => readdress({ [key]: select.value }) });
    return { key, select };
  });
  const shown = el("span", { class: "dim", role: "status" });
  const table = el("table", { class: "lanes" }, el("thead", {}, el("tr", {}, el("th", {}, "Phone"), el("th", { "aria-label": "Time" }, time.axis))));
  let placed = table.children[0];
  const empty = el("p", { class: "empty" });
  put(root, el("div", { class: "head" }, el("h1", {}, title), search, selects.map(({ select }) => select), shown), time.bar, time.plot, empty);
  time.plot.prepend(table);

  /** @param {string} udid */
  function made(udid) {
    const [link, port] = [el("a", { class: "name", dir: "auto", href: `#/devices/${encodeURIComponent(udid)}`, tabindex: -1 }), el("span", { class: "mono dim" })];
    const [lane, call] = time.lane(udid);
    return {
      tr: el("tr", {}, el("th", { scope: "row" }, link, port), el("td", {}, lane)),
      show(/** @type {Api.Device} */ device) {
        if (link.textContent !== device.name) call((link.title = device.name));
        say(link, device.name);
        say(port, device.port);
      },
      end: () => time.remove(lane),
    };
  }

  function sort() {
    const want = addressed();
    const all = [...live.devices.values()];
    if (search.value !== (want.q ?? "")) search.value = want.q ?? "";
    for (const { key, select } of selects) {
      const of = CHOSEN[/** @type {"tag"} */ (key)];
      const values = of ? [...new Set([...all.flatMap(of), want[key]])].filter(Boolean).map((value) => [counted(String(value)), value, value]).sort() : Object.entries(FILTERS).map(([value, [, word]]) => ["", value, `Now: ${word}`]);
      part(select, values, () => [el("option", { value: "" }, `All ${key}s`), ...values.map(([, value, word]) => el("option", { value }, word))]);
      select.value = want[key] ?? "";
      select.hidden = key === "host" && values.length < 2;
    }
    const is = FILTERS[want.state]?.[2] ?? Boolean;
    listed = all.filter((device) => is(device) && fits(device, want, CHOSEN)).map((device) => ({ device, key: place(device) })).sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ device }) => device);
    const kept = new Set(listed.map(({ udid }) => udid));
    for (const [udid, row] of rows) {
      if (kept.has(udid)) continue;
      row.end();
      rows.delete(udid);
    }
    say(shown, all.length ? `${listed.length} of ${all.length}` : "");
    say(empty, listed.length ? "" : all.length ? "No device fits." : EMPTY[live.standing]);
    empty.hidden = listed.length > 0;
    time.plot.hidden = !listed.length;
    placed = table.children[0];
  }

  const drawing = pieces(() => {
    if (stale) sort();
    stale = false;
    const hub = listed.length && hubOf(listed[0]);
    if (!hub) {
      while (table.lastElementChild !== placed) table.lastElementChild?.remove();
      for (const [hub, body] of bodies) if (!body.isConnected) bodies.delete(hub);
      return false;
    }
    const body = bodies.get(hub) ?? el("tbody", {}, el("tr", { class: "hub" }, el("th", { scope: "rowgroup", colspan: 2 }, hub)));
    bodies.set(hub, body);
    const lines = [body.children[0]];
    while (listed.length && hubOf(listed[0]) === hub) {
      const device = /** @type {Api.Device} */ (listed.shift());
      const row = rows.get(device.udid) ?? made(device.udid);
      rows.set(device.udid, row);
      row.show(device);
      lines.push(row.tr);
    }
    order(body, lines);
    if (placed.nextElementSibling !== body) placed.after(body);
    placed = body;
    return true;
  });

  function update() {
    stale = true;
    drawing.soon();
  }
  live.addEventListener("devices", () => {
    timer ||= setTimeout(() => {
      timer = 0;
      update();
    }, rows.size && 1000);
  }, { signal });
  live.addEventListener("standing", update, { signal });
  fleet.addEventListener("change", update, { signal });
  update();
  return {
    update,
    close() {
      ended.abort();
      time.close();
      drawing.end();
      clearTimeout(timer);
    },
  };
}
