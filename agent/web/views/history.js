// All phones' time beneath each other, by their ports: a hub that was lost is a column.

import { ask, query as text } from "../api.js";
import { el, order, part, put, say } from "../dom.js";
import { CHOICES, EMPTY, FILTERS, fits } from "../filter.js";
import { fleet } from "../fleet.js";
import { shape, STATES } from "../format.js";
import { live } from "../live.js";
import { chart } from "../timeline.js";

export const title = "History";

/** Milliseconds of one frame for rows that come, and the least between two looks at the order. */
const [BUDGET, EVERY] = [8, 1000];
const CHOSEN = { tag: CHOICES.tag, hub: CHOICES.hub, host: CHOICES.host };

/** That sorts as people count. */
const counted = (/** @type {string} */ said) => said.replace(/\d+/g, (number) => number.padStart(4, "0"));
/** @param {Api.Device} device */
const hubOf = ({ host, port }) => `${fleet.hub ? `${host} · ` : ""}${port ? (port.includes(".") ? `Hub ${port.replace(/\.\d+$/, "")}` : `Bus ${port.split("-")[0]}`) : "No port"}`;
/** By host, then hub, then port; those at no port last. @param {Api.Device} device */
const place = (device) => counted([device.host, device.port ? "" : "~", device.port.replace(/\.?\d+$/, ""), device.port, device.udid].join("\n"));

/**
 * @param {HTMLElement} root
 * @returns {import("../main.js").View}
 */
export function open(root) {
  const ended = new AbortController();
  const { signal } = ended;
  /** @type {Record<string, string>} */
  let want = {};
  /** @type {Map<string, {tr: HTMLElement, show: (device: Api.Device) => void, end: () => void}>} By UDID. */
  const rows = new Map();
  /** @type {Map<string, HTMLElement>} By hub. */
  const bodies = new Map();
  let [timer, frame, stale, next] = [0, 0, false, 0];
  /** @type {Api.Device[]} */
  let listed = [];
  /** What stands in the table already. @type {Element[]} */
  let hubs = [];

  const time = chart(
    async (udids, range, aborted) => ask("GET", `v1/history${text(range)}${udids.map((udid) => `&udid=${encodeURIComponent(udid)}`).join("")}`, undefined, aborted),
    (udid) => (location.hash = `#/devices/${encodeURIComponent(udid)}`),
  );
  const search = el("input", { type: "search", "aria-label": "Search", placeholder: "Name, UDID, reason, holder, tag, model, port" });
  const state = el("select", { "aria-label": "state" }, el("option", { value: "" }, "All states"), Object.entries(FILTERS).map(([key, [, word]]) => el("option", { value: key }, `${word} now`)));
  const selects = Object.entries(CHOSEN).map(([key, of]) => ({ key, of, select: el("select", { "aria-label": key }) }));
  for (const { key, select } of [{ key: "state", select: state }, ...selects]) select.onchange = () => go({ [key]: select.value }, true);
  search.oninput = () => go({ q: search.value });
  const shown = el("span", { class: "dim", role: "status" });
  const scale = el("th", { scope: "col" }, el("span", { class: "unseen" }, "Time"));
  scale.append(time.axis);
  const table = el("table", { class: "lanes" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Phone"), scale)));
  const empty = el("p", { class: "empty" });
  put(root, el("div", { class: "head" }, el("h1", {}, title), search, state, selects.map(({ select }) => select), shown), time.bar, time.plot, empty);
  time.plot.prepend(table);

  /** @param {Record<string, string>} change @param {boolean} [chosen] */
  function go(change, chosen) {
    const [path, said] = location.hash.split("?");
    const address = `${path}${text({ ...Object.fromEntries(new URLSearchParams(said)), ...change })}`;
    history[chosen ? "pushState" : "replaceState"](null, "", address);
    dispatchEvent(new Event("hashchange"));
  }

  /** @param {string} udid */
  function made(udid) {
    const [sign, link, port] = [el("span"), el("a", { class: "name", href: `#/devices/${encodeURIComponent(udid)}`, "data-key": udid }), el("span", { class: "mono dim" })];
    const lane = time.lane(udid, udid);
    return {
      tr: el("tr", {}, el("th", { scope: "row" }, sign, link, port), el("td", {}, lane.place)),
      show(/** @type {Api.Device} */ device) {
        part(sign, device.state, () => [el("span", { class: `is-${device.state}`, title: STATES[device.state].word }, shape(STATES[device.state].shape), el("span", { class: "unseen" }, STATES[device.state].word))]);
        if (link.textContent !== device.name) lane.call(device.name);
        say(link, device.name);
        link.title = `${device.name} ${udid}`;
        say(port, device.port);
      },
      end: () => time.remove(lane.place),
    };
  }

  /** Which phones there are, and where they stand. */
  function sort() {
    const all = [...live.devices.values()];
    for (const { key, of, select } of selects) {
      const values = [...new Set([...all.flatMap(of), want[key]])].filter(Boolean).map(String).sort((a, b) => (counted(a) < counted(b) ? -1 : 1));
      part(select, values, () => ["", ...values].map((value) => el("option", { value }, value || `All ${key}s`)));
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
    next = 0;
    hubs = [table.children[0]];
  }

  /** Those that are new a few at a time, hub by hub. */
  function draw() {
    frame = 0;
    const until = performance.now() + BUDGET;
    if (stale) sort();
    stale = false;
    while (next < listed.length) {
      if (performance.now() > until) {
        frame = requestAnimationFrame(draw);
        return;
      }
      const hub = hubOf(listed[next]);
      let body = bodies.get(hub);
      if (!body) bodies.set(hub, (body = el("tbody", {}, el("tr", { class: "hub" }, el("th", { scope: "rowgroup", colspan: 2 }, hub)))));
      const lines = [body.children[0]];
      for (; next < listed.length && hubOf(listed[next]) === hub; next++) {
        const device = listed[next];
        const row = rows.get(device.udid) ?? made(device.udid);
        rows.set(device.udid, row);
        row.show(device);
        lines.push(row.tr);
      }
      order(body, lines);
      const last = hubs[hubs.length - 1];
      if (last.nextElementSibling !== body) last.after(body);
      hubs.push(body);
    }
    while (table.lastElementChild !== hubs[hubs.length - 1]) table.lastElementChild?.remove();
    for (const [hub, body] of bodies) if (!body.isConnected) bodies.delete(hub);
  }

  function soon() {
    stale = true;
    frame ||= requestAnimationFrame(draw);
  }
  const heard = (/** @type {any} */ { detail }) => {
    if (detail.all || !rows.size) soon();
    else timer ||= setTimeout(() => {
      timer = 0;
      soon();
    }, EVERY);
  };
  live.addEventListener("devices", heard, { signal });
  live.addEventListener("standing", soon, { signal });
  fleet.addEventListener("change", soon, { signal });

  function update() {
    want = Object.fromEntries(new URLSearchParams(location.hash.split("?")[1]));
    if (search.value !== (want.q ?? "")) search.value = want.q ?? "";
    state.value = want.state ?? "";
    soon();
  }
  update();
  return {
    update,
    close() {
      ended.abort();
      time.close();
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    },
  };
}
