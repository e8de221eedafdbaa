// Lines of time beneath each other. First what is pure: stays and unseen times to boxes, ticks, addresses.

import { errorLine } from "./act.js";
import { addressed, now, readdress } from "./api.js";
import { el, fill, part, pieces, put, say } from "./dom.js";
import { at, lasted, moment, moments, shape, stateOf, STATES, whenOf } from "./format.js";
import { live } from "./live.js";
import { poll } from "./poll.js";
import { show } from "./session.js";

/**
 * @typedef {{from: number, to: number}} Range Milliseconds since 1970; what goes on has no end.
 * @typedef {Range & {state: string, early?: boolean, reason?: string, holder?: string, why?: string}} Stay `early`: it began before.
 * @typedef {{x: number, width: number, state: string, count: number, stay: Stay}} Box Of `count` stays that are too thin, the worst.
 */

const WORSE = ["online", "utilizing", "unplugged", "offline"];
/** Of 20: a state is told without its colour, too. */
const HEIGHTS = /** @type {Record<string, number>} */ ({ offline: 20, utilizing: 14, online: 9, unplugged: 3 });
const [HOUR, THIN] = [3_600_000, 2];
const UNITS = /** @type {Record<string, number>} */ ({ d: 24 * HOUR, h: HOUR, m: HOUR / 60 });
/** In hours. */
const STEPS = [1 / 360, 1 / 60, 1 / 12, 1 / 4, 1 / 2, 1, 2, 3, 6, 12, 24, 48, 168, 336, 672];
const [TIME, DAY] = [{ timeStyle: "short" }, { day: "numeric", month: "short" }].map((how) => new Intl.DateTimeFormat(undefined, /** @type {{}} */ (how)));

/** @param {Stay[]} stays By time. @param {Range} range @param {number} width @returns {Box[]} */
export function layout(stays, range, width) {
  const place = (/** @type {number} */ time) => (Math.min(Math.max((time - range.from) / (range.to - range.from), 0), 1) * width);
  /** @type {Box[]} */
  const boxes = [];
  for (const stay of stays) {
    if (stay.to < range.from || stay.from >= range.to) continue;
    const { state } = stay;
    const x = Math.min(place(stay.from), width - THIN);
    const long = place(stay.to) - x;
    const last = boxes.at(-1);
    if (last?.width === THIN && x + long < last.x + THIN) {
      last.count++;
      if (WORSE.indexOf(state) > WORSE.indexOf(last.state)) Object.assign(last, { state, stay });
    } else boxes.push({ x, width: Math.max(long, THIN), state, count: 1, stay });
  }
  return boxes;
}

/** As they are drawn: a moment above what is around it, and the worse above the better. @param {Box[]} boxes */
const stacked = (boxes) => [...boxes].sort((a, b) => Number(a.width === THIN) - Number(b.width === THIN) || WORSE.indexOf(a.state) - WORSE.indexOf(b.state));

/** Round times of this zone, also where clocks are changed. @param {Range} range @param {number} width @param {number} gap The least between two. */
export function ticks({ from, to }, width, gap) {
  const hours = STEPS.find((each) => each * HOUR * width >= gap * (to - from)) ?? 672;
  const first = new Date(from);
  const day = new Date(first.getFullYear(), first.getMonth(), first.getDate());
  const made = [];
  for (let i = Math.max(Math.floor((from - +day) / hours / HOUR) - 1, 0); ; i++) {
    const local = hours > 1 ? new Date(day.getFullYear(), day.getMonth(), day.getDate(), i * hours) : new Date(+day + i * hours * HOUR);
    if (+local > to) return made;
    // Not the hour that a day leaves out.
    if (+local < from || (hours > 1 && hours < 24 && local.getHours() !== (i * hours) % 24)) continue;
    const midnight = hours >= 24 || !(local.getHours() || local.getMinutes() || local.getSeconds());
    made.push({ x: ((+local - from) / (to - from)) * width, text: (midnight ? DAY : TIME).format(local), midnight });
  }
}

/** What an address says: `since` a time or how long ago, `until` a time or now (`goes`). @param {Record<string, string>} said @param {number} now */
export function rangeOf({ since = "", until = "" }, now) {
  const to = Math.min(whenOf(until, now) || now, now);
  const long = to - whenOf(since, now);
  return { from: to - (long > 0 ? Math.min(Math.max(long, HOUR / 60), 400 * UNITS.d) : UNITS.d), to, goes: to === now };
}

