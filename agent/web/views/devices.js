// All devices: what needs a person on top; and one of them beside the table.

import { query } from "../api.js";
import { open as openDevice } from "../device.js";
import { el, order, part, put, say } from "../dom.js";
import { age, at, setAge, shape, stateOf, STATES } from "../format.js";
import { live } from "../live.js";
import * as silences from "../silence.js";

export const title = "Devices";

/** Rows that one frame adds. */
const SLICE = 50;
/** Milliseconds after the pointer's last move in which no row moves away under it. */
const HELD = 5_000;
const KINDS = Object.keys(STATES);
const COLUMNS = ["State", "Phone", "Since", "Model", "Reason or holder", "Port", "Tags", "Host"];

const EMPTY = { connecting: "Waiting for the agent …", live: "No phone is here.", gone: "Waiting for the agent …", refused: "Sign in to look.", held: "Waiting for the agent's events …" };

/** @param {Api.Device} device */
const needs = ({ silence, state, flapping }) => !silence && (state === "offline" || flapping);

/** @type {Record<string, [string, string, (device: Api.Device) => boolean]>} */
const FILTERS = {
  needs: ["▲", "Needs you", needs],
  ...Object.fromEntries(Object.entries(STATES).map(([key, { shape, word }]) => [key, [shape, word, (device) => device.state === key]])),
  flapping: ["≈", "Flapping", (device) => device.flapping],
  silenced: ["◌", "Silenced", (device) => device.silence !== null],
};

/** @type {Record<string, (device: Api.Device) => (string | null)[]>} */
const SELECTS = { platform: (device) => [device.platform], tag: (device) => device.tags, host: (device) => [device.host] };

/** @param {Api.Device} device */
const rank = (device) => (needs(device) ? Number(device.state !== "offline") : 2 + KINDS.indexOf(device.state));

/**
 * What needs a person first; of the same the latest. (`localeCompare` takes ten times as long.)
 *
 * @param {Api.Device} a
 * @param {Api.Device} b
 */
function compare(a, b) {
  const [x, y] = [a.since ?? "", b.since ?? ""];
  return rank(a) - rank(b) || Number(x < y) - Number(x > y) || (a.udid < b.udid ? -1 : 1);
}

