// The stored callbacks: which there are, what came of each attempt, and sending them again.

import { ask, query } from "../api.js";
import { el, fill, order, put, say } from "../dom.js";
import { at, count, shape, stateOf, took, until } from "../format.js";
import { live } from "../live.js";
import { poll } from "../poll.js";
import { session, show } from "../session.js";

export const title = "Deliveries";

/** Word, shape and colour of each. @type {Record<Api.Delivery["state"], string[]>} */
const STATES = { pending: ["Waiting", "◌", "utilizing"], delivered: ["Delivered", "●", "online"], dead: ["Dead", "▲", "offline"], cancelled: ["Cancelled", "○", "unplugged"] };
const TIMES = { "": "Any time", "1h": "Last hour", "1d": "Last day", "7d": "Last week", range: "From … to …" };
const STEP = 100;
const MOST = 1000;

/** @param {string} iso @returns {string} As fields have it; "" of nonsense. */
const local = (iso) => {
  const time = Date.parse(iso);
  return time ? new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : "";
};
/** @param {string} text */
const global = (text) => text && new Date(text).toISOString();

/** @param {Api.Delivery} row */
function standing({ state, status, error, due, attempts }) {
  const [word, sign, like] = STATES[state];
  return [
    el("span", { class: `state is-${like}` }, shape(sign), ` ${word}`),
    state === "delivered" && ` ${status}`,
    state === "pending" && el("span", { class: "dim" }, attempts ? ", next try " : ", first try ", until(due)),
    state !== "delivered" && error && el("div", { class: "small dim" }, error),
  ];
}

/** @param {Api.Delivery} row */
const webhookOf = (row) => (row.webhook_name ? el("a", { href: `#/webhooks/${row.webhook_id}` }, el("bdi", {}, row.webhook_name)) : `deleted webhook ${row.webhook_id}`);

/** @param {string} udid */
function deviceOf(udid) {
  const name = live.devices.get(udid)?.name;
  return [el("a", { href: `#/devices/${encodeURIComponent(udid)}` }, el("bdi", {}, name ?? udid)), name !== undefined && el("div", { class: "mono dim" }, udid)];
}

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").Route} route
 * @returns {import("../main.js").View}
 */