/** The other way round; what ends about now goes on. @param {Range} range @param {number} now */
export function addressOf({ from, to }, now) {
  const long = to - from;
  const end = Math.min(to, now);
  const unit = long > 99 * HOUR ? "h" : "m";
  if (end > now - long / 500) return { since: `${Math.max(Math.round(long / UNITS[unit]), 1)}${unit}`, until: "" };
  return { since: iso(end - long), until: iso(end) };
}

/** @param {number} ms */
const iso = (ms) => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** An SVG element. @param {string} tag @param {Record<string, string | number>} props @param {...(Node | string)} children */
function svg(tag, props, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in props) made.setAttribute(name, String(props[name]));
  made.append(...children);
  return made;
}

/** @param {{x: number, width: number, state: string}} box @param {unknown} [chosen] */
function rect({ x, width, state }, chosen) {
  const height = HEIGHTS[state] ?? 20;
  return svg("rect", { x, y: 20 - height, width, height, class: `is-${state} ${chosen ? "chosen" : ""}` });
}

/** @param {Stay} stay */
function times({ from, to, early }) {
  const said = to < now() ? moments(from, to) : `${moment(from)} – now`;
  return `${early ? "before " : ""}${said} (${early ? "over " : ""}${lasted(Math.min(to, now()) - from)})`;
}

/** One phone's. @typedef {{udid: string, place: HTMLElement, line: SVGElement, stays: Stay[], unseen: Stay[], boxes: Box[], near: boolean, chosen: number, asked: string, answered: number}} Lane `chosen`: when, by keyboard; `asked`: the range that is known, `answered` when. */

/** Milliseconds that an answer is fresh, and between two after changes; phones of a question; rows of one's table. */
const [FRESH, SOON, MANY, ROWS] = [30_000, 2_000, 40, 50];

/**
 * A bar that says and changes which time is shown, and a plot for lanes, of which those in sight are
 * asked for. The time is in the address.
 *
 * @param {(udids: string[], range: Record<string, string>, signal: AbortSignal) => Promise<Api.Picture & {truncated?: boolean}>} load
 * @param {(udid: string) => void} [enter] One was chosen; without, there is but one.
 */
