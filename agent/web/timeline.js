// Lines of time beneath each other, drawn as SVG: one for each phone, of which those in sight are asked for.

import { errorLine } from "./act.js";
import { now } from "./api.js";
import { el, fill, part, put, say } from "./dom.js";
import { at, count, lasted, moment, moments, shape, stateOf, STATES } from "./format.js";
import { addressOf, hit, iso, layout, rangeOf, ticks, worstLast } from "./layout.js";
import { live } from "./live.js";
import { poll } from "./poll.js";
import { show } from "./session.js";

/**
 * @typedef {import("./layout.js").Box} Box
 * @typedef {import("./layout.js").Range} Range
 * @typedef {import("./layout.js").Stay} Stay
 * @typedef {{udid: string, spans: (Api.PictureSpan & Partial<Api.Span>)[], unseen: Api.Unseen[]}} History
 *
 * @typedef {object} Lane One phone's.
 * @property {string} udid
 * @property {string} name
 * @property {HTMLElement} place Where it is drawn.
 * @property {SVGElement} line
 * @property {Stay[] | null} stays null: they are not known yet.
 * @property {Stay[]} unseen
 * @property {Box[]} boxes As drawn.
 * @property {Box[]} blind
 * @property {number | null} chosen A moment, by keyboard.
 * @property {boolean} near It is in sight.
 * @property {string} asked The range that is known of it; "": it is to be asked for.
 * @property {number} answered By `performance.now`.
 */

/** Milliseconds that an answer is taken for fresh, and the least between two after changes. */
const [FRESH, SOON] = [30_000, 2_000];
/** Phones of one question, rows of one's table, and milliseconds of one frame. */
const [MANY, ROWS, BUDGET] = [50, 50, 8];
/** Of 20: so that a state can be told without its colour. */
const HEIGHTS = /** @type {Record<string, number>} */ ({ offline: 20, utilizing: 15, online: 10, unplugged: 3 });
const RANGES = { Day: "1d", Week: "7d", Month: "30d" };

/**
 * An SVG element, as `el` makes others.
 *
 * @param {string} tag
 * @param {Record<string, string | number>} props
 * @param {...(Node | string)} children
 */
function svg(tag, props, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) made.setAttribute(name, String(value));
  made.append(...children);
  return made;
}

/** @param {{x: number, width: number, state: string}} box @param {string} [more] */
function rect({ x, width, state }, more = "") {
  const height = HEIGHTS[state] ?? 20;
  return svg("rect", { x, y: 20 - height, width, height, class: `is-${state} ${more}` });
}

/** From when to when, and how long. @param {Stay | Range} stay */
function times({ from, to, ...stay }) {
  const early = "early" in stay && stay.early;
  const said = to < now() ? moments(from, to) : `${moment(from)} – now`;
  return `${early ? "before " : ""}${said} (${early ? "over " : ""}${lasted(Math.min(to, now()) - from)})`;
}

/**
 * A bar that says and changes which time is shown, and a plot to put lanes into. The time is in the
 * address.
 *
 * @param {(udids: string[], range: Record<string, string>, signal: AbortSignal) => Promise<{since: string, until: string, truncated?: boolean, devices: History[]}>} load
 * @param {(udid: string) => void} [enter] One was chosen.
 */
