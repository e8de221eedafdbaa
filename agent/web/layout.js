// When a phone was how, as boxes and ticks in pixels: no element is made here.

/**
 * @typedef {{from: number, to: number}} Range In milliseconds since 1970.
 * @typedef {Range & {x: number, width: number, state: string, count: number, thin: boolean, stay: Stay}} Box
 * Its `stay` is the worst of the `count` that it stands for.
 *
 * @typedef {Range & {state: string, early?: boolean, reason?: string, holder?: string, why?: string}} Stay
 * It may last on (`to` is infinite), and have begun before (`early`).
 */

/** The worse is shown where several fall on one pixel. */
const WORSE = ["online", "utilizing", "unplugged", "offline"];
/** Pixels that even a moment has. */
export const THIN = 2;
const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];
const UNITS = { d: DAY, h: HOUR, m: MINUTE, s: 1000 };
/** The shortest and the longest time that is shown. */
const [LEAST, MOST] = [MINUTE, 400 * DAY];
const STEPS = [10_000, 30_000, ...[1, 5, 15, 30].map((n) => n * MINUTE), ...[1, 2, 3, 6, 12].map((n) => n * HOUR), ...[1, 2, 7, 14, 28, 56].map((n) => n * DAY)];

/** As they are drawn above each other. @param {Box} a @param {Box} b */
export const worstLast = (a, b) => Number(a.thin) - Number(b.thin) || WORSE.indexOf(a.state) - WORSE.indexOf(b.state);

/**
 * Stays as boxes, in their order. Neighbours that are too thin to be seen become one.
 *
 * @param {Stay[]} stays By time.
 * @param {Range} range
 * @param {number} width
 * @returns {Box[]}
 */
export function layout(stays, range, width) {
  const scale = width / (range.to - range.from);
  /** @type {Box[]} */
  const boxes = [];
  for (const stay of stays) {
    const from = Math.max(stay.from, range.from);
    const to = Math.min(stay.to, range.to);
    if (from > to || from === range.to) continue;
    const [x, right] = [(from - range.from) * scale, (to - range.from) * scale];
    const thin = right - x < THIN;
    const last = boxes.at(-1);
    if (last?.thin && thin && right - last.x < THIN) {
      last.to = to;
      last.count += 1;
      if (WORSE.indexOf(stay.state) > WORSE.indexOf(last.state)) [last.state, last.stay] = [stay.state, stay];
    } else boxes.push({ from, to, x: Math.min(x, width - THIN), width: thin ? THIN : right - x, state: stay.state, count: 1, thin, stay });
  }
  return boxes;
}

/**
 * Which box is at a place: a moment before what is around it.
 *
 * @param {Box[]} boxes
 * @param {number} x
 */
export function hit(boxes, x) {
  const near = boxes.filter((box) => box.thin && Math.abs(x - box.x - THIN / 2) < 4);
  return near.sort(worstLast).at(-1) ?? boxes.find((box) => x >= box.x && x <= box.x + box.width);
}

const text = (/** @type {Intl.DateTimeFormatOptions} */ how) => new Intl.DateTimeFormat(undefined, how);
const [ON, AT, AT_SECOND] = [text({ day: "numeric", month: "short" }), text({ timeStyle: "short" }), text({ timeStyle: "medium" })];

/**
 * Round times of this machine's zone, also over the days in which clocks are changed.
 *
 * @param {Range} range
 * @param {number} width
 * @param {number} gap The least between two, in pixels.
 * @returns {{x: number, at: number, text: string, day: boolean}[]}
 */
export function ticks({ from, to }, width, gap) {
  const step = STEPS.find((each) => (each * width) / (to - from) >= gap) ?? STEPS[STEPS.length - 1];
  const first = new Date(from);
  const [year, month, date] = [first.getFullYear(), first.getMonth(), first.getDate()];
  const off = first.getTimezoneOffset() * MINUTE;
  const days = step / DAY;
  // Weeks begin on Mondays; 1970 began on a Thursday.
  const before = days < 1 ? 0 : (Date.UTC(year, month, date) / DAY + 3) % days;
  const made = [];
  for (let i = 0; ; i++) {
    const hours = days < 1 ? (i * step) / HOUR : 0;
    const at = step <= HOUR ? Math.ceil((from - off) / step + i) * step + off : +new Date(year, month, date - before + (days < 1 ? 0 : i * days), hours);
    if (at > to) return made;
    const local = new Date(at);
    // Not the hour that this day leaves out.
    if (at < from || (step > HOUR && days < 1 && local.getHours() !== hours % 24)) continue;
    const day = !(local.getHours() || local.getMinutes() || local.getSeconds());
    made.push({ x: ((at - from) * width) / (to - from), at, text: (day || days >= 1 ? ON : step < MINUTE ? AT_SECOND : AT).format(at), day });
  }
}

/** @param {string | null} text `90m`, `7d`. @returns {number} Milliseconds; 0: it is none. */
function duration(text) {
  const [, number, unit] = /^(\d+)([dhms])$/.exec(text ?? "") ?? [];
  return number ? Number(number) * UNITS[/** @type {keyof typeof UNITS} */ (unit)] : 0;
}

/**
 * What an address says: `since` is a moment or how long ago, `until` a moment or now.
 *
 * @param {URLSearchParams} query
 * @param {number} now
 * @returns {Range & {goes: boolean}} `goes`: its end is now.
 */
export function rangeOf(query, now) {
  const until = Date.parse(query.get("until") ?? "");
  const goes = !(until <= now);
  const to = goes ? now : until;
  const long = duration(query.get("since")) || to - Date.parse(query.get("since") ?? "");
  return { from: to - Math.min(Math.max(long > 0 ? long : DAY, LEAST), MOST), to, goes };
}

/**
 * The same for an address. What ends now goes on with it.
 *
 * @param {Range} range
 * @param {number} now
 */
export function addressOf({ from, to }, now) {
  const long = Math.min(Math.max(to - from, LEAST), MOST);
  const end = Math.min(to, now);
  if (end < now - long / 500) return { since: iso(end - long), until: iso(end) };
  // Four digits at most.
  const round = long > 90 * HOUR ? HOUR : long > 2 * HOUR ? MINUTE : 1000;
  const whole = Math.round(long / round) * round;
  const [unit, size] = /** @type {[string, number]} */ (Object.entries(UNITS).find(([, ms]) => whole % ms === 0));
  return { since: whole / size + unit, until: "" };
}

/** As the API and addresses have it. @param {number} ms */
export const iso = (ms) => `${new Date(ms).toISOString().slice(0, 19)}Z`;
