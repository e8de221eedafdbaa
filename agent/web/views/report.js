// How available, used and broken phones were in a time: a table that sorts, and files of it.

import { errorLine } from "../act.js";
import { ask, now, query as text } from "../api.js";
import { el, part, put, say } from "../dom.js";
import { at, count, lasted, local, moments, shape } from "../format.js";
import { poll } from "../poll.js";
import { show } from "../session.js";

export const title = "Report";

const EVERY = 60_000;
/** Milliseconds of one frame for rows. */
const BUDGET = 8;
const BY = { device: "Phone", hub: "Hub", tag: "Tag", model: "Model", platform: "Platform" };
const RANGES = { "1d": "Last day", "7d": "Last week", "30d": "Last month", "90d": "Last 90 days", range: "From … to …" };

/** @typedef {Api.Figures} Row */

const percent = (/** @type {number | null} */ part) => (part === null ? "–" : `${(Math.floor(part * 1000) / 10).toFixed(1)} %`);
const dim = (/** @type {string | false} */ said) => said && el("div", { class: "dim small" }, said);
const times = (/** @type {number} */ number, /** @type {number} */ ms) => (number || ms ? [`${number}×`, dim(lasted(ms))] : ["–"]);
const named = (/** @type {Row} */ row) => row.name || row.key || "(none)";

/** @param {Row} row @param {string} by */
function name(row, by) {
  const { key, devices } = row;
  const to = { device: `#/devices/${encodeURIComponent(key)}`, hub: `#/history${text({ hub: key })}`, tag: `#/history${text({ tag: key })}` }[by];
  return [to && key ? el("a", { href: to, "data-key": key }, el("bdi", {}, named(row))) : el("bdi", {}, named(row)), by === "device" ? el("div", { class: "mono dim" }, key) : dim(count(devices, "phone"))];
}

/** Title, what it is sorted by, and what is shown. @type {Record<string, [string, (row: Row) => number | string, (row: Row, by: string) => import("../dom.js").Child[]]>} */
const COLUMNS = {
  name: ["", (row) => named(row).toLowerCase(), name],
  availability: ["Available", (row) => row.availability ?? 2, (row) => [percent(row.availability), dim(`of ${lasted(row.seen_ms)} seen`), dim(row.unseen_ms > 0 && `${lasted(row.unseen_ms)} not seen`)]],
  utilization: ["In use", (row) => row.utilization ?? 2, (row) => [percent(row.utilization), dim(row.utilizing_ms > 0 && lasted(row.utilizing_ms))]],
  offline: ["Offline", (row) => row.offline_ms, (row) => times(row.offline_count, row.offline_ms)],
  unplugged: ["Unplugged", (row) => row.unplugged_ms, (row) => times(row.unplugged_count, row.unplugged_ms)],
  flaps: ["Short outages", (row) => row.flaps, (row) => [row.flaps]],
  repair: ["Mean repair", (row) => row.repair_ms_mean ?? -1, (row) => [row.repair_ms_mean === null ? "–" : lasted(row.repair_ms_mean)]],
  reasons: ["Why", (row) => row.reasons[0]?.ms ?? 0, (row) => row.reasons.slice(0, 3).map(({ code, count: number, ms }) => el("div", {}, code ? code.replaceAll("_", " ").replace("usb", "USB") : "no reason told", el("span", { class: "dim" }, ` ${number}×, ${lasted(ms)}`)))],
};

/**
 * A field of CSV. What a spreadsheet would take for a formula begins with an apostrophe.
 *
 * @param {unknown} value
 */
