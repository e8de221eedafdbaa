// Which phones are listed, by what the address says; and the rows of their table: only those that changed are looked at.

import { el, part, put, say } from "../dom.js";
import { age, at, charge, setAge, stateOf, STATES } from "../format.js";
import { choicesOf } from "../silence.js";

export const COLUMNS = ["State", "Phone", "Since", "Model", "Reason or holder", "Port", "Tags", "Host"];

/** Rows of one `tbody`: the browser leaves out the whole of it while it is out of sight. */
const GROUP = 25;
const KINDS = Object.keys(STATES);

/** What is said where no phone is known. */
export const EMPTY = { connecting: "Waiting for the agent …", live: "No phone is here.", gone: "Waiting for the agent …", refused: "Sign in to look.", held: "Waiting for the agent's events …" };

/** @param {Api.Device} device */
export const needs = ({ silence, state, flapping }) => !silence && (state === "offline" || flapping);

/** By what they are now: sign, word, and which. @type {Record<string, [string, string, (device: Api.Device) => boolean]>} */
export const FILTERS = {
  needs: ["▲", "Needs you", needs],
  ...Object.fromEntries(Object.entries(STATES).map(([key, { shape, word }]) => [key, [shape, word, (device) => device.state === key]])),
  flapping: ["≈", "Flapping", (device) => device.flapping],
  silenced: ["◌", "Silenced", (device) => device.silence !== null],
};

/** @typedef {Record<string, (device: Api.Device) => (string | null)[]>} Choices */

/** What each has of what can be chosen. */
export const CHOICES = /** @satisfies {Choices} */ ({
  platform: (/** @type {Api.Device} */ device) => [device.platform],
  tag: (/** @type {Api.Device} */ device) => device.tags,
  hub: (/** @type {Api.Device} */ device) => choicesOf(device).filter((each) => each.startsWith("hub ")).map((each) => each.slice(4)),
  host: (/** @type {Api.Device} */ device) => [device.host],
});

/**
 * Whether a device is what somebody chose and searches, its state aside.
 *
 * @param {Api.Device} device
 * @param {Record<string, string>} want
 * @param {Choices} choices
 */
export function fits(device, want, choices) {
  if (!Object.entries(choices).every(([key, of]) => !want[key] || of(device).includes(want[key]))) return false;
  if (!want.q) return true;
  const { name, udid, reason, holder, tags, model, port } = device;
  const text = [name, udid, reason, holder, model, port, ...tags].join("\n").toLowerCase();
  return want.q.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

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
  return rank(a) - rank(b) || Number(x < y) - Number(x > y) || Number(a.udid > b.udid) - Number(a.udid < b.udid);
}

/** One phone's: its elements are made when it is drawn first. */
class Row {
  /** @param {Api.Device} device */
  constructor(device) {
    this.device = device;
    this.listed = false;
    /** Whether it stands where it belongs. */
    this.placed = false;
    /** What is shown. @type {Api.Device | null} */
    this.drawn = null;
    /** @type {HTMLElement | null} */
    this.tr = null;
    /** @type {(device: Api.Device) => void} */
    this.update = () => {};
  }

  draw() {
    if (this.drawn === this.device) return;
    if (!this.tr) [this.tr, this.update] = made(this.device.udid);
    this.update((this.drawn = this.device));
  }
}

/** @param {string} udid @returns {[HTMLElement, (device: Api.Device) => void]} The element, and what brings it up to date. */
function made(udid) {
  const cells = COLUMNS.map(() => el("td"));
  const [state, phone, long, model, reason, port, tags, host] = cells;
  const [link, badges, since] = [el("a", { class: "name", dir: "auto", href: `#/devices/${encodeURIComponent(udid)}` }), el("span", { class: "tags" }), age(null)];
  const [maker, platform, battery] = [el("div"), el("div", { class: "dim small" }), el("div", { class: "dim small" })];
  const why = el("div", { class: "short" });
  put(reason, why);
  put(phone, link, el("span", { class: "mono dim" }, udid), badges);
  put(long, since);
  put(model, maker, platform, battery);
  tags.className = "tags";
  return [el("tr", { "data-udid": udid }, cells), (device) => {
    const { flapping, silence, visibility } = device;
    part(state, device.state, () => [stateOf(device.state)]);
    say(link, device.name);
    link.title = device.name;
    setAge(since, device.since);
    say(maker, device.model);
    say(platform, device.platform ?? "never seen");
    say(battery, charge(device.battery));
    battery.classList.toggle("warn", Boolean(device.battery?.hot || device.battery?.low));
    say(why, device.reason);
    why.title = device.reason;
    say(port, device.port);
    say(host, device.host);
    part(tags, device.tags, () => device.tags.map((tag) => el("span", { class: "tag" }, tag)));
    part(badges, [flapping, silence, visibility], () => [
      flapping && el("span", { class: "tag warn" }, "flapping"),
      silence && el("span", { class: "tag warn" }, "silenced until ", at(silence.ends)),
      visibility === "public" && el("span", { class: "tag" }, "public: not called back"),
    ]);
  }];
}