export function open(root, route) {
  /** @param {Record<string, string>} options */
  const select = (options) => el("select", {}, Object.entries(options).map(([value, text]) => el("option", { value }, text)));
  const known = el("datalist", { id: "known" });
  /** @type {Record<string, HTMLSelectElement | HTMLInputElement>} */
  const fields = {
    webhook: select({ "": "All webhooks" }),
    device: el("input", { type: "search", list: "known", placeholder: "Name or UDID" }),
    state: select({ "": "Any state", pending: "Waiting", delivered: "Delivered", dead: "Dead", cancelled: "Cancelled" }),
    time: select(TIMES),
    since: el("input", { type: "datetime-local" }),
    until: el("input", { type: "datetime-local" }),
  };
  /** @type {Record<string, HTMLElement>} */
  const errors = {};
  const form = el("form", { class: "filters" }, known);
  for (const [name, field] of Object.entries(fields)) {
    errors[name] = el("p", { class: "error", id: `${name}-error` });
    field.id = name;
    field.setAttribute("aria-describedby", `${name}-error`);
    put(form, el("div", {}, el("label", { for: name }, { since: "From", until: "To" }[name] ?? name[0].toUpperCase() + name.slice(1)), field, errors[name]));
  }
  const error = el("p", { class: "error", role: "alert" });
  const note = el("p", { role: "status" });
  const rows = el("tbody");
  const table = el("table", {}, el("thead", {}, el("tr", {}, ["Created", "Device", "Webhook", "Tells", "Delivery", "Attempts"].map((text) => el("th", { scope: "col" }, text)))), rows);
  const empty = el("p", { class: "empty" }, "Asking the agent …");
  const older = el("button", { type: "button", hidden: true, onclick: () => more() }, "Older");
  const drawer = el("aside", { class: "drawer card", "aria-label": "One delivery", hidden: true });
  const beside = el("div", { class: "beside" }, el("div", {}, table, empty, older), drawer);
  const dialog = el("dialog", { "aria-labelledby": "again" });
  put(root, el("div", { class: "head" }, el("h1", {}, title), el("button", { type: "button", class: "end", onclick: () => replayAll() }, "Replay the dead …")), form, error, note, beside, dialog);

  /** @type {Record<string, string>} */
  let filter = {};
  let id = "";
  /** @type {Api.Delivery[]} */
  let shown = [];
  /** @type {string | null} */
  let next = null;
  let paged = false;
  let since = "";
  let timer = 0;
  /** @type {Map<string, {node: HTMLElement, text: string}>} */
  const nodes = new Map();
  let request = new AbortController();

  /** @param {Api.Delivery} row */
  function line(row) {
    const made = nodes.get(row.id) ?? { node: el("tr"), text: "" };
    nodes.set(row.id, made);
    const text = JSON.stringify([row, live.devices.get(row.udid)?.name]);
    if (text !== made.text) {
      fill(
        made.node,
        el("td", {}, el("a", { href: address(row.id), "data-key": row.id }, at(row.created))),
        el("td", {}, deviceOf(row.udid)),
        el("td", {}, webhookOf(row)),
        el("td", {}, row.device_state && stateOf(row.device_state)),
        el("td", {}, standing(row)),
        el("td", {}, row.attempts),
      );
    }
    made.text = text;
    made.node.classList.toggle("here", row.id === id);
    return made.node;
  }

  function draw() {
    order(rows, shown.map(line));
    for (const key of nodes.keys()) if (!nodes.get(key)?.node.isConnected) nodes.delete(key);
    table.hidden = !shown.length;
    empty.hidden = shown.length > 0;
    older.hidden = next === null;
  }

  /** @param {string} [open] @param {Record<string, string>} [wanted] */
  const address = (open = "", wanted = filter) => `#/deliveries${open && `/${encodeURIComponent(open)}`}${query(wanted)}`;

  /** @param {unknown} failed null: nothing. */
  function fault(failed) {
    const { code, message } = /** @type {import("../api.js").ApiError} */ (failed ?? {});
    const at_ = failed && (code === "unknown_device" ? "device" : code === "unknown_webhook" ? "webhook" : Object.keys(fields).find((name) => message.startsWith(`'${name}'`) || message.startsWith(`no ${name}`)));
    for (const [name, field] of Object.entries(fields)) {
      show(errors[name], name === at_ ? failed : null);
      if (name === at_) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
    show(error, at_ ? null : failed);
    if (failed && !at_ && since) put(error, " What is shown is of ", at(since));
  }

  /** @param {Record<string, string | number>} more */
  const page = (more) => ask("GET", `v1/deliveries${query({ ...filter, ...more })}`, undefined, request.signal);

  const look = poll(4_000, async (ended) => {
    request = new AbortController();
    ended.addEventListener("abort", () => request.abort());
    try {
      // What somebody reads stays; at the top there is always one page.
      const kept = paged || scrollY > 100 ? shown : [];
      const told = await page({ limit: Math.min(Math.max(kept.length, STEP), MOST) });
      const last = kept.findIndex((row) => row.id === told.deliveries.at(-1)?.id);
      const rest = last < 0 ? [] : kept.slice(last + 1);
      shown = [...told.deliveries, ...rest];
      if (!rest.length) next = told.next;
      since = new Date().toISOString();
      say(empty, "No callback matches.");
      fault(null);
      draw();
    } catch (failed) {
      if (request.signal.aborted) return;
      say(empty, "");
      fault(failed);
    }
    await detail();
  });

  async function more() {
    older.disabled = true;
    try {
      const told = await page({ cursor: next ?? "", limit: STEP });
      paged = true;
      shown.push(...told.deliveries);
      next = told.next;
      draw();
      fault(null);
    } catch (failed) {
      if (!request.signal.aborted) fault(failed);
    }
    older.disabled = false;
  }

  let drawn = "";
  const heading = el("h2", { tabindex: "-1" }, "Delivery");
  const close = el("a", { class: "button end" }, "Close");
  const again = el("button", { type: "button", onclick: () => replay(again, failed, { id }) }, "Replay");
  const failed = el("p", { class: "error", role: "alert" });
  const parts = el("div");
  put(drawer, el("div", { class: "head" }, heading, close), parts, el("div", { class: "acts" }, again), failed);

  /** The one that is open, as it is now. */
  async function detail() {
    if (!id) return;
    const wanted = id;
    try {
      /** @type {Api.DeliveryShown} */
      const { delivery } = await ask("GET", `v1/deliveries/${encodeURIComponent(wanted)}`, undefined, request.signal);
      if (wanted !== id) return;
      again.hidden = false;
      again.disabled = delivery.state === "pending" || !delivery.webhook_name;
      again.title = delivery.state === "pending" ? "It waits already." : delivery.webhook_name ? "" : "Its webhook is deleted.";
      const text = JSON.stringify(delivery);
      if (text !== drawn) fill(parts, whole(delivery));
      drawn = text;
    } catch (error) {
      if (wanted === id && !request.signal.aborted) show(failed, error);
    }
  }

  /**
   * @param {HTMLButtonElement} button
   * @param {Element} where
   * @param {Record<string, string>} which
   */
  async function replay(button, where, which) {
    if (!(await session.toChange())) return;
    button.disabled = true;
    show(where, null);
    try {
      const { replayed } = await ask("POST", "v1/deliveries/replay", which);
      say(note, replayed.length ? `${count(replayed.length, "callback")} will be sent again.` : "Nothing to send again: it waits already, or its webhook is deleted.");
      dialog.close();
    } catch (error) {
      show(where, error);
    }
    button.disabled = false;
    void look.now();
  }

  async function replayAll() {
    if (!(await session.toChange())) return;
    const { state, ...which } = filter;
    const how = el("p", {}, "Counting …");
    const where = el("p", { class: "error", role: "alert" });
    const go = el("button", { type: "button", class: "main", disabled: true, onclick: () => replay(go, where, which) }, "Replay");
    fill(
      dialog,
      el("h2", { id: "again" }, "Replay dead callbacks"),
      how,
      el("p", { class: "dim" }, "They are sent again, oldest first, with the same ids and bodies. One past delivery.max_age gets one attempt."),
      where,
      el("div", { class: "acts" }, go, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")),
    );
    dialog.showModal();
    try {
      /** @type {Api.DeliveryList} */
      const told = await page({ state: "dead", limit: MOST });
      const some = told.deliveries.filter((row) => row.webhook_name).length;
      say(how, `${told.next ? "More than " : ""}${count(some, "dead callback")} ${Object.keys(which).length ? "match the filter" : "are stored"}.`);
      go.disabled = !some && !told.next;
    } catch (error) {
      say(how, "");
      show(where, error);
    }
  }

  /** @param {import("../main.js").Route} to */
  function update(to) {
    route = to;
    const wanted = Object.fromEntries([...to.query].filter(([name, value]) => name in fields && value));
    const other = JSON.stringify(wanted) !== JSON.stringify(filter);
    if (other) {
      filter = wanted;
      shown = [];
      next = null;
      paged = false;
      request.abort();
      say(empty, "Asking the agent …");
    }
    const age = /^\d+[a-z]+$/.test(filter.since) && !filter.until;
    const values = { webhook: "", device: "", state: "", ...filter, time: age ? filter.since : filter.since || filter.until ? "range" : "", since: local(filter.since), until: local(filter.until) };
    for (const [name, value] of Object.entries(values)) {
      const field = fields[name];
      if (field instanceof HTMLSelectElement && ![...field.options].some((each) => each.value === value)) put(field, el("option", { value }, value));
      if (field.value !== value) field.value = value;
    }
    ranged();
    const before = id;
    id = to.path[0] ?? "";
    beside.classList.toggle("open", !!id);
    drawer.hidden = !id;
    close.setAttribute("href", address());
    if (before !== id) {
      drawn = "";
      fill(parts);
      show(failed, null);
      again.hidden = true;
      if (id) heading.focus();
      else if (before) nodes.get(before)?.node.querySelector("a")?.focus();
    }
    draw();
    void look.now();
  }

  const ranged = () => {
    for (const name of ["since", "until"]) /** @type {HTMLElement} */ (fields[name].parentElement).hidden = fields.time.value !== "range";
  };

  form.addEventListener("change", () => {
    ranged();
    const { webhook, device, state, time, since, until } = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value.trim()]));
    const named = [...live.devices.values()].filter((row) => row.name.toLowerCase() === device.toLowerCase());
    const udid = live.devices.has(device) || !named.length ? device : named[0].udid;
    if (named.length > 1 && !live.devices.has(device)) {
      say(errors.device, `${named.length} devices are called that: choose one by its UDID.`);
      fields.device.setAttribute("aria-invalid", "true");
      return;
    }
    const range = time === "range";
    location.hash = address(id, { webhook, device: udid, state, since: range ? global(since) : time, until: range ? global(until) : "" });
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  fields.device.addEventListener("focus", () => fill(known, [...live.devices.values()].map(({ udid, name }) => el("option", { value: udid }, name))));
  void ask("GET", "v1/webhooks").then((/** @type {Api.WebhookList} */ { webhooks }) => {
    fill(fields.webhook, el("option", { value: "" }, "All webhooks"), webhooks.map((each) => el("option", { value: each.id }, each.name)));
    update(route);
  }, fault);
  const soon = () => {
    timer ||= setTimeout(() => {
      timer = 0;
      void look.now();
    }, 1000);
  };
  const named = (/** @type {Event} */ event) => /** @type {CustomEvent} */ (event).detail.all && draw();
  live.addEventListener("transitions", soon);
  live.addEventListener("devices", named);
  return {
    update,
    close() {
      live.removeEventListener("transitions", soon);
      live.removeEventListener("devices", named);
      clearTimeout(timer);
      look.end();
    },
  };
}

/** @param {Api.DeliveryDetail} row */
function whole(row) {
  const { body } = row;
  const sent = el("pre", {}, pretty(body));
  const copied = el("span", { role: "status", class: "dim" });
  const copy = el("button", {
    type: "button",
    "data-key": "copy",
    onclick: () => {
      say(sent, body);
      getSelection()?.selectAllChildren(sent);
      say(copied, "Selected: press Ctrl+C.");
      navigator.clipboard?.writeText(body).then(() => say(copied, "Copied."), () => {});
    },
  }, "Copy as sent");
  /** @type {[string, import("../dom.js").Child | import("../dom.js").Child[]][]} */
  const facts = [["Created", at(row.created)], ["Device", deviceOf(row.udid)], ["Webhook", webhookOf(row)], ["Tells", row.device_state && stateOf(row.device_state)], ["Delivery", standing(row)], ["Finished", at(row.finished, "not yet")], ["Id", el("code", {}, row.id)]];
  return [
    el("dl", { class: "facts" }, facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, .../** @type {any[]} */ ([value]).flat())])),
    el("h3", {}, "Attempts"),
    el("ol", { class: "plain" }, row.tries.map((one) => el("li", {}, at(one.at), ` ${one.status ?? "no answer"} in ${took(one.duration_ms)}`, el("div", { class: "error" }, one.error), one.answer && el("pre", {}, one.answer)))),
    el("h3", {}, "Headers"),
    el("pre", {}, Object.entries(row.headers).map(([name, value]) => `${name}: ${value}\n`)),
    el("h3", {}, "Body"),
    sent,
    copy,
    " ",
    copied,
  ];
}

/** @param {string} body As it was sent, unless it is JSON that loses nothing by being set out. */
function pretty(body) {
  try {
    const read = JSON.parse(body);
    return JSON.stringify(read) === body ? JSON.stringify(read, null, 2) : body;
  } catch {
    return body;
  }
}
