// All devices: what needs a person on top; and one of them beside the table.

import { query } from "../api.js";
import { open as openDevice } from "../device.js";
import { el, fill, order, put, say } from "../dom.js";
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

/** @param {Api.Device} device */
const needs = ({ silence, state, flapping }) => !silence && (state === "offline" || flapping);

/** @type {Record<string, [string, string, (device: Api.Device) => boolean]>} */
const FILTERS = {
  needs: ["▲", "Needs you", needs],
  ...Object.fromEntries(Object.entries(STATES).map(([key, { shape, word }]) => [key, [shape, word, (device) => device.state === key]])),
  flapping: ["≈", "Flapping", (device) => device.flapping],
  silenced: ["◌", "Silenced", (device) => device.silence !== null],
};

/** @param {Api.Device} device */
const rank = (device) => (needs(device) ? Number(device.state !== "offline") : 2 + KINDS.indexOf(device.state));

/**
 * What needs a person first; of the same the latest.
 *
 * @param {Api.Device} a
 * @param {Api.Device} b
 */
function compare(a, b) {
  const [x, y] = [a.since ?? "", b.since ?? ""];
  return rank(a) - rank(b) || (x === y ? (a.udid < b.udid ? -1 : 1) : x < y ? 1 : -1);
}

/** @typedef {{tr: HTMLTableRowElement, device: Api.Device | null, update: (device: Api.Device) => void}} Row */

/**
 * @param {string} udid
 * @returns {Row}
 */