/** Those of a table. */
export class Rows {
  /** @param {HTMLTableElement} table */
  constructor(table) {
    this.table = table;
    /** Those that are to be shown, as they are to stand. @type {Row[]} */
    this.list = [];
    /** By UDID. @type {Map<string, Row>} */
    this.known = new Map();
    /** Shown still, and not for long. @type {Set<Row>} */
    this.leaving = new Set();
  }

  /** Where it stands in the list, or would. @param {Api.Device} device */
  find(device) {
    let [low, high] = [0, this.list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compare(this.list[middle].device, device) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * Have a phone shown as it is from now on, or no more; `draw` does it.
   *
   * @param {string} udid
   * @param {Api.Device | undefined} device undefined: there is none any more.
   * @param {boolean} listed
   */
  set(udid, device, listed) {
    const row = this.known.get(udid) ?? (device && new Row(device));
    if (!row) return;
    if (device) this.known.set(udid, row);
    else this.known.delete(udid);
    let before = -1;
    if (row.listed) this.list.splice((before = this.find(row.device)), 1);
    row.device = device ?? row.device;
    row.listed = listed;
    if (listed) {
      const place = this.find(row.device);
      this.list.splice(place, 0, row);
      row.placed &&= place === before;
      this.leaving.delete(row);
    } else {
      row.placed = false;
      if (row.tr?.isConnected) this.leaving.add(row);
    }
  }

  /**
   * Show what was set, from the top.
   *
   * @param {number} until When to leave the rest for another time, by `performance.now`.
   * @param {boolean} still No row comes, moves or goes.
   * @returns {boolean} Whether all is done.
   */
  draw(until, still) {
    const focused = document.activeElement;
    for (const row of this.leaving) {
      if (still) row.draw();
      else remove(row.tr);
    }
    if (!still) this.leaving.clear();
    /** @type {HTMLElement | null} */
    let above = null;
    let done = true;
    for (const row of this.list) {
      const moves = !row.placed && !still;
      if (moves || (row.drawn !== row.device && row.tr?.isConnected)) {
        if (performance.now() > until) {
          done = false;
          break;
        }
        row.draw();
        if (moves) this.put(/** @type {HTMLElement} */ (row.tr), above);
        row.placed ||= moves;
      }
      if (row.placed) above = row.tr;
    }
    if (focused instanceof HTMLElement && focused !== document.activeElement && focused.isConnected) {
      focused.focus({ preventScroll: true });
    }
    return done;
  }

  /**
   * Put it below that one, or on top.
   *
   * @param {HTMLElement} tr
   * @param {HTMLElement | null} above
   */
  put(tr, above) {
    remove(tr);
    const body = above?.parentElement ?? this.table.tBodies[0] ?? this.table.createTBody();
    const next = body.nextElementSibling;
    if (above !== body.lastElementChild || body.childElementCount < GROUP) {
      if (above) above.after(tr);
      else body.prepend(tr);
    } else if (next && next.childElementCount < GROUP) next.prepend(tr);
    else body.after(el("tbody", {}, tr));
    if (body.childElementCount > 2 * GROUP) body.after(el("tbody", {}, [...body.children].slice(GROUP)));
  }
}

/** With what it leaves empty. @param {HTMLElement | null} tr */
function remove(tr) {
  const body = tr?.parentElement;
  tr?.remove();
  if (body && !body.childElementCount) body.remove();
}
