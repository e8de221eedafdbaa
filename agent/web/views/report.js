// How available, used and broken phones were in a time: a table that sorts, and files of it.

import { errorLine } from "../act.js";
import { addressed, ask, query, readdress } from "../api.js";
import { el, part, pieces, put, say } from "../dom.js";
import { at, count, lasted, moments, shape } from "../format.js";
import { poll } from "../poll.js";
import { show } from "../session.js";

export const title = "Report";

/** @typedef {Api.Figures} Row */
/** @typedef {import("../dom.js").Child[]} Children */

const BY = { device: "Phone", hub: "Hub", tag: "Tag", model: "Model", platform: "Platform" };
const RANGES = { "1d": "Last day", "7d": "Last week", "30d": "Last month", "90d": "Last 90 days" };

const percent = (/** @type {number | null} */ part) => (part === null ? "–" : `${(Math.floor(part * 1000) / 10).toFixed(1)} %`);
const small = (/** @type {string | number | false} */ said) => said && el("div", { class: "dim small" }, said);
const times = (/** @type {number} */ number, /** @type {number} */ ms) => (number || ms ? [`${number}×`, small(lasted(ms))] : ["–"]);
const called = (/** @type {Row} */ { name, key }) => name || key || "(none)";
const WHERE = { device: "devices/", hub: "history?hub=", tag: "history?tag=", model: "devices?q=", platform: "devices?platform=" };

/** Title, what it sorts by, what is shown. @type {Record<string, [string, (row: Row) => number | string, (row: Row, by: keyof typeof BY) => Children]>} */
const COLUMNS = {
  name: ["", (row) => called(row).toLowerCase(), (row, by) => [row.key ? el("a", { href: `#/${WHERE[by]}${encodeURIComponent(row.key)}` }, el("bdi", {}, called(row))) : called(row), small(by === "device" && row.key ? row.key : count(row.devices, "phone"))]],
  availability: ["Available", (row) => row.availability ?? 2, (row) => [percent(row.availability), small(`of ${lasted(row.seen_ms)} seen`), small(row.unseen_ms > 0 && `${lasted(row.unseen_ms)} not seen`)]],
  utilization: ["In use", (row) => row.utilization ?? 2, (row) => [percent(row.utilization), small(row.utilizing_ms > 0 && lasted(row.utilizing_ms))]],
  offline: ["Offline", (row) => row.offline_ms, (row) => times(row.offline_count, row.offline_ms)],
  unplugged: ["Unplugged", (row) => row.unplugged_ms, (row) => times(row.unplugged_count, row.unplugged_ms)],
  flaps: ["Short outages", (row) => row.flaps, (row) => [row.flaps]],
  repair: ["Mean repair", (row) => row.repair_ms_mean ?? -1, (row) => [row.repair_ms_mean === null ? "–" : lasted(row.repair_ms_mean)]],
  reasons: ["Why", (row) => row.reasons[0]?.ms ?? 0, (row) => row.reasons.slice(0, 3).map(({ code, count: number, ms }) => el("div", {}, code.replaceAll("_", " ").replace("usb", "USB") || "no reason told", el("span", { class: "dim" }, ` ${number}×, ${lasted(ms)}`)))],
};

/** A field; what a spreadsheet would take for a formula begins with an apostrophe, also where semicolons part cells (`agent/cli/spreadsheet.py`). @param {unknown} value */
const cell = (value) => `"${String(value ?? "").replace(/(^|;)(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'$2").replaceAll('"', '""')}"`;

/** @param {Api.Report} report */
function csv({ rows, total }) {
  const keys = /** @type {(keyof Row)[]} */ (Object.keys(total));
  const line = (/** @type {Row} */ row) => keys.map((key) => cell(key === "reasons" ? row.reasons.map(({ code, count, ms }) => `${code} ${count} ${ms}`).join("; ") : row[key]));
  return [keys, ...rows.map(line), line({ ...total, key: "total" })].map((each) => `${each}\r\n`).join("");
}

/**
 * @param {HTMLElement} root
 * @returns {import("../main.js").View}
 */