function cell(value) {
  const said = String(value ?? "");
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(said) ? `'${said}` : said;
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** @param {Api.Report} report */
function csv({ rows, total }) {
  const keys = /** @type {(keyof Row)[]} */ (Object.keys(total));
  const line = (/** @type {Row} */ row) => keys.map((key) => cell(key === "reasons" ? row.reasons.map(({ code, count: number, ms }) => `${code} ${number} ${ms}`).join("; ") : row[key])).join(",");
  return [keys.join(","), ...rows.map(line), line({ ...total, key: "total" })].map((each) => `${each}\r\n`).join("");
}

/**
 * @param {HTMLElement} root
 * @returns {import("../main.js").View}
 */
export function open(root) {
  /** @type {Api.Report | null} */
  let told = null;
  /** @type {Record<string, string>} */
  let want = {};
  let [asked, frame, answered] = ["", 0, ""];

  const select = (/** @type {string} */ label, /** @type {Record<string, string>} */ options) => el("select", { "aria-label": label }, Object.entries(options).map(([value, word]) => el("option", { value }, word)));
  const by = select("by", Object.fromEntries(Object.entries(BY).map(([key, word]) => [key, `By ${word.toLowerCase()}`])));
  const range = select("time", RANGES);
  const [since, until] = ["since", "until"].map((label) => el("input", { type: "datetime-local", "aria-label": label }));
  const save = (/** @type {string} */ kind) => el("button", { type: "button", disabled: true, onclick: () => download(kind) }, kind.toUpperCase());
  const files = [save("csv"), save("json")];
  const [error, note, suspects] = [errorLine(), el("p", { class: "dim", role: "status" }, "Asking the agent …"), el("ul", { class: "plain" })];
  const blamed = el("section", { class: "card", hidden: true }, el("h2", {}, "Suspects"), suspects);
  const heads = Object.entries(COLUMNS).map(([key, [word]]) => ({ key, th: el("th", { scope: "col" }, el("button", { type: "button", class: "link", onclick: () => go({ sort: want.sort === key ? `-${key}` : key }) }, word)) }));
  const [body, foot] = [el("tbody"), el("tfoot")];
  const table = el("table", { hidden: true }, el("caption", { class: "unseen" }, "Figures; press a column's name to sort"), el("thead", {}, el("tr", {}, heads.map(({ th }) => th))), body, foot);
  put(root, el("div", { class: "head" }, el("h1", {}, title), by, range, since, until, el("span", { class: "end" }, "Download ", files)), error, note, blamed, table);

  /** @param {Record<string, string>} change */
  function go(change) {
    const { time: _, ...rest } = { ...want, ...change };
    location.hash = `#/report${text(rest)}`;
  }
  by.onchange = () => go({ by: by.value });
  range.onchange = () => (range.value === "range" ? go({ since: iso(local(now() - 864e5)), until: iso(local(now())) }) : go({ since: range.value, until: "" }));
  const iso = (/** @type {string} */ value) => value && `${new Date(value).toISOString().slice(0, 19)}Z`;
  for (const field of [since, until]) field.onchange = () => go({ since: iso(since.value), until: iso(until.value) });

  /** @param {string} kind */
  function download(kind) {
    if (!told) return;
    const content = kind === "csv" ? `\ufeff${csv(told)}` : JSON.stringify(told, null, 2);
    const href = URL.createObjectURL(new Blob([content], { type: kind === "csv" ? "text/csv" : "application/json" }));
    el("a", { href, download: `report-${told.by}-${told.since.slice(0, 10)}-${told.until.slice(0, 10)}.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }

  function draw() {
    cancelAnimationFrame(frame);
    for (const { key, th } of heads) {
      const down = want.sort === `-${key}`;
      if (down || want.sort === key) th.setAttribute("aria-sort", down ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    if (!told) return;
    const { rows, total, by: kind, since: from, until: to } = told;
    say(/** @type {Element} */ (heads[0].th.firstChild), BY[kind]);
    const long = Date.parse(to) - Date.parse(from);
    say(note, `${moments(Date.parse(from), Date.parse(to))} (${lasted(long)}). ${total.seen_ms ? "" : "Nothing is stored of this time."} ${total.unseen_ms ? "Time in which nobody could see a phone counts in no percentage." : ""}`);
    part(suspects, told.suspects, () => (told?.suspects ?? []).map(({ kind: what, key, why }) => el("li", { class: "warn" }, shape("▲ "), el("strong", {}, `${what} ${key}: `), why)));
    blamed.hidden = !told.suspects.length;
    table.hidden = !rows.length;
    const [, down, column = ""] = /^(-?)(.*)$/.exec(want.sort) ?? [];
    const of = (COLUMNS[column] ?? COLUMNS.availability)[1];
    const sorted = rows.map((row) => ({ row, value: of(row) })).sort((a, b) => (a.value < b.value ? -1 : Number(a.value > b.value)) * (down ? -1 : 1)).map(({ row }) => row);
    const cells = (/** @type {Row} */ row) => Object.entries(COLUMNS).map(([key, [word, , shown]]) => el(key === "name" ? "th" : "td", { scope: key === "name" && "row", "data-label": word }, shown(row, kind)));
    part(foot, [total, kind], () => [el("tr", {}, cells({ ...total, key: "", name: "All" }).map((each, i) => (i ? each : el("th", { scope: "row" }, "All", dim(count(total.devices, "phone"))))))]);
    let i = 0;
    // Rows are used again, so that what is focused and how far it is scrolled stay.
    const some = () => {
      const end = performance.now() + BUDGET;
      for (; i < sorted.length && performance.now() < end; i++) {
        const row = sorted[i];
        part(body.children[i] ?? body.appendChild(el("tr")), [row, kind], () => cells(row));
      }
      if (i < sorted.length) frame = requestAnimationFrame(some);
      else while (body.children.length > i) body.lastElementChild?.remove();
    };
    some();
  }

  const look = poll(EVERY, async (aborted) => {
    const about = asked;
    try {
      const report = await ask("GET", `v1/report${about}`, undefined, aborted);
      if (about !== asked) return;
      [told, answered] = [report, new Date().toISOString()];
      show(error, null);
      draw();
    } catch (failed) {
      if (aborted.aborted || about !== asked) return;
      say(note, "");
      show(error, failed);
      if (answered) put(error, " What is shown is of ", at(answered));
    }
    for (const button of files) button.disabled = !told;
  });

  function update() {
    const before = asked;
    want = { by: "device", since: "30d", sort: "availability", ...Object.fromEntries(new URLSearchParams(location.hash.split("?")[1])) };
    by.value = want.by;
    range.value = Object.hasOwn(RANGES, want.since) && !want.until ? want.since : "range";
    for (const [field, value] of /** @type {const} */ ([[since, want.since], [until, want.until]])) {
      field.hidden = range.value !== "range";
      const ms = Date.parse(value ?? "");
      field.value = ms ? local(ms) : "";
    }
    asked = text({ by: want.by, since: want.since, until: want.until });
    if (asked === before) return draw();
    say(note, "Asking the agent …");
    void look.now();
  }
  update();
  return {
    update,
    close() {
      look.end();
      cancelAnimationFrame(frame);
    },
  };
}
