// Leases: taking a device, and giving it back.

import { act, field, modal } from "./act.js";
import { ask, now } from "./api.js";
import { el, say } from "./dom.js";
import { moment } from "./format.js";
import { session } from "./session.js";

/** Those that were taken here. @type {Set<string>} */
const mine = new Set();

/**
 * @param {Api.Device} device
 * @param {() => void} done
 */
export async function take({ udid, name }, done) {
  if (!(await session.toChange())) return;
  const holder = el("input", { id: "lease-holder", required: true, value: session.asker.session?.user ?? "" });
  const purpose = el("input", { id: "lease-purpose" });
  const time = el("select", { id: "lease-time", onchange: tell }, [0.5, 1, 2, 4, 8, 24].map((hours) => el("option", { value: hours * 3600 }, hours < 1 ? "30 min" : `${hours} h`)));
  const note = el("p", { role: "status" });
  function tell() {
    say(note, `It ends by itself at ${moment(new Date(now() + +time.value * 1000).toISOString())}: the page does not renew it.`);
  }
  tell();
  const parts = [field("Holder", holder), field("Purpose", purpose), field("For", time), note];
  await modal(`Take ${name}`, parts, "Take", async () => {
    const lease = await ask("POST", "v1/leases", { udid, holder: holder.value, purpose: purpose.value, ttl: +time.value });
    mine.add(lease.id);
    done();
  });
}

/**
 * Release a lease; somebody else's after a question.
 *
 * @param {Api.Lease} lease
 * @param {HTMLButtonElement} button
 * @param {Element} line
 * @param {() => void} done
 */
export async function release({ id, holder, purpose, since }, button, line, done) {
  const free = async () => {
    await ask("DELETE", `v1/leases/${id}`);
    done();
  };
  if (mine.has(id)) await act(button, line, free);
  else {
    const what = `${holder} has had it since ${moment(since)}${purpose && `, for: ${purpose}`}. What they run is not stopped, and the next one may take the phone.`;
    await modal(`Release the lease of ${holder}?`, [el("p", {}, what)], "Release", free);
  }
}
