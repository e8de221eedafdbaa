// Leases: taking a device, and giving it back.

import { act, field, modal } from "./act.js";
import { ask, now } from "./api.js";
import { el, say } from "./dom.js";
import { fleet } from "./fleet.js";
import { moment } from "./format.js";
import { session } from "./session.js";

/** Those that were taken here. @type {Set<string>} */
const mine = new Set();

/**
 * @param {Api.Device} device
 * @param {() => void} done
 */
export async function take({ udid, name, host }, done) {
  if (!(await session.toChange())) return;
  const holder = el("input", { required: true, value: session.asker.session?.user ?? "" });
  const purpose = el("input");
  const time = el("select", { onchange: tell }, [0.5, 1, 2, 4, 8, 24].map((hours) => el("option", { value: hours * 3600 }, `${hours} h`)));
  const note = el("p", { role: "status" });
  function tell() {
    say(note, `It ends by itself at ${moment(new Date(now() + +time.value * 1000).toISOString())}; nothing renews it.`);
  }
  tell();
  await modal(`Take ${name}${fleet.hub ? ` at ${host}` : ""}`, [field("Holder", holder), field("Purpose", purpose), field("For", time), note], "Take", async () => {
    const lease = await ask("POST", "v1/leases", { udid, holder: holder.value, purpose: purpose.value, ttl: +time.value });
    mine.add(lease.id);
    done();
  });
}

/**
 * Give a lease back; somebody else's after a question.
 *
 * @param {Api.Lease} lease
 * @param {HTMLButtonElement} button
 * @param {Element} line
 * @param {() => void} done
 */
export function release({ id, holder, purpose, since }, button, line, done) {
  const free = () => ask("DELETE", `v1/leases/${id}`).then(done);
  if (mine.has(id)) return act(button, line, free);
  const why = `${holder} has it since ${moment(since)}${purpose && ` for ${purpose}`}. What they run is not stopped; somebody else may take the phone.`;
  return modal(`Release the lease of ${holder}?`, [el("p", {}, why)], "Release", free);
}
