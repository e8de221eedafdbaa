// Silences: what they cover, the dialog that begins one, and their rows.

import { act, field, modal } from "./act.js";
import { ask, now } from "./api.js";
import { el, say } from "./dom.js";
import { at, count } from "./format.js";
import { live } from "./live.js";

/** @typedef {Pick<Api.Silence, "kind" | "value">} What Which devices are meant. */

/**
 * All that a port hangs on, itself first: `1-4.2`, `1-4`, `usb1`.
 *
 * @param {string} port
 * @returns {string[]}
 */
function hubsOf(port) {
  if (!port) return [];
  const parts = port.split(".");
  return [...parts.map((_, i) => parts.slice(0, parts.length - i).join(".")), `usb${port.split("-")[0]}`];
}

/**
 * @param {What} what
 * @param {Api.Device} device
 * @returns {boolean}
 */
export function covers({ kind, value }, device) {
  if (kind === "tag") return device.tags.includes(value);
  if (kind === "hub") return hubsOf(device.port).includes(value);
  return kind === "all" || value === (kind === "platform" ? device.platform : device.udid);
}

/**
 * All by which a device can be silenced, itself first.
 *
 * @param {Api.Device} device
 * @returns {What[]}
 */
export function choicesOf({ udid, tags, platform, port }) {
  return [
    { kind: "device", value: udid },
    ...tags.map((value) => /** @type {What} */ ({ kind: "tag", value })),
    ...hubsOf(port).slice(1).map((value) => /** @type {What} */ ({ kind: "hub", value })),
    ...(platform ? [/** @type {What} */ ({ kind: "platform", value: platform })] : []),
    { kind: "all", value: "" },
  ];
}

/** @param {What} what */
function called({ kind, value }) {
  if (kind === "all") return "All devices";
  const name = kind === "device" && live.devices.get(value)?.name;
  return `${kind[0].toUpperCase()}${kind.slice(1)} ${name ? `${name} (${value})` : value}`;
}

/**
 * Have somebody silence one of these.
 *
 * @param {What[]} choices
 */
export function begin(choices) {
  const what = el("select", { id: "silence-what", onchange: tell }, choices.map((each, i) => el("option", { value: i }, called(each))));
  const time = el("select", { id: "silence-time", onchange: tell }, el("option", { value: 1800 }, "30 min"), el("option", { value: 7200 }, "2 h"), el("option", { value: "" }, "until …"));
  const ends = el("input", { id: "silence-ends", type: "datetime-local", required: true, value: local(now() + 86_400_000) });
  const until = field("Until", ends);
  const reason = el("input", { id: "silence-reason", required: true, maxlength: 512, autofocus: true });
  const covered = el("p", { role: "status" });
  function tell() {
    const number = [...live.devices.values()].filter((device) => covers(choices[+what.value], device)).length;
    say(covered, `Covers ${count(number, "device")} now. At the end each whose state is another one than before calls back once.`);
    until.hidden = ends.disabled = time.value !== "";
  }
  tell();
  const parts = [field("What", what), covered, field("For", time), until, field("Reason, for those who miss a callback", reason)];
  return modal("Keep callbacks back", parts, "Silence", () => {
    const { kind, value } = choices[+what.value];
    const end = time.value ? { seconds: +time.value } : { ends: new Date(ends.value).toISOString() };
    return ask("POST", "v1/silences", { [kind]: kind === "all" || value, reason: reason.value, ...end });
  });
}

/** @param {number} ms */
function local(ms) {
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/**
 * One in force, with its end at hand.
 *
 * @param {Api.Silence} silence
 * @returns {HTMLElement}
 */
export function row(silence) {
  const { id, devices, ends, reason, by } = silence;
  const line = el("p", { class: "error", role: "alert" });
  const end = el("button", { type: "button", "aria-label": `End: ${called(silence)}`, "data-key": id, onclick: () => act(end, line, () => ask("DELETE", `v1/silences/${id}`)) }, "End");
  return el("li", {}, el("p", {}, el("strong", {}, called(silence)), ` · ${count(devices, "device")} · until `, at(ends), el("br"), `${reason} · ${by}`), end, line);
}