/** @param {string} udid */
function makeRow(udid) {
  const cells = COLUMNS.map(() => el("td"));
  const [state, phone, long, model, reason, port, tags, host] = cells;
  const [link, badges, since] = [el("a", { class: "name", href: `#/devices/${encodeURIComponent(udid)}` }), el("span", { class: "tags" }), age(null)];
  const [maker, platform] = [el("div"), el("div", { class: "dim small" })];
  put(phone, link, el("span", { class: "mono dim" }, udid), badges);
  put(long, since);
  put(model, maker, platform);
  tags.className = "tags";
  const row = {
    tr: el("tr", { "data-udid": udid }, cells),
    device: /** @type {Api.Device | null} */ (null),
    /** @param {Api.Device} device */
    update(device) {
      const { flapping, silence, visibility } = (row.device = device);
      part(state, device.state, () => [stateOf(device.state)]);
      say(link, device.name);
      link.title = device.name;
      setAge(since, device.since);
      say(maker, device.model);
      say(platform, device.platform ?? "never seen");
      say(reason, device.reason);
      say(port, device.port);
      say(host, device.host);
      part(tags, device.tags, () => device.tags.map((tag) => el("span", { class: "tag" }, tag)));
      part(badges, [flapping, silence, visibility], () => [
        flapping && el("span", { class: "tag warn" }, "flapping"),
        silence && el("span", { class: "tag warn" }, "silenced until ", at(silence.ends)),
        visibility === "public" && el("span", { class: "tag" }, "public: not called back"),
      ]);
    },
  };
  return row;
}

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
  /** @type {Map<string, ReturnType<typeof makeRow>>} */
  const rows = new Map();
  /** @type {(() => void) | null} */
  let closeDevice = null;
  let [frame, held, timer] = [0, 0, 0];
  /** @type {Element | undefined} */
  let marked;

  const counts = Object.entries(FILTERS).map(([key, [sign, word, is]]) => {
    const number = el("b");
    const button = el("button", { class: `count is-${key}`, onclick: () => go({ state: want.state === key ? "" : key }) }, number, shape(sign), ` ${word}`);
    return { key, is, number, button };
  });
  const search = el("input", { type: "search", "aria-label": "Search", placeholder: "Name, UDID, reason, holder, tag, model, port" });
  const selects = Object.entries(SELECTS).map(([key, of]) => {
    const select = el("select", { "aria-label": key });
    select.onchange = () => go({ [key]: select.value });
    return { key, of, select };
  });
  const shown = el("span", { class: "dim", role: "status" });
  const inForce = el("ul", { class: "plain" });
  const panel = el("section", { class: "card" }, el("h2", {}, "Silences in force"), inForce);
  const body = el("tbody");
  const table = el("table", { class: "devices" }, el("thead", {}, el("tr", {}, COLUMNS.map((name) => el("th", {}, name)))), body);
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

  /** @param {Api.Device} device */
  function rowOf(device) {
    const row = rows.get(device.udid) ?? makeRow(device.udid);
    if (row.device !== device) row.update(device);
    rows.set(device.udid, row);
    return row.tr;
  }

  function draw() {
    frame = 0;
    const all = [...live.devices.values()];
    const words = (want.q ?? "").toLowerCase().split(/\s+/);
    const fits = all.filter((device) => {
      if (!selects.every(({ key, of }) => !want[key] || of(device).includes(want[key]))) return false;
      const { name, udid, reason, holder, tags, model, port } = device;
      const text = want.q && [name, udid, reason, holder, model, port, ...tags].join("\n").toLowerCase();
      return !text || words.every((word) => text.includes(word));
    });
    for (const { is, number } of counts) say(number, all.length ? String(fits.filter(is).length) : "–");
    const list = fits.filter(FILTERS[want.state]?.[2] ?? (() => true)).sort(compare);
    for (const udid of rows.keys()) {
      const device = live.devices.get(udid);
      if (device) rowOf(device);
      else rows.delete(udid);
    }
    clearTimeout(timer);
    const wait = held - performance.now();
    if (wait > 0) timer = setTimeout(schedule, wait);
    else {
      const some = list.slice(0, body.childElementCount + SLICE);
      order(body, some.map(rowOf));
      if (some.length < list.length) schedule();
    }
    const current = rows.get(want.udid)?.tr;
    if (marked !== current) {
      marked?.removeAttribute("aria-current");
      current?.setAttribute("aria-current", "true");
      marked = current;
    }
    say(shown, all.length ? `${list.length} of ${all.length}` : "");
    for (const { key, of, select } of selects) {
      const values = [...new Set([...all.flatMap(of), want[key]])].filter(Boolean).sort();
      part(select, values, () => ["", ...values].map((value) => el("option", { value }, value || `All ${key}s`)));
      select.value = want[key] ?? "";
      select.hidden = key === "host" && values.length < 2;
      if (key === "host") table.classList.toggle("hosts", !select.hidden); // a class put on and off again has all rows laid out
    }
    const why = list.length ? "" : all.length ? (want.state === "needs" ? "Nothing needs you." : "No device fits.") : EMPTY[live.standing];
    table.hidden = why !== "";
    part(empty, why, () => [
      el("p", {}, why),
      all.length
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

  /** @param {import("../main.js").Route} route */
  function take({ path: [udid = ""], query }) {
    const before = want.udid;
    want = { ...Object.fromEntries(query), udid };
    search.value = want.q ?? "";
    for (const { key, button } of counts) button.setAttribute("aria-pressed", String(key === want.state));
    held = 0;
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
    schedule();
  });
  for (const kind of ["pointermove", "pointerdown", "wheel"]) body.addEventListener(kind, () => (held = performance.now() + HELD), { passive: true });
  body.addEventListener("pointerleave", () => {
    held = 0;
    schedule();
  });
  body.addEventListener("click", (event) => {
    const udid = /** @type {Element} */ (event.target).closest("tr")?.dataset.udid;
    if (!udid || event.ctrlKey || event.metaKey || event.shiftKey || String(getSelection())) return;
    event.preventDefault();
    go({ udid });
  });
  root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && want.udid && event.target !== search) go({ udid: "" });
  });
  for (const kind of ["devices", "standing", "silences"]) live.addEventListener(kind, schedule, { signal });
  take(route);

  return {
    update(route) {
      const before = take(route);
      if (want.udid === before) return;
      if (want.udid) drawer.focus();
      else {
        const row = rows.get(before)?.tr;
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