export function open(root) {
  /** @type {Api.Report | null} */
  let told = null;
  let [asked, answered] = ["", ""];
  /** @type {ReturnType<typeof pieces> | undefined} */
  let drawing;
  const want = () => ({ by: "device", since: "30d", until: "", sort: "availability", ...addressed() });

  const selects = Object.entries({ by: BY, since: RANGES }).map(([key, options]) => {
    const select = el("select", { "aria-label": key, onchange: () => readdress({ [key]: select.value, until: "" }) }, Object.entries(options).map(([value, word]) => el("option", { value }, key === "by" ? `By ${word.toLowerCase()}` : word)));
    return { key: /** @type {"by"} */ (key), select };
  });
  const files = ["csv", "json"].map((kind) => el("button", { type: "button", disabled: true, onclick: () => told && save(told, kind) }, kind.toUpperCase()));
  const [error, note, suspects] = [errorLine(), el("p", { class: "dim", role: "status" }), el("ul", { class: "plain card", hidden: true })];
  const heads = Object.entries(COLUMNS).map(([key, [word]], i) => {
    const ways = i < 2 ? [key, `-${key}`] : [`-${key}`, key];
    return el("th", { scope: "col", "data-key": key }, el("button", { class: "link", onclick: () => readdress({ sort: ways[Number(want().sort === ways[0])] }) }, word));
  });
  const [body, foot] = [el("tbody"), el("tfoot")];
  const table = el("table", { hidden: true }, el("thead", {}, el("tr", {}, heads)), body, foot);
  put(root, el("div", { class: "head" }, el("h1", {}, title), selects.map(({ select }) => select), el("span", { class: "end" }, "Download ", files)), error, note, suspects, table);

  /** @param {Api.Report} report @param {string} kind */
  function save(report, kind) {
    const href = URL.createObjectURL(new Blob(kind === "csv" ? ["\ufeff", csv(report)] : [JSON.stringify(report, null, 2)]));
    el("a", { href, download: `report-${report.by}-${report.since.slice(0, 10)}-${report.until.slice(0, 10)}.${kind}` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 10_000);
  }

  function draw() {
    if (!told) return;
    const { rows, total, by, since, until, suspects: blamed } = told;
    const [, down, column] = /** @type {RegExpExecArray} */ (/^(-?)(.*)/.exec(want().sort));
    for (const th of heads) th.setAttribute("aria-sort", th.dataset.key !== column ? "none" : down ? "descending" : "ascending");
    say(/** @type {Element} */ (heads[0].firstChild), BY[by]);
    const [from, to] = [since, until].map(Date.parse);
    say(note, `${moments(from, to)} (${lasted(to - from)}). ${!(total.seen_ms || total.unseen_ms) ? "Nothing is stored of this time." : total.unseen_ms ? "Time in which nobody could see a phone counts in no percentage." : ""}`);
    part(suspects, blamed, () => blamed.map(({ host, who, evidence, advice }) => el("li", { class: "warn" }, el("span", {}, shape("▲ "), el("strong", {}, `${host}, ${who}: `), `${evidence}. ${advice}`))));
    suspects.hidden = !blamed.length;
    table.hidden = !rows.length;
    const cells = (/** @type {Row} */ row) => Object.values(COLUMNS).map(([word, , made]) => el(word ? "td" : "th", { scope: !word && "row", "data-label": word }, made(row, by)));
    part(foot, [total, by], () => [el("tr", {}, cells({ ...total, key: "", name: "All" }))]);
    const of = (COLUMNS[column] ?? COLUMNS.availability)[1];
    const sorted = rows.map((row) => ({ row, value: of(row) })).sort((a, b) => (a.value < b.value ? -1 : Number(a.value > b.value)) * (down ? -1 : 1));
    while (body.children[sorted.length]) body.lastElementChild?.remove();
    let i = 0;
    drawing?.end();
    drawing = pieces(() => {
      const row = sorted[i]?.row;
      if (row) part(body.children[i] ?? body.appendChild(el("tr")), [row, by], () => cells(row));
      return ++i < sorted.length;
    });
    drawing.soon();
  }

  const look = poll(60_000, async (aborted) => {
    const about = asked;
    try {
      const report = await ask("GET", `v1/report${about}`, undefined, aborted);
      if (about !== asked) return;
      told = report;
      answered = report.until;
      show(error, null);
      for (const button of files) button.disabled = false;
      draw();
    } catch (failed) {
      if (aborted.aborted || about !== asked) return;
      say(note, "");
      show(error, failed);
      if (answered) put(error, " What is shown is of ", at(answered));
    }
  });

  function update() {
    const before = asked;
    const { by, since, until } = want();
    for (const { key, select } of selects) select.value = want()[key];
    asked = query({ by, since, until });
    if (asked === before) return draw();
    say(note, "Asking the agent …");
    void look.now();
  }
  update();
  return {
    update,
    close() {
      look.end();
      drawing?.end();
    },
  };
}
