// All devices: what needs a person on top; and one of them beside the table.

import { query } from "../api.js";
import { open as openDevice } from "../device.js";
import { el, part, put, say } from "../dom.js";
import { shape } from "../format.js";
import { live } from "../live.js";
import * as silences from "../silence.js";
import { CHOICES, COLUMNS, EMPTY, FILTERS, fits, Rows } from "./device_rows.js";

export const title = "Devices";

/** Milliseconds that rows are drawn for in one frame; the browser lays them out after that. */
const BUDGET = 16;
/** Milliseconds after the pointer's last move in which no row moves away under it. */
const HELD = 5_000;

const SELECTS = { platform: CHOICES.platform, tag: CHOICES.tag, host: CHOICES.host };

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").Route} route
 * @returns {import("../main.js").View}
 */
export function open(root, route) {
  const ended = new AbortController();
  const { signal } = ended;
  /** What the address says. @type {Record<string, string>} */
  let want = { udid: "" };
  /** Who is to be looked at. @type {Set<string>} */
  const changed = new Set();
  /** Each as it is counted. @type {Map<string, {device: Api.Device, fits: boolean}>} */
  const counted = new Map();
  /** @type {(() => void) | null} */
  let closeDevice = null;
  let [frame, held, timer] = [0, 0, 0];
  /** @type {Element | null} */
  let marked = null;

  const counts = Object.entries(FILTERS).map(([key, [sign, word, is]]) => {
    const number = el("b");
    const button = el("button", { class: `count is-${key}`, onclick: () => go({ state: want.state === key ? "" : key }) }, number, shape(sign), ` ${word}`);
    return { key, is, number, button, count: 0 };
  });
  const search = el("input", { type: "search", "aria-label": "Search", placeholder: "Name, UDID, reason, holder, tag, model, port" });
  const selects = Object.entries(SELECTS).map(([key, of]) => {
    const select = el("select", { "aria-label": key });
    select.onchange = () => go({ [key]: select.value });
    return { key, of, select, values: /** @type {Map<string, number>} How many have it. */ (new Map()) };
  });
  const shown = el("span", { class: "dim", role: "status" });
  const inForce = el("ul", { class: "plain" });
  const panel = el("section", { class: "card" }, el("h2", {}, "Silences in force"), inForce);
  const table = el("table", { class: "devices" }, el("thead", {}, el("tr", {}, COLUMNS.map((name) => el("th", {}, name)))));
  const rows = new Rows(table);
  const empty = el("div", { class: "empty" });
  const drawer = el("aside", { class: "card drawer", tabindex: -1, "aria-label": "Device" });
  const beside = el("div", { class: "beside" }, el("div", {}, panel, el("div", { class: "head" }, search, selects.map(({ select }) => select), shown), table, empty), drawer);
  put(root, el("h1", { class: "unseen" }, title), el("div", { class: "counts", role: "group", "aria-label": "Filter" }, counts.map(({ button }) => button)), beside);

  /** @param {Record<string, string>} change */
  function address(change) {
    const { udid, ...rest } = { ...want, ...change };
    return `#/devices${udid && `/${encodeURIComponent(udid)}`}${query(rest)}`;
  }

  /** @param {Record<string, string>} change */
  function go(change) {
    history.pushState(null, "", address(change)); // setting `location.hash` has all laid out at once
    dispatchEvent(new Event("hashchange"));
  }

  /** @param {{device: Api.Device, fits: boolean} | undefined} one @param {number} by 1 or -1. */
  function count(one, by) {
    if (!one) return;
    for (const { of, values } of selects) {
      for (const value of of(one.device)) {
        if (!value) continue;
        const number = (values.get(value) ?? 0) + by;
        if (number) values.set(value, number);
        else values.delete(value);
      }
    }
    if (one.fits) for (const each of counts) if (each.is(one.device)) each.count += by;
  }

  /** Take one in as it is now. @param {string} udid */
  function sort(udid) {
    const device = live.devices.get(udid);
    const one = device && { device, fits: fits(device, want, SELECTS) };
    count(counted.get(udid), -1);
    count(one, 1);
    if (one) counted.set(udid, one);
    else counted.delete(udid);
    rows.set(udid, device, Boolean(one?.fits && (FILTERS[want.state]?.[2] ?? Boolean)(one.device)));
  }

  function draw() {
    frame = 0;
    changed.forEach(sort);
    changed.clear();
    clearTimeout(timer);
    const wait = held - performance.now();
    if (wait > 0) timer = setTimeout(schedule, wait);
    if (!rows.draw(performance.now() + BUDGET, wait > 0)) schedule();
    const [all, listed] = [counted.size, rows.list.length];
    for (const { count, number } of counts) say(number, all ? String(count) : "–");
    const current = rows.known.get(want.udid)?.tr ?? null;
    if (marked !== current) {
      marked?.removeAttribute("aria-current");
      current?.setAttribute("aria-current", "true");
      marked = current;
    }
    say(shown, all ? `${listed} of ${all}` : "");
    for (const { key, select, values: known } of selects) {
      const values = [...new Set([...known.keys(), want[key]])].filter(Boolean).sort();
      part(select, values, () => ["", ...values].map((value) => el("option", { value }, value || `All ${key}s`)));
      select.value = want[key] ?? "";
      select.hidden = key === "host" && values.length < 2;
      if (key === "host") table.classList.toggle("hosts", !select.hidden); // a class put on and off again has all rows laid out
    }
    const why = listed ? "" : all ? (want.state === "needs" ? "Nothing needs you." : "No device fits.") : EMPTY[live.standing];
    table.hidden = why !== "";
    part(empty, why, () => [
      el("p", {}, why),
      all
        ? el("button", { onclick: () => go({ state: "", q: "", platform: "", tag: "", host: "" }) }, "Show all")
        : live.standing === "live" && el("p", {}, "Plug one in with a cable that carries data; on Android turn on USB debugging, on an iPhone tap Trust. ", el("a", { href: "#/agent" }, "What the agent finds missing")),
    ]);
    empty.hidden = !why;
    panel.hidden = want.state !== "silenced";
    part(inForce, live.silences, () => (live.silences.length ? live.silences.map(silences.row) : [el("li", { class: "dim" }, "None.")]));
  }

  function schedule() {
    frame ||= requestAnimationFrame(draw);
  }

  function lookAtAll() {
    for (const udid of [...counted.keys(), ...live.devices.keys()]) changed.add(udid);
  }

  /** @param {import("../main.js").Route} route */
  function take({ path: [udid = ""], query }) {
    const before = want.udid;
    want = { ...Object.fromEntries(query), udid };
    search.value = want.q ?? "";
    for (const { key, button } of counts) button.setAttribute("aria-pressed", String(key === want.state));
    held = 0;
    lookAtAll();
    drawer.hidden = !udid;
    beside.classList.toggle("open", Boolean(udid));
    if (udid !== before) {
      closeDevice?.();
      closeDevice = udid ? openDevice(drawer, udid, (other) => (other ? location.replace(address({ udid: other })) : go({ udid: "" }))) : null;
    }
    draw();
    return before;
  }

  search.addEventListener("input", () => {
    want.q = search.value;
    history.replaceState(null, "", address({}));
    held = 0;
    lookAtAll();
    schedule();
  });
  for (const kind of ["pointermove", "pointerdown", "wheel"]) table.addEventListener(kind, () => (held = performance.now() + HELD), { passive: true });
  table.addEventListener("pointerleave", () => {
    held = 0;
    schedule();
  });
  table.addEventListener("click", (event) => {
    const udid = /** @type {Element} */ (event.target).closest("tr")?.dataset.udid;
    if (!udid || event.ctrlKey || event.metaKey || event.shiftKey || String(getSelection())) return;
    event.preventDefault();
    go({ udid });
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && want.udid && event.target !== search) go({ udid: "" });
  });
  live.addEventListener("devices", (/** @type {any} */ { detail: { all, udids } }) => {
    if (all) lookAtAll();
    else for (const udid of udids) changed.add(udid);
    schedule();
  }, { signal });
  for (const kind of ["standing", "silences"]) live.addEventListener(kind, schedule, { signal });
  take(route);

  return {
    update(route) {
      const before = take(route);
      if (want.udid === before) return;
      if (want.udid) drawer.focus();
      else {
        const row = rows.known.get(before)?.tr;
        (row?.isConnected ? row.querySelector("a") : search)?.focus();
      }
    },
    close() {
      ended.abort();
      closeDevice?.();
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    },
  };
}