export function chart(load, enter) {
  const ended = new AbortController();
  const { signal } = ended;
  /** @type {Map<Element, Lane>} By its place. */
  const lanes = new Map();
  /** @type {Range & {goes: boolean}} */
  let range = { from: 0, to: 1, goes: true };
  /** The same for the API. @type {Record<string, string>} */
  let wanted = {};
  let [width, asked, asTable, loading, zooming, drawn, answered, frame, whole] = [0, "", false, 0, 0, 0, "", 0, true];
  /** Who came to be otherwise. @type {Set<string>} */
  const moved = new Set();
  /** Those to be drawn. @type {Set<Lane>} */
  const dirty = new Set();
  /** The one that the tab key comes to. @type {Lane | undefined} */
  let rover;
  /** Where a range begins that is being drawn, and where it is by now. @type {number[]} */
  let drag = [];
  /** What is told of. @type {{lane: Lane, when: number, x: number} | null} */
  let told = null;

  const button = (/** @type {string} */ word, /** @type {() => void} */ onclick, label = word) => el("button", { type: "button", "aria-label": label, title: label, onclick }, word);
  const buttons = Object.entries(RANGES).map(([word, since]) => ({ since, node: button(word, () => go({ since, until: "" })) }));
  const later = button("→", () => move(0.5), "Later");
  const table = button("As a table", () => go({ as: asTable ? "" : "table" }));
  const title = el("span", { class: "dim", role: "status" });
  const error = errorLine();
  const key = (/** @type {string} */ state, /** @type {string} */ word) => {
    const made = el("span", {}, ` ${word}`);
    made.prepend(svg("svg", { viewBox: "0 0 14 20", class: "line" }, rect({ x: 0, width: 14, state })));
    return made;
  };
  const bar = el(
    "div",
    { class: "head zoom", role: "group", "aria-label": "Time" },
    el("span", {}, buttons.map(({ node }) => node)),
    el("span", {}, button("←", () => move(-0.5), "Earlier"), later, button("−", () => zoom(2), "Zoom out"), button("+", () => zoom(0.5), "Zoom in")),
    table,
    title,
    el("span", { class: "keys dim small", "aria-hidden": "true" }, Object.entries(STATES).map(([state, { word }]) => key(state, word)), key("unseen", "Not seen")),
    error,
  );
  const axis = svg("svg", { class: "axis", "aria-hidden": "true" });
  const grid = svg("svg", { class: "grid", "aria-hidden": "true" });
  const hatch = svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("rect", { width: 6, height: 6 }), svg("path", { d: "M1.5 0V6" }));
  const tip = el("div", { class: "tip card", "aria-hidden": "true", hidden: true });
  const plot = el("div", { class: "plot" });
  bar.append(svg("svg", { class: "unseen", "aria-hidden": "true" }, hatch));
  plot.append(grid, tip);

  /** @param {Record<string, string>} change */
  function go(change) {
    const [path, text] = location.hash.split("?");
    const values = new URLSearchParams(text);
    for (const [name, value] of Object.entries(change)) {
      if (value) values.set(name, value);
      else values.delete(name);
    }
    history.pushState(null, "", `${path || "#/"}${values.size ? `?${values}` : ""}`);
    dispatchEvent(new Event("hashchange"));
  }

  /** Show that at once, and have it in the address when it stays. @param {Range} to */
  function turn(to) {
    const address = addressOf(to, now());
    range = rangeOf(new URLSearchParams(address), now());
    paint();
    clearTimeout(zooming);
    zooming = setTimeout(() => go(address), 200);
  }

  /** @param {number} by @param {number} [around] What stays where it is. */
  function zoom(by, around = range.goes ? range.to : (range.from + range.to) / 2) {
    turn({ from: around - (around - range.from) * by, to: around + (range.to - around) * by });
  }

  /** @param {number} by Of what is shown. */
  function move(by) {
    const long = range.to - range.from;
    const to = Math.min(range.to + by * long, now());
    turn({ from: to - long, to });
  }

  /** Show what the address says. */
  function update() {
    clearTimeout(zooming);
    const query = new URLSearchParams(location.hash.split("?")[1]);
    range = rangeOf(query, now());
    wanted = range.goes ? { since: addressOf(range, now()).since } : { since: iso(range.from), until: iso(range.to) };
    if (asTable !== (query.get("as") === "table")) {
      asTable = !asTable;
      for (const { place, line } of lanes.values()) fill(place, !asTable && /** @type {any} */ (line));
    }
    plot.classList.toggle("as-table", asTable);
    table.setAttribute("aria-pressed", String(asTable));
    for (const { since, node } of buttons) node.setAttribute("aria-pressed", String(range.goes && wanted.since === since));
    asked = JSON.stringify(wanted);
    paint();
    void look.now();
  }

  /** Draw all that is in sight, as it is known, or of it what these are. @param {Iterable<Lane>} [some] */
  function paint(some) {
    whole ||= !some;
    for (const lane of some ?? lanes.values()) if (lane.near) dirty.add(lane);
    frame ||= requestAnimationFrame(draw);
  }

  /** No more in one frame than leaves time to lay it out. */
  function draw() {
    const end = performance.now() + BUDGET;
    frame = 0;
    if (!width) return;
    if (whole) scale();
    whole = false;
    for (const lane of dirty) {
      if (performance.now() > end) return paint([]);
      dirty.delete(lane);
      paintLane(lane);
    }
    if (told) tell(told.lane, told.when, told.x);
  }

  /** What all have in common. */
  function scale() {
    drawn = performance.now();
    if (range.goes) range = { from: range.from + now() - range.to, to: now(), goes: true };
    later.disabled = range.goes;
    let first = Infinity;
    for (const { stays } of lanes.values()) if (stays?.length) first = Math.min(first, stays[0].from);
    const begun = first > range.from + (range.to - range.from) / 50 && first < range.to ? `, known from ${moment(first)}` : "";
    say(title, `${range.goes ? `The last ${lasted(range.to - range.from)}` : times(range)}${begun}`);
    const rem = parseFloat(getComputedStyle(axis).fontSize);
    const marks = ticks(range, width, 5 * rem);
    const line = (/** @type {number} */ x, /** @type {string} */ name) => svg("line", { x1: x, x2: x, y2: "100%", class: name });
    axis.replaceChildren(...marks.map(({ x, text, day }) => svg("text", { x: Math.min(Math.max(x, 2.4 * rem), width - 2.4 * rem), y: "70%", class: day ? "day" : "" }, text)));
    grid.replaceChildren(...marks.map(({ x, day }) => line(x, day ? "day" : "")));
    if (range.goes) grid.append(line(width - 1, "now"));
    if (drag.length > 1) grid.append(svg("rect", { x: Math.min(...drag), width: Math.abs(drag[0] - drag[1]), height: "100%" }));
  }

  /** @param {Lane} lane */
  function paintLane(lane) {
    const { stays, unseen, place, line, name } = lane;
    if (!width || !stays) return;
    [lane.boxes, lane.blind] = [layout(stays, range, width), layout(unseen, range, width)];
    if (asTable) return part(place, [stays, unseen, asked, Math.floor(now() / 60_000)], () => [list(name, [...stays, ...unseen])]);
    const [chosen, last] = [chosenOf(lane), lane.boxes.length - 1];
    line.setAttribute("viewBox", `0 0 ${width} 20`);
    line.replaceChildren(...[...lane.boxes].sort(worstLast).map((box) => rect(box, box === chosen ? "chosen" : "")), ...lane.blind.map((box) => rect(box)));
    const box = chosen ?? lane.boxes[last];
    const values = { max: Math.max(last, 0), now: Math.max(lane.boxes.indexOf(box), 0), text: box ? words(lane, box, (box.from + box.to) / 2).join(", ") : "Nothing is known" };
    for (const [what, value] of Object.entries(values)) line.setAttribute(`aria-value${what}`, String(value));
  }

  /** @param {Lane} lane */
  const chosenOf = ({ chosen, boxes }) => (chosen === null ? undefined : (boxes.findLast((box) => box.from <= chosen) ?? boxes[0]));

  /**
   * What there is to say of a place: the state's word, and more.
   *
   * @param {Lane} lane @param {Box | undefined} box @param {number} when
   */
  function words({ stays, blind }, box, when) {
    const hidden = blind.find(({ from, to }) => from <= when && when <= to)?.stay;
    const said = box ? [STATES[/** @type {"online"} */ (box.state)]?.word ?? box.state] : [];
    if (box) said.push(times(box.stay), box.stay.reason || box.stay.holder || "");
    if (box && box.count > 1) said.push(`the worst of ${count(box.count, "state")} within ${lasted(box.to - box.from)}`);
    if (!box && stays?.length && when < stays[0].from) said.push(`Not known before ${moment(stays[0].from)}`);
    if (hidden) said.push(`Not seen ${times(hidden)}${hidden.why ? `: ${hidden.why}` : ""}`);
    return said.filter(Boolean);
  }

  /** The same to read. @param {string} name @param {Stay[]} all */
  function list(name, all) {
    const shown = all.filter(({ from, to }) => to >= range.from && from < range.to).sort((a, b) => b.from - a.from);
    const rows = shown.slice(0, ROWS).map(({ state, from, to, reason, holder, why }) => [
      STATES[/** @type {"online"} */ (state)] ? stateOf(state) : el("span", { class: "state" }, shape("◌"), " Not seen"),
      at(iso(from)),
      to >= now() ? "now" : at(iso(to)),
      lasted(Math.min(to, now()) - from),
      why ?? (reason || holder),
    ]);
    if (!rows.length) rows.push(["Nothing is known."]);
    return el(
      "table",
      {},
      el("caption", { class: "unseen" }, `${name}, the newest first`),
      el("thead", {}, el("tr", {}, ["State", "From", "To", "For", "Why"].map((word) => el("th", { scope: "col" }, word)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))),
      shown.length > ROWS && el("tfoot", {}, el("tr", {}, el("td", { colspan: 5 }, `${shown.length - ROWS} before these: choose a shorter time.`))),
    );
  }

  /** @param {Lane} lane @param {number} when @param {number} x */
  function tell(lane, when, x) {
    const said = lane.place.isConnected && !asTable ? words(lane, hit(lane.boxes, x), when) : [];
    told = said.length ? { lane, when, x } : null;
    tip.hidden = !told;
    if (!told) return;
    const state = hit(lane.boxes, x)?.state;
    part(tip, said, () => said.map((text, i) => (state && i === 0 ? stateOf(state, "div") : el("div", { class: i > 1 ? "dim" : "" }, text))));
    const { left, top, bottom } = lane.place.getBoundingClientRect();
    const { offsetWidth: wide, offsetHeight: high } = tip;
    tip.style.left = `${Math.max(Math.min(left + x - wide / 2, document.documentElement.clientWidth - wide - 8), 8)}px`;
    tip.style.top = `${bottom + high + 8 < innerHeight ? bottom + 6 : top - high - 6}px`;
  }

  /** @param {Lane | undefined} lane */
  function rove(lane) {
    rover?.line.setAttribute("tabindex", "-1");
    lane?.line.setAttribute("tabindex", "0");
    rover = lane;
  }

  function hush() {
    told = null;
    tip.hidden = true;
  }

  /** Choose a box by keyboard. @param {Lane} lane @param {Box | undefined} box */
  function choose(lane, box) {
    if (!box) return;
    lane.chosen = box.from;
    paintLane(lane);
    tell(lane, (box.from + box.to) / 2, box.x + box.width / 2);
  }

  const look = poll(FRESH, async (aborted) => {
    while (width && !aborted.aborted) {
      const [about, range_] = [asked, wanted];
      const goes = !range_.until;
      const due = [...lanes.values()].filter((lane) => lane.near && (lane.asked !== about || (goes && performance.now() - lane.answered > FRESH - 1000))).slice(0, MANY);
      if (!due.length) return;
      for (const lane of due) lane.asked = about;
      try {
        const { since, until, devices, truncated } = await load(due.map(({ udid }) => udid), range_, aborted);
        const end = Date.parse(until);
        // What lasts, lasts on until more is known.
        const stay = (/** @type {any} */ { from, to, began, ...rest }) => ({ state: "unseen", ...rest, early: !began && from === since, from: Date.parse(began ?? from), to: goes && Date.parse(to) >= end ? Infinity : Date.parse(to) });
        const found = new Map(devices.map((each) => [each.udid, each]));
        for (const lane of due) {
          const { spans = [], unseen = [] } = found.get(lane.udid) ?? {};
          [lane.stays, lane.unseen, lane.answered] = [spans.map(stay), unseen.map(stay), performance.now()];
        }
        paint(due);
        answered = new Date().toISOString();
        show(error, null);
        if (truncated) put(error, "This is not all of that time: choose a shorter one.");
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
      for (const lane of lanes.values()) if (moved.has(lane.udid)) lane.asked = "";
      moved.clear();
      if (!document.hidden) void look.now();
    }, SOON);
  }

  const sight = new IntersectionObserver((entries) => {
    const come = [];
    for (const { target, isIntersecting } of entries) {
      const lane = lanes.get(target);
      if (!lane) continue;
      lane.near = isIntersecting;
      if (isIntersecting) come.push(lane);
    }
    paint(come);
    if (come.length) void look.now();
  }, { rootMargin: "30%" });
  const size = new ResizeObserver(() => {
    const before = width;
    width = axis.clientWidth;
    paint();
    if (!before) void look.now();
  });
  size.observe(axis);
  const timer = setInterval(() => {
    if (range.goes && !document.hidden && performance.now() - drawn > (range.to - range.from) / width) paint();
  }, 1000);

  const xOf = (/** @type {MouseEvent} */ event) => event.clientX - axis.getBoundingClientRect().left;
  const timeOf = (/** @type {number} */ x) => range.from + (x / width) * (range.to - range.from);
  const laneOf = (/** @type {Event} */ { target }) => lanes.get(/** @type {Element} */ (/** @type {Element} */ (target).closest(".place")));

  plot.addEventListener("pointerdown", (event) => {
    const x = xOf(event);
    if (event.button || asTable || x < 0 || x > width) return;
    drag = [x];
    const lane = laneOf(event);
    if (lane) tell(lane, timeOf(x), x);
  });
  plot.addEventListener("pointermove", (event) => {
    const x = Math.min(Math.max(xOf(event), 0), width);
    if (drag.length > 1 || (drag.length && Math.abs(x - drag[0]) > 5)) {
      plot.setPointerCapture(event.pointerId);
      drag = [drag[0], x];
      hush();
      return paint();
    }
    const lane = laneOf(event);
    if (lane) tell(lane, timeOf(x), x);
    else hush();
  });
  const drop = (/** @type {boolean} */ use) => {
    const [from, to] = [...drag].sort((a, b) => a - b).map(timeOf);
    drag = [];
    if (to !== undefined) use ? turn({ from, to }) : paint();
  };
  plot.addEventListener("pointerup", () => drop(true));
  plot.addEventListener("pointercancel", () => drop(false));
  plot.addEventListener("pointerleave", hush);
  plot.addEventListener("wheel", (event) => {
    if (!(event.ctrlKey || event.metaKey) || asTable) return;
    event.preventDefault(); // the browser would make the page larger
    zoom(1.002 ** Math.max(-400, Math.min(event.deltaY, 400)), timeOf(xOf(event)));
  }, { passive: false });
  plot.addEventListener("focusin", (event) => {
    const lane = laneOf(event);
    if (!lane || asTable) return;
    rove(lane);
    if (lane.line.matches(":focus-visible")) choose(lane, chosenOf(lane) ?? lane.boxes.at(-1));
  });
  plot.addEventListener("focusout", (event) => {
    const lane = laneOf(event);
    if (lane) lane.chosen = null;
    if (lane) paint([lane]);
    hush();
  });
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && (told || drag.length)) {
      event.stopPropagation();
      hush();
      return drop(false);
    }
    const lane = laneOf(event);
    if (!lane || asTable || event.ctrlKey || event.metaKey || event.altKey) return;
    const { boxes } = lane;
    const box = chosenOf(lane) ?? boxes.at(-1);
    const i = box ? boxes.indexOf(box) : 0;
    const beside = (/** @type {number} */ by) => {
      const places = [...plot.querySelectorAll(".place")];
      const next = lanes.get(places[places.indexOf(lane.place) + by]);
      if (!next) return;
      next.chosen = lane.chosen;
      next.line.focus();
    };
    const middle = box && (box.from + box.to) / 2;
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => choose(lane, boxes[i - 1]),
      ArrowRight: () => choose(lane, boxes[i + 1]),
      Home: () => choose(lane, boxes[0]),
      End: () => choose(lane, boxes.at(-1)),
      ArrowUp: () => beside(-1),
      ArrowDown: () => beside(1),
      "+": () => zoom(0.5, lane.chosen === null ? undefined : middle),
      "-": () => zoom(2, lane.chosen === null ? undefined : middle),
      Enter: () => enter?.(lane.udid),
    };
    const act = keys[event.key === "=" ? "+" : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  addEventListener("scroll", () => told && tell(told.lane, told.when, told.x), { signal, passive: true, capture: true });
  addEventListener("hashchange", update, { signal });
  live.addEventListener("transitions", (/** @type {any} */ { detail }) => {
    for (const { udid } of detail) moved.add(udid);
    soon();
  }, { signal });
  live.addEventListener("standing", () => live.standing === "live" && soon(), { signal });
  update();

  return {
    bar,
    axis,
    plot,
    /** Another lane, where it is put. @param {string} udid @param {string} name */
    lane(udid, name) {
      const line = svg("svg", { class: "line", role: "slider", tabindex: -1, preserveAspectRatio: "none", "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-valuetext": "Nothing is known" });
      const place = el("div", { class: "place" });
      if (!asTable) place.append(line);
      /** @type {Lane} */
      const lane = { udid, name, place, line, stays: null, unseen: [], boxes: [], blind: [], chosen: null, near: false, asked: "", answered: 0 };
      lanes.set(place, lane);
      if (!rover) rove(lane);
      sight.observe(place);
      const call = (/** @type {string} */ to) => line.setAttribute("aria-label", `Timeline of ${(lane.name = to)}`);
      call(name);
      return { place, call };
    },
    /** @param {Element} place */
    remove(place) {
      const lane = lanes.get(place);
      sight.unobserve(place);
      lanes.delete(place);
      if (lane) dirty.delete(lane);
      if (lane === rover) rove(lanes.values().next().value);
    },
    close() {
      ended.abort();
      sight.disconnect();
      size.disconnect();
      look.end();
      cancelAnimationFrame(frame);
      clearInterval(timer);
      clearTimeout(loading);
      clearTimeout(zooming);
    },
  };
}