export function chart(load, enter) {
  const ended = new AbortController();
  const { signal } = ended;
  /** @type {Map<Element, Lane>} By place. */
  const lanes = new Map();
  /** Who changed. @type {Set<string>} */
  const moved = new Set();
  /** What is to be drawn. @type {Set<Lane>} */
  const dirty = new Set();
  let range = rangeOf({}, now());
  let [width, asked, asTable, loading, zooming, answered, whole] = [0, "", false, 0, 0, "", true];
  /** Where a range begins that is being drawn, and where it is by now. @type {number[]} */
  let drag = [];

  const button = (/** @type {string} */ word, /** @type {() => void} */ onclick, title = word) => el("button", { type: "button", title, "aria-label": title, onclick }, word);
  const buttons = Object.entries({ "1d": "Day", "7d": "Week", "30d": "Month" }).map(([since, word]) => Object.assign(button(word, () => readdress({ since, until: "" })), { value: since }));
  const later = button("→", () => zoom(1, 0.5), "Later");
  const table = button("As a table", () => readdress({ as: asTable ? "" : "table" }));
  const title = el("span", { class: "dim", role: "status" });
  const error = errorLine();
  const keys = [...Object.entries(STATES), /** @type {const} */ (["unseen", { word: "Not seen" }])].map(([state, { word }]) => el("span", {}, svg("svg", { viewBox: "0 0 14 20", class: "line" }, rect({ x: 0, width: 14, state })), ` ${word}`));
  const hatch = svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("rect", { width: 6, height: 6 }), svg("path", { d: "M1.5 0V6" }));
  const bar = el(
    "div",
    { class: "head zoom", role: "group", "aria-label": "Time" },
    el("span", {}, buttons),
    el("span", {}, button("←", () => zoom(1, -0.5), "Earlier"), later, button("−", () => zoom(2), "Zoom out"), button("+", () => zoom(0.5), "Zoom in")),
    table,
    title,
    el("span", { class: "keys dim small", "aria-hidden": "true" }, keys, svg("svg", { class: "unseen" }, hatch)),
    error,
  );
  const [axis, grid] = ["axis", "grid"].map((name) => svg("svg", { class: name, "aria-hidden": "true" }));
  const tip = el("div", { class: "tip card", "aria-hidden": "true", hidden: true });
  const plot = el("div", { class: "plot" }, grid, tip);

  /** At once, and in the address when it stays. @param {number} by @param {number} [move] @param {number} [around] What stays where it is. */
  function zoom(by, move = 0, around = range.goes ? range.to : (range.from + range.to) / 2) {
    const long = (range.to - range.from) * by;
    const to = Math.min(around + (range.to - around) * by + long * move, now());
    turn({ from: to - long, to });
  }

  /** @param {Range} to */
  function turn(to) {
    const said = addressOf(to, now());
    range = rangeOf(said, now());
    paint();
    clearTimeout(zooming);
    zooming = setTimeout(readdress, 200, said);
  }

  function update() {
    clearTimeout(zooming);
    const { as, since = "1d", until = "" } = addressed();
    range = rangeOf({ since, until }, now());
    asked = since + until;
    if (asTable !== (as === "table")) {
      asTable = !asTable;
      for (const { place, line } of lanes.values()) fill(place, !asTable && line);
      tell();
    }
    plot.classList.toggle("as-table", asTable);
    table.setAttribute("aria-pressed", String(asTable));
    for (const node of buttons) node.setAttribute("aria-pressed", String(asked === node.value));
    paint();
    void look.now();
  }

  const drawing = pieces(() => {
    if (!width) return false;
    if (whole) scale();
    whole = false;
    for (const lane of dirty) {
      dirty.delete(lane);
      paintLane(lane);
      return true;
    }
    return false;
  });

  /** Draw what is in sight; of it these alone. @param {Iterable<Lane>} [some] */
  function paint(some) {
    whole ||= !some;
    for (const lane of some ?? lanes.values()) if (lane.near) dirty.add(lane);
    drawing.soon();
  }

  function scale() {
    if (range.goes) range = { from: range.from + now() - range.to, to: now(), goes: true };
    later.disabled = range.goes;
    const long = range.to - range.from;
    const first = Math.min(...[...lanes.values()].map(({ stays }) => stays[0]?.from ?? Infinity));
    say(title, (range.goes ? `The last ${lasted(long)}` : moments(range.from, range.to)) + (first > range.from + long / 50 && first < range.to ? `, known from ${moment(first)}` : ""));
    const rem = parseFloat(getComputedStyle(axis).fontSize);
    const marks = ticks(range, width, 6 * rem);
    const line = (/** @type {number} */ x, /** @type {unknown} */ name) => svg("line", { x1: x, x2: x, y2: "100%", class: String(name) });
    axis.replaceChildren(...marks.map(({ x, text, midnight }) => svg("text", { x: Math.min(Math.max(x, 2.4 * rem), width - 2.4 * rem), y: "70%", class: String(midnight) }, text)));
    grid.replaceChildren(...marks.map(({ x, midnight }) => line(x, midnight)), ...(range.goes ? [line(width - 1, "now")] : []));
    if (drag[1]) grid.append(svg("rect", { x: Math.min(...drag), width: Math.abs(drag[0] - drag[1]), height: "100%" }));
  }

  /** @param {Lane} lane */
  function paintLane(lane) {
    const { stays, unseen, place, line } = lane;
    if (!lane.answered) return;
    if (asTable) return part(place, [stays, unseen, asked, Math.floor(now() / 60_000)], () => [rows([...stays, ...unseen])]);
    const boxes = (lane.boxes = layout(stays, range, width));
    const box = chosenOf(lane);
    line.setAttribute("viewBox", `0 0 ${width} 20`);
    line.replaceChildren(...stacked(boxes).map((each) => rect(each, each === box && lane.chosen)), ...layout(unseen, range, width).map((each) => rect(each)));
    const values = { max: boxes.length, now: boxes.findIndex((each) => each === box) + 1, text: words(lane, box).join(", ") || "Nothing is known" };
    for (const [name, value] of Object.entries(values)) line.setAttribute(`aria-value${name}`, String(value));
  }

  /** @param {Lane} lane */
  const chosenOf = ({ chosen, boxes }) => boxes.findLast(({ stay }) => !(stay.from > chosen)) ?? boxes[0];
  const timeOf = (/** @type {number} */ x) => range.from + (x / width) * (range.to - range.from);

  /** The word of a state, and more. @param {Lane} lane @param {Box | undefined} box @param {number} [x] */
  function words({ stays, unseen }, box, x = box && box.x + box.width / 2) {
    const when = timeOf(x ?? 0);
    const blind = unseen.find(({ from, to }) => from <= when && when <= to);
    return [
      box ? STATES[/** @type {"online"} */ (box.state)].word : stays.length && when < stays[0].from && `Not known before ${moment(stays[0].from)}`,
      box && times(box.stay),
      box && (box.stay.reason || box.stay.holder),
      box && box.count > 1 && `the worst of ${box.count} states in a moment`,
      blind && `Not seen ${times(blind)}: ${blind.why}`,
    ].filter((each) => typeof each === "string" && each);
  }

  /** The same to read. @param {Stay[]} all */
  function rows(all) {
    const listed = all.filter(({ from, to }) => to >= range.from && from < range.to).sort((a, b) => b.from - a.from);
    const cells = (/** @type {"td" | "th"} */ tag, /** @type {import("./dom.js").Child[]} */ row) => el("tr", {}, row.map((each) => el(tag, {}, each)));
    return el("table", {}, el("thead", {}, cells("th", ["State", "From", "To", "For", "Why"])), el("tbody", {}, listed.slice(0, ROWS).map(({ state, from, to, early, reason, holder, why }) => cells("td", [
      why === undefined ? stateOf(state) : el("b", {}, shape("◌"), " Not seen"),
      el("span", {}, early && "before ", at(iso(from))),
      to < now() ? at(iso(to)) : "now",
      `${early ? "over " : ""}${lasted(Math.min(to, now()) - from)}`,
      el("div", { class: "short", title: why ?? reason }, why ?? (reason || holder)),
    ])), listed.length > ROWS ? cells("td", [`${listed.length - ROWS} before`]) : !listed.length && cells("td", ["Nothing is known"])));
  }

  /** @param {Lane} [lane] @param {Box} [box] @param {number} [x] */
  function tell(lane, box, x = box && box.x + box.width / 2) {
    const said = lane && !asTable ? words(lane, box, x) : [];
    tip.hidden = !said.length;
    if (!lane || tip.hidden) return;
    part(tip, said, () => said.map((text, i) => (box && !i ? stateOf(box.state, "div") : el("div", {}, text))));
    const [{ left, top }, from] = [lane.place.getBoundingClientRect(), plot.getBoundingClientRect()];
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.max(Math.min(left - from.left + (x ?? 0), from.width - half), half)}px`;
    tip.style.top = `${top - from.top}px`;
  }

  /** By keyboard. @param {Lane} lane @param {Box | undefined} box */
  function choose(lane, box) {
    if (!box) return;
    lane.chosen = box.stay.from;
    paintLane(lane);
    tell(lane, chosenOf(lane));
  }

  const look = poll(FRESH, async (aborted) => {
    const begun = performance.now();
    paint();
    while (width && !aborted.aborted) {
      const about = asked;
      const { since = "1d", until: end } = addressed();
      const due = [...lanes.values()].filter((lane) => lane.near && (lane.asked !== about || (!end && begun - lane.answered > FRESH / 2))).slice(0, MANY);
      if (!due.length) return;
      for (const lane of due) lane.asked = about;
      try {
        const told = await load(due.map(({ udid }) => udid), end ? { since, until: end } : { since }, aborted);
        // What lasts, lasts on until more is known.
        const stay = (/** @type {any} */ { from, to, began, ...rest }) => ({ state: "unseen", ...rest, early: !began && from === told.since, from: Date.parse(began ?? from), to: !end && to === told.until ? Infinity : Date.parse(to) });
        for (const lane of due) {
          const { spans = [], unseen = [] } = told.devices.find(({ udid }) => udid === lane.udid) ?? {};
          Object.assign(lane, { stays: spans.map(stay), unseen: unseen.map(stay), answered: performance.now() });
        }
        paint(due);
        answered = iso(Date.now());
        show(error, null);
        if (told.truncated) say(error, "This is not all: choose a shorter time.");
      } catch (failed) {
        for (const lane of due) lane.asked = "";
        if (aborted.aborted) return;
        show(error, failed);
        if (answered) put(error, " What is shown is of ", at(answered));
        return;
      }
    }
  });

  function soon() {
    loading ||= setTimeout(() => {
      loading = 0;
      for (const lane of lanes.values()) if (moved.delete(lane.udid)) lane.asked = "";
      if (!document.hidden) void look.now();
    }, SOON);
  }

  const sight = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const lane = lanes.get(target);
      if (lane) lane.near = isIntersecting;
      if (lane?.near) dirty.add(lane);
    }
    paint([]);
    void look.now();
  }, { rootMargin: "30%" });
  const size = new ResizeObserver(() => {
    width = axis.clientWidth;
    tell();
    paint();
    void look.now();
  });
  size.observe(axis);

  /** @param {MouseEvent} event */
  const xOf = ({ clientX }) => Math.min(Math.max(clientX - axis.getBoundingClientRect().left, 0), width);
  const on = (/** @type {Event} */ { target }) => (asTable ? undefined : lanes.get(/** @type {Element} */ (/** @type {Element} */ (target).closest(".place"))));
  /** @type {Record<string, (event: any) => void>} */
  const events = {
    pointerdown(event) {
      if (on(event) && !event.button) drag = [xOf(event)];
    },
    pointermove(event) {
      const [lane, x] = [on(event), xOf(event)];
      if (drag[1] || Math.abs(x - drag[0]) > 5) {
        plot.setPointerCapture(event.pointerId);
        drag[1] = x;
        whole = true;
        paint([]);
      }
      // A moment is met by whoever comes near.
      const box = lane && stacked(lane.boxes).findLast((each) => Math.abs(x - each.x - each.width / 2) <= Math.max(each.width / 2, 3));
      tell(drag[1] ? undefined : lane, box, x);
    },
    pointerup() {
      const [from, to] = drag.sort((a, b) => a - b).map(timeOf);
      drag = [];
      if (to) turn({ from, to });
    },
    pointercancel() {
      drag = [];
      paint();
    },
    pointerleave: () => tell(),
    wheel(event) {
      if (!(event.ctrlKey || event.metaKey) || !on(event)) return;
      event.preventDefault(); // of the browser's own zoom
      zoom(1.002 ** Math.max(-400, Math.min(event.deltaY, 400)), 0, timeOf(xOf(event)));
    },
    focusin(event) {
      const lane = on(event);
      if (lane?.line.matches(":focus-visible")) choose(lane, chosenOf(lane));
    },
    focusout(event) {
      const lane = on(event);
      if (lane) lane.chosen = NaN;
      if (lane) paint([lane]);
      tell();
    },
    keydown(event) {
      const [lane, { key }] = [on(event), event];
      if (key === "Escape" && (drag.length || !tip.hidden)) {
        event.stopPropagation();
        tell();
        events.pointercancel(event);
      }
      if (!lane || event.ctrlKey || event.metaKey || event.altKey) return;
      const { boxes } = lane;
      const box = chosenOf(lane);
      const i = boxes.findIndex((each) => each === box);
      const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: boxes.length - 1 }[/** @type {string} */ (key)];
      const by = { ArrowUp: -1, ArrowDown: 1 }[/** @type {string} */ (key)];
      const times = { "+": 0.5, "=": 0.5, "-": 2 }[/** @type {string} */ (key)];
      if (to !== undefined) choose(lane, boxes[to]);
      else if (by) {
        const places = [...plot.querySelectorAll(".place")];
        const next = lanes.get(places[places.indexOf(lane.place) + by]);
        if (next) next.chosen = lane.chosen;
        next?.line.focus();
      } else if (times) zoom(times, 0, box && i < boxes.length - 1 ? timeOf(box.x + box.width / 2) : undefined);
      else if (key === "Enter") enter?.(lane.udid);
      else return;
      event.preventDefault();
    },
  };
  for (const name in events) plot.addEventListener(name, events[name], { passive: false });
  addEventListener("hashchange", update, { signal });
  live.addEventListener("transitions", (/** @type {any} */ { detail }) => {
    for (const { udid } of detail) moved.add(udid);
    soon();
  }, { signal });
  live.addEventListener("standing", soon, { signal });
  update();

  return {
    bar,
    axis,
    plot,
    /** One more lane, and how to name it. @param {string} udid @returns {[HTMLElement, (name: string) => void]} */
    lane(udid) {
      const line = svg("svg", { class: "line", role: "slider", tabindex: 0, preserveAspectRatio: "none", "aria-valuenow": 0, "aria-valuemin": 0 });
      const place = el("div", { class: "place" }, !asTable && line);
      lanes.set(place, { udid, place, line, stays: [], unseen: [], boxes: [], near: !enter, chosen: NaN, asked: "", answered: 0 });
      if (enter) sight.observe(place);
      return [place, (name) => line.setAttribute("aria-label", `Timeline of ${name}`)];
    },
    /** @param {Element} place */
    remove(place) {
      sight.unobserve(place);
      lanes.delete(place);
    },
    close() {
      ended.abort();
      sight.disconnect();
      size.disconnect();
      look.end();
      drawing.end();
      clearTimeout(loading);
      clearTimeout(zooming);
    },
  };
}
