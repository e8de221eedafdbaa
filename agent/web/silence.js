// Silences: what they cover, the dialog that begins one, and their rows.

import { act, errorLine, field, modal } from "./act.js";
import { ask, now } from "./api.js";
import { el, say } from "./dom.js";
import { fleet } from "./fleet.js";
import { at, count, local, moment, momentOf } from "./format.js";
import { live } from "./live.js";

/**
 * All that a device can be silenced by, itself first, as `kind value`. The agent names no hubs to a
 * device: they are read off its port, as `hubs_of` of agent/track/silence_book.py does. At a fleet's
 * hub they stand behind their host.
 *
 * @param {Api.Device} device
 * @returns {string[]}
 */
export function choicesOf({ udid, tags, platform, port, host }) {
  const at = fleet.hub ? `${host}/` : "";
  const path = port.split(".");
  const hubs = port ? [...path.map((_, i) => path.slice(0, path.length - i).join(".")), `usb${port.replace(/^usb/, "").split("-")[0]}`] : [];
  return [`device ${udid}`, ...tags.map((tag) => `tag ${tag}`), ...hubs.map((hub) => `hub ${at}${hub}`), `platform ${platform}`, "all "];
}

/**
 * Those in force that cover a device.
 *
 * @param {Api.Device} device
 */
export function covering(device) {
  const keys = choicesOf(device);
  return live.silences.filter(({ kind, value }) => keys.includes(`${kind} ${value}`));
}

/**
 * Have somebody silence what is one of these, as `choicesOf` has them.
 *
 * @param {string[]} choices
 */
export async function begin(choices) {
  const option = (/** @type {string} */ value, text = value) => el("option", { value }, text);
  const what = el("select", { onchange: tell }, choices.map((each) => option(each, each === "all " ? "all devices" : each)));
  const time = el("select", { onchange: tell }, option("1800", "30 min"), option("7200", "2 h"), option("", "until …"));
  const ends = el("input", { type: "datetime-local", oninput: tell, required: true, value: local(now() + 86_400_000) });
  const until = field("Until", ends);
  const reason = el("input", { required: true, maxlength: 512, autofocus: true });
  const covered = el("p", { role: "status" });
  function tell() {
    const number = [...live.devices.values()].filter((device) => choicesOf(device).includes(what.value)).length;
    until.hidden = ends.disabled = time.value !== "";
    const end = until.hidden || !ends.value ? "" : `, ${moment(momentOf(ends.value, true))},`;
    say(covered, `Covers ${count(number, "device")} now. At its end${end} each that is in another state than before calls back once.${madeAt(what.value)}`);
  }
  tell();
  const parts = [field("What", what), covered, field("For", time), until, field("Reason, for those who miss a callback", reason)];
  await modal("Keep callbacks back", parts, "Silence", () => {
    const [kind, ...value] = what.value.split(" ");
    const end = time.value ? { seconds: +time.value } : { ends: new Date(momentOf(ends.value, true)).toISOString() };
    return ask("POST", "v1/silences", { [kind]: kind === "all" || value.join(" "), reason: reason.value, ...end });
  });
  // A host may be lost while somebody types.
  const again = () => (covered.isConnected ? tell() : fleet.removeEventListener("change", again));
  fleet.addEventListener("change", again);
}

/** Where a fleet's hub makes one. @param {string} choice */
function madeAt(choice) {
  if (!fleet.hub) return "";
  if (/^(device|hub) /.test(choice)) return " It is made at the agent of its host, which must be reached.";
  const those = (/** @type {boolean} */ gone) => fleet.hosts.filter(({ state }) => state !== "alive" && (state === "gone") === gone).map(({ host }) => host).join(", ");
  const [gone, lost] = [those(true), those(false)];
  return ` It is made at all hosts${gone && `, but for ${gone}: what comes back there is not silenced`}. Each must be reached${lost && `; now not: ${lost}`}.`;
}

/**
 * One in force, with its end at hand.
 *
 * @param {Api.Silence} silence
 */
export function row({ id, kind, value, devices, ends, reason, by }) {
  const line = errorLine();
  const end = el("button", { "aria-label": `End ${kind} ${value}`, "data-key": id, onclick: () => act(end, line, () => ask("DELETE", `v1/silences/${id}`)) }, "End");
  return el("li", {}, el("p", {}, el("strong", {}, `${kind} ${value}`), ` · ${count(devices, "device")} · until `, at(ends), el("br"), `${reason} · ${by}`), end, line);
}