function makeRow(udid) {
  const link = el("a", { class: "name", href: `#/devices/${encodeURIComponent(udid)}` });
  const badges = el("span", { class: "tags" });
  const since = age(null);
  const cells = COLUMNS.map((name) => el("td", { role: "cell", class: `c-${name.split(" ")[0].toLowerCase()}` }));
  const [state, phone, long, model, reason, port, tags, host] = cells;
  tags.classList.add("tags");
  put(phone, link, el("span", { class: "mono dim" }, udid), badges);
  put(long, since);
  const [kind, platform] = [el("div"), el("div", { class: "dim small" })];
  put(model, kind, platform);
  const row = {
    tr: el("tr", { role: "row", "data-udid": udid }, cells),
    device: /** @type {Api.Device | null} */ (null),
    /** @param {Api.Device} device */
    update(device) {
      const was = row.device;
      row.device = device;
      if (was?.state !== device.state) fill(state, stateOf(device.state));
      say(link, device.name);
      setAge(since, device.since);
      say(kind, device.model);
      say(platform, device.platform ?? "");
      say(reason, device.reason || device.holder);
      say(port, device.port);
      say(host, device.host);
      if (String(was?.tags) !== String(device.tags)) fill(tags, device.tags.map((tag) => el("span", { class: "tag" }, tag)));
      const marks = /** @param {Api.Device | null} of */ (of) => of && [of.flapping, of.visibility, of.silence?.ends];
      if (String(marks(was)) !== String(marks(device))) {
        fill(
          badges,
          device.flapping && el("span", { class: "tag warn" }, "flapping"),
          device.silence && el("span", { class: "tag warn" }, "silenced until ", at(device.silence.ends)),
          device.visibility === "public" && el("span", { class: "tag" }, "public: not called back"),
        );
      }
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
  /** What the address says. */
  let want = { udid: "", state: "", q: "", platform: "", tag: "", host: "" };
  /** @type {Map<string, Row>} */
  const rows = new Map();
  /** @type {(() => void) | null} */
  let closeDevice = null;
  let [frame, held, timer] = [0, 0, 0];
  /** @type {Element | undefined} */
  let marked;

  const counts = Object.entries(FILTERS).map(([key, [sign, word]]) => {
    const number = el("b", {}, "–");
    const button = el("button", { type: "button", class: `count is-${key}`, onclick: () => go({ state: want.state === key ? "" : key }) }, number, shape(sign), ` ${word}`);
    return { key, number, button };
  });
  const search = el("input", { type: "search", "aria-label": "Search", placeholder: "Name, UDID, reason, holder, tag, model, port" });
  const selects = /** @type {const} */ (["platform", "tag", "host"]).map((key) => {
    const select = el("select", { "aria-label": key, onchange: () => go({ [key]: select.value }) });
    return { key, select };
  });
  const number = el("span", { class: "dim", role: "status" });
  const inForce = el("ul", { class: "plain" });
  const silenceAll = el("button", { type: "button", onclick: () => silences.begin([{ kind: "all", value: "" }, ...["tag", "platform"].flatMap((kind) => valuesOf(/** @type {"tag"} */ (kind)).map((value) => /** @type {silences.What} */ ({ kind, value })))]) }, "Silence…");
  const panel = el("section", { class: "card", hidden: true }, el("h2", {}, "Silences in force"), inForce, silenceAll);
  const body = el("tbody", { role: "rowgroup" });
  const table = el("table", { role: "table", class: "devices" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, COLUMNS.map((name) => el("th", { role: "columnheader" }, name)))), body);
  const empty = el("div", { class: "empty" });
  const drawer = el("aside", { class: "card drawer", hidden: true, tabindex: -1, "aria-label": "Device" });
  const beside = el("div", { class: "beside" }, el("div", {}, panel, el("div", { class: "head" }, search, selects.map((each) => each.select), number), table, empty), drawer);
  put(root, el("h1", { class: "unseen" }, title), el("div", { class: "counts", role: "group", "aria-label": "Filter by state" }, counts.map((each) => each.button)), beside);

  /** @param {Partial<typeof want>} change */
  function address(change) {
    const { udid, ...rest } = { ...want, ...change };
    return `#/devices${udid && `/${encodeURIComponent(udid)}`}${query(rest)}`;
  }

  /** @param {Partial<typeof want>} change */
  function go(change) {
    history.pushState(null, "", address(change)); // `location.hash` would have all laid out at once
    dispatchEvent(new Event("hashchange"));
  }

  /** @param {"platform" | "tag" | "host"} key */
  function valuesOf(key) {
    const all = [...live.devices.values()].flatMap((device) => (key === "tag" ? device.tags : (device[key] ?? [])));
    return [...new Set(all)].sort();
  }

  /** @param {Api.Device} device */
  function rowOf(device) {
    let row = rows.get(device.udid);
    if (!row) {
      row = makeRow(device.udid);
      row.update(device);
      rows.set(device.udid, row);
    }
    return row;
  }

  function draw() {
    frame = 0;
    const words = want.q.toLowerCase().split(/\s+/);
    const fits = [...live.devices.values()].filter((device) => {
      const { name, udid, reason, holder, tags, model, port, platform, host } = device;
      if ((want.platform && platform !== want.platform) || (want.tag && !tags.includes(want.tag)) || (want.host && host !== want.host)) return false;
      const text = want.q && [name, udid, reason, holder, model, port, ...tags].join("\n").toLowerCase();
      return words.every((word) => text.includes(word));
    });
    for (const { key, number } of counts) say(number, live.devices.size ? String(fits.filter(FILTERS[key][2]).length) : "–");
    const list = (want.state in FILTERS ? fits.filter(FILTERS[want.state][2]) : fits).sort(compare);
    for (const [udid, row] of rows) {
      const device = live.devices.get(udid);
      if (!device) rows.delete(udid);
      else if (row.device !== device) row.update(device);
    }
    clearTimeout(timer);
    const wait = held - performance.now();
    if (wait > 0) timer = setTimeout(schedule, wait);
    else {
      const some = list.slice(0, body.childElementCount + SLICE);
      order(body, some.map((device) => rowOf(device).tr));
      if (some.length < list.length) schedule();
    }
    const current = rows.get(want.udid)?.tr;
    if (marked !== current) {
      marked?.removeAttribute("aria-current");
      current?.setAttribute("aria-current", "true");
      marked = current;
    }
    say(number, live.devices.size ? `${list.length} of ${live.devices.size}` : "");
    drawChoices();
    drawEmpty(list.length);
  }

  function drawChoices() {
    for (const { key, select } of selects) {
      const values = valuesOf(key);
      if (want[key] && !values.includes(want[key])) values.push(want[key]);
      if (select.dataset.values !== String(values)) {
        select.dataset.values = String(values);
        fill(select, el("option", { value: "" }, `All ${key}s`), values.map((value) => el("option", { value }, value)));
      }
      select.value = want[key];
      if (key === "host") select.hidden = values.length < 2;
    }
    table.classList.toggle("hosts", !selects[2].select.hidden);
  }

  /** @param {number} listed */
  function drawEmpty(listed) {
    const known = live.devices.size > 0;
    const why = listed ? "" : known ? "filter" : live.standing;
    table.hidden = why !== "";
    empty.hidden = why === "";
    if (empty.dataset.why === why + want.state) return;
    empty.dataset.why = why + want.state;
    if (why === "filter") {
      fill(empty, el("p", {}, want.state === "needs" ? "Nothing needs you." : "No device fits what is chosen."), el("button", { type: "button", onclick: () => go({ state: "", q: "", platform: "", tag: "", host: "" }) }, "Show all"));
    } else if (why === "live") {
      fill(empty, el("p", {}, "No phone is here."), el("p", {}, "Plug one in with a cable that carries data; on Android turn on USB debugging, on an iPhone tap Trust. ", el("a", { href: "#/agent" }, "What the agent finds missing"), "."));
    } else fill(empty, why && el("p", {}, why === "refused" ? "Sign in to look." : "Waiting for the agent …"));
  }

  function drawSilences() {
    panel.hidden = want.state !== "silenced";
    const text = JSON.stringify(live.silences);
    if (panel.hidden || inForce.dataset.text === text) return;
    inForce.dataset.text = text;
    fill(inForce, live.silences.length ? live.silences.map(silences.row) : el("li", { class: "dim" }, "None."));
  }

  function schedule() {
    frame ||= requestAnimationFrame(draw);
  }

  /** @param {import("../main.js").Route} route */
  function take({ path, query }) {
    const before = want.udid;
    const [udid = ""] = path;
    want = { ...want, udid };
    for (const key of /** @type {const} */ (["state", "q", "platform", "tag", "host"])) want[key] = query.get(key) ?? "";
    if (document.activeElement !== search || !want.q) search.value = want.q;
    for (const { key, button } of counts) button.setAttribute("aria-pressed", String(key === want.state));
    held = 0;
    if (udid !== before) {
      closeDevice?.();
      drawer.hidden = !udid;
      beside.classList.toggle("open", Boolean(udid));
      closeDevice = udid ? openDevice(drawer, udid, (udid) => (udid ? location.replace(address({ udid })) : go({ udid }))) : null;
    }
    drawSilences();
    draw();
    return before;
  }

  search.addEventListener("input", () => {
    want.q = search.value.trim();
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
    const tr = /** @type {Element} */ (event.target).closest("tr");
    if (!tr || event.ctrlKey || event.metaKey || event.shiftKey || String(getSelection())) return;
    event.preventDefault();
    go({ udid: tr.dataset.udid });
  });
  root.addEventListener("keydown", (event) => {
    const tr = /** @type {Element} */ (event.target).closest("tbody tr");
    const to = event.key === "ArrowDown" ? tr?.nextElementSibling : event.key === "ArrowUp" ? tr?.previousElementSibling : null;
    if (to) {
      event.preventDefault();
      to.querySelector("a")?.focus();
    } else if (event.key === "Escape" && want.udid && event.target !== search) go({ udid: "" });
  });
  for (const kind of ["devices", "standing"]) live.addEventListener(kind, schedule, { signal });
  live.addEventListener("silences", drawSilences, { signal });
  take(route);

  return {
    update(route) {
      const before = take(route);
      if (want.udid === before) return;
      if (want.udid) drawer.focus();
      else rows.get(before)?.tr.querySelector("a")?.focus();
    },
    close() {
      ended.abort();
      closeDevice?.();
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    },
  };
}
