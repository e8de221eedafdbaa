// How states and times are shown: one place for their words, shapes and colours.

import { now } from "./api.js";
import { el, say } from "./dom.js";

/** @type {Record<Api.Device["state"], {word: string, shape: string}>} Colours are in the style sheet. */
export const STATES = {
  offline: { word: "Offline", shape: "▲" },
  utilizing: { word: "In use", shape: "◆" },
  online: { word: "Online", shape: "●" },
  unplugged: { word: "Unplugged", shape: "○" },
};

/**
 * A battery in words: `87 % charging · 31 °C · hot`; nothing of what is unknown.
 *
 * @param {Api.Device["battery"]} battery
 */
export function charge(battery) {
  if (!battery) return "";
  const { level, temperature, charging, hot, low } = battery;
  return [
    level !== null && `${level} %${charging ? " charging" : ""}`,
    temperature !== null && `${Math.round(temperature)} °C`,
    hot && "hot",
    low && "low",
  ].filter(Boolean).join(" · ");
}

/** How a callback stands: word, shape, and the state that it is coloured like. */
export const CALLBACKS = { pending: ["Waiting", "◌", "utilizing"], delivered: ["Delivered", "●", "online"], dead: ["Dead", "▲", "offline"], cancelled: ["Cancelled", "○", "unplugged"] };

/**
 * A moment as a `datetime-local` field has it.
 *
 * @param {number} ms
 */
export const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

/**
 * The moment of such a field: of two, where clocks are put back, the later for what ends then.
 *
 * @param {string} value
 * @param {boolean} [ends]
 */
export function momentOf(value, ends) {
  const first = Date.parse(value);
  return ends && value && local(first + HOUR) === value ? first + HOUR : first;
}

/** A time in an address, as the API takes it: how long ago, or ISO, without a zone UTC; else NaN. @param {string} said @param {number} now */
export function whenOf(said, now) {
  const ago = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(said);
  const [, d = 0, h = 0, m = 0, s = 0] = /** @type {any} */ (ago ?? []);
  return ago ? now - (((d * 24 + +h) * 60 + +m) * 60 + +s) * 1000 : Date.parse(/T[\d:.]+$/.test(said) ? `${said}Z` : said);
}

/**
 * A state by colour, shape and word.
 *
 * @param {string} state
 * @param {string} [tag]
 * @returns {HTMLElement}
 */
export function stateOf(state, tag = "span") {
  const known = STATES[/** @type {Api.Device["state"]} */ (state)] ?? { word: state, shape: "?" };
  return el(/** @type {"span"} */ (tag), { class: `state is-${state}` }, shape(known.shape), " ", known.word);
}

/**
 * A sign that is not read out: the word beside it says the same.
 *
 * @param {string} sign
 * @returns {HTMLElement}
 */
export function shape(sign) {
  return el("span", { class: "shape", "aria-hidden": "true" }, sign);
}

/**
 * How long that is, in its greatest unit: `38 min`.
 *
 * @param {number} ms
 * @returns {string}
 */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/**
 * The same more exactly, in its two greatest units: `1 h 5 min`.
 *
 * @param {number} ms
 * @returns {string}
 */
export function lasted(ms) {
  let left = Math.max(0, Math.round(ms / 1000));
  const parts = [];
  for (const [size, unit] of /** @type {const} */ ([[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]])) {
    if (left >= size) parts.push(`${Math.floor(left / size)} ${unit}`);
    left %= size;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

/**
 * Milliseconds that something took: `18 ms`, `1.2 s`.
 *
 * @param {number} ms
 * @returns {string}
 */
export function took(ms) {
  return ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/**
 * A size in bytes as people say it.
 *
 * @param {number} bytes
 * @returns {string}
 */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit += 1) bytes /= 1000;
  return `${bytes >= 10 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

/**
 * How many, with the word in its number.
 *
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 * @returns {string}
 */
export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

const HOUR = 3_600_000;
/** `long` names the zone. */
const [TIME, DAY, TIME_IN_ZONE, FULL] = ["medium", "long"].flatMap((style) => {
  const timeStyle = /** @type {"medium" | "long"} */ (style);
  return [new Intl.DateTimeFormat(undefined, { timeStyle }), new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle })];
});

/** @param {...Date} all */
function format(...all) {
  const today = all.every((at) => at.toDateString() === new Date(now()).toDateString());
  const turned = all.some((at) => [-HOUR, HOUR].some((by) => new Date(+at + by).getTimezoneOffset() !== at.getTimezoneOffset()));
  return today ? (turned ? TIME_IN_ZONE : TIME) : turned ? FULL : DAY;
}

/**
 * A moment in this machine's time zone: without the date where it is today's, and with the zone in
 * the hours in which clocks are put back, when the same time comes twice.
 *
 * @param {string | number} iso
 * @returns {string}
 */
export function moment(iso) {
  const at = new Date(iso);
  return format(at).format(at);
}

/**
 * The same for a time from when to when.
 *
 * @param {number} from
 * @param {number} to
 */
export function moments(from, to) {
  const both = /** @type {const} */ ([new Date(from), new Date(to)]);
  return format(...both).formatRange(...both);
}

/**
 * A moment, as an element that has it in full.
 *
 * @param {string | null} iso null: never.
 * @param {string} [never]
 * @returns {HTMLElement}
 */
export function at(iso, never = "never") {
  if (iso === null) return el("span", { class: "dim" }, never);
  return el("time", { datetime: iso, title: FULL.format(new Date(iso)) }, moment(iso));
}

/**
 * How long ago a moment was, ticking; see `tick`.
 *
 * @param {string | null} iso null: never, shown as a dash.
 * @param {string} [after] Behind it: " ago".
 * @returns {HTMLElement}
 */
export function age(iso, after = "") {
  const made = el("time", { class: "age", "data-after": after });
  setAge(made, iso);
  return made;
}

/**
 * How long it is until a moment, ticking: `in 9 s`.
 *
 * @param {string | null} iso null: at once.
 * @returns {HTMLElement}
 */
export function until(iso) {
  const made = el("time", { class: "age", datetime: iso ?? "", "data-until": true });
  tell(made, now());
  return made;
}

/**
 * Let an element of `age` count from another moment.
 *
 * @param {HTMLElement} node
 * @param {string | null} iso
 */
export function setAge(node, iso) {
  if (node.getAttribute("datetime") !== (iso ?? "")) {
    node.setAttribute("datetime", iso ?? "");
    if (iso === null) node.removeAttribute("title");
    else node.title = FULL.format(new Date(iso));
  }
  tell(node, now());
}

/**
 * @param {HTMLElement} node
 * @param {number} when
 */
function tell(node, when) {
  const iso = node.getAttribute("datetime");
  const left = iso ? Date.parse(iso) - when : 0;
  if (node.dataset.until !== undefined) say(node, left > 0 ? `in ${span(left)}` : "now");
  else say(node, iso ? span(when - Date.parse(iso)) + (node.dataset.after ?? "") : "–");
}

/** Let all that tick show how long it is by now. */
export function tick() {
  const when = now();
  for (const node of document.querySelectorAll("time.age")) tell(/** @type {HTMLElement} */ (node), when);
}
