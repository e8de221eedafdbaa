// The stored callbacks: which there are, what came of each attempt, and sending them again.

import { act, errorLine, modal } from "../act.js";
import { ask, now, query } from "../api.js";
import { el, fill, order, put, say } from "../dom.js";
import { at, CALLBACKS, count, local, momentOf, shape, stateOf, took, until, whenOf } from "../format.js";
import { live } from "../live.js";
import { poll } from "../poll.js";
import { show } from "../session.js";

export const title = "Deliveries";

/** Rows of a page, and the most that are shown: all of them are kept fresh. */
const [STEP, MOST] = [100, 1000];

/** @param {string} said @returns {string} As a field has it. */
const inField = (said) => (said && whenOf(said, now()) ? local(whenOf(said, now())) : "");
/** @param {string} value @param {boolean} [ends] */
const global = (value, ends) => value && new Date(momentOf(value, ends)).toISOString();

/** @param {Api.Delivery} row What it is about, and how it stands. */
function words({ udid, webhook_name: name, webhook_id: hook, state, status, error, due, attempts, device_state: told }) {
  const device = live.devices.get(udid)?.name;
  const [word, sign, like] = CALLBACKS[state];
  return [
    [el("a", { href: `#/devices/${encodeURIComponent(udid)}`, title: device }, el("bdi", {}, device ?? udid)), device && el("div", { class: "mono dim" }, udid)],
    name ? el("a", { href: `#/webhooks/${hook}` }, el("bdi", {}, name)) : `deleted webhook ${hook}`,
    told && stateOf(told),
    [
      el("span", { class: `state is-${like}` }, shape(sign), ` ${word}`),
      state === "delivered" ? ` ${status}` : state === "pending" && [attempts ? ", next try " : ", first try ", until(due)],
      state !== "delivered" && el("div", { class: "small dim" }, error),
    ].flat(),
  ];
}

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").Route} route
 * @returns {import("../main.js").View}
 */
export function open(root, route) {
  const select = (/** @type {Record<string, string>} */ options) => el("select", {}, Object.entries(options).map(([value, text]) => el("option", { value }, text)));
  const when = () => el("input", { type: "datetime-local" });
  /** @type {Record<string, HTMLSelectElement | HTMLInputElement>} */
  const fields = {
    webhook: select({ "": "All webhooks" }),
    device: el("input", { type: "search", list: "known", placeholder: "Name or UDID" }),
    state: select({ "": "Any state", ...Object.fromEntries(Object.entries(CALLBACKS).map(([state, [word]]) => [state, word])) }),
    time: select({ "": "Any time", "1h": "Last hour", "1d": "Last day", "7d": "Last week", range: "From … to …" }),
    since: when(),
    until: when(),
  };
  const known = el("datalist", { id: "known" });
  const form = el("form", { class: "filters" }, known, Object.entries(fields).map(([id, field]) => {
    Object.assign(field, { id }).setAttribute("aria-describedby", `${id}-error`);
    return el("div", {}, el("label", { for: id }, id), field, el("p", { class: "error", id: `${id}-error` }));
  }));
  const error = errorLine();
  const note = el("p", { role: "status" });
  const rows = el("tbody", {
    onclick: (/** @type {any} */ { target }) => !target.closest("a") && !String(getSelection()) && target.closest("tr").querySelector("a").click(),
  });
  const table = el("table", {}, el("thead", {}, el("tr", {}, ["Created", "Device", "Webhook", "Tells", "Delivery", "Attempts"].map((text) => el("th", { scope: "col" }, text)))), rows);
  const empty = el("p", { class: "empty" }, "Asking the agent …");
  const older = el("button", { type: "button", onclick: more }, "Older");
  const most = el("p", { class: "dim" }, `The newest ${MOST}. Choose a time for those before.`);
  const heading = el("h2", { tabindex: -1 }, "Delivery");
  const close = el("a", { class: "button" }, "Close");
  const again = el("button", { type: "button", onclick: () => replayOne({ id }) }, "Replay");
  const fault = errorLine();
  const parts = el("div");
  const beside = el("div", { class: "beside" }, el("div", {}, table, empty, older, most), el("aside", { class: "drawer card", "aria-label": "One delivery" }, el("div", { class: "head" }, heading, el("span", { class: "end" }, again, " ", close)), fault, parts));
  put(root, el("div", { class: "head" }, el("h1", {}, title), el("button", { type: "button", class: "end", onclick: replayAll }, "Replay the dead …")), form, error, note, beside);

  const filterOf = (/** @type {import("../main.js").Route} */ to) => Object.fromEntries([...to.query].filter(([name, value]) => Object.hasOwn(fields, name) && value));
  let filter = filterOf(route);
  /** @type {Api.Delivery[]} */
  let shown = [];
  /** @type {string | null} */
  let next = null;
  let [id, drawn, since, paged, timer] = ["", "", "", false, 0];
  /** @type {Map<string, {node: HTMLElement, text: string}>} */
  const nodes = new Map();

  /** @param {string} open @param {Record<string, string>} [wanted] */
  const address = (open, wanted = filter) => `#/deliveries${open && `/${encodeURIComponent(open)}`}${query(wanted)}`;

  function draw() {
    order(rows, shown.map((row) => {
      const made = nodes.get(row.id) ?? { node: el("tr"), text: "" };
      nodes.set(row.id, made);
      const text = JSON.stringify([row, live.devices.get(row.udid)?.name]) + address("");
      if (text !== made.text) {
        const created = el("a", { href: address(row.id), "data-key": row.id }, at(row.created));
        fill(made.node, [created, ...words(row), row.attempts].map((part) => el("td", {}, .../** @type {any[]} */ ([part]).flat())));
      }
      made.text = text;
      made.node.classList.toggle("here", row.id === id);
      return made.node;
    }));
    table.hidden = !shown.length;
    empty.hidden = !table.hidden;
    older.hidden = next === null || shown.length >= MOST;
    most.hidden = shown.length < MOST;
  }

  /** @param {any} failed null: nothing. */
  function tell(failed) {
    const about = failed && (/unknown_(device|webhook)/.exec(failed.code) ?? /^(?:no |')(since|until|state)\b/.exec(failed.message))?.[1];
    for (const [name, field] of Object.entries(fields)) {
      field.setAttribute("aria-invalid", String(name === about));
      show(/** @type {Element} */ (field.nextSibling), name === about ? failed : null);
    }
    show(error, about ? null : failed);
    if (error.textContent && since) put(error, " What is shown is of ", at(since));
    if (failed) say(empty, "");
  }

  const page = (/** @type {Record<string, string | number>} */ more) => /** @type {Promise<Api.DeliveryList>} */ (ask("GET", `v1/deliveries${query({ ...filter, ...more })}`));

  const look = poll(4_000, async ({ aborted }) => {
    const wanted = filter;
    try {
      // What somebody reads stays; at the top there is always one page.
      const kept = paged || scrollY > 100 ? shown : [];
      const told = await page({ limit: Math.min(Math.max(kept.length, STEP), MOST) });
      if (wanted !== filter || aborted) return;
      const last = kept.findIndex((row) => row.id === told.deliveries.at(-1)?.id);
      const rest = last < 0 ? [] : kept.slice(last + 1);
      shown = [...told.deliveries, ...rest].slice(0, MOST);
      if (!rest.length) next = told.next;
      since = new Date().toISOString();
      say(empty, "No callback matches.");
      tell(null);
      draw();
    } catch (failed) {
      if (wanted === filter) tell(failed);
    }
    const opened = id;
    if (opened) {
      try {
        const { delivery } = /** @type {Api.DeliveryShown} */ (await ask("GET", `v1/deliveries/${encodeURIComponent(opened)}`));
        const text = JSON.stringify(delivery) + live.devices.get(delivery.udid)?.name;
        if (opened !== id || text === drawn) return;
        drawn = text;
        again.hidden = delivery.state === "pending" || !delivery.webhook_name;
        fill(parts, whole(delivery));
      } catch (failed) {
        if (opened === id) show(fault, failed);
      }
    }
  });

  async function more() {
    older.disabled = paged = true;
    const wanted = filter;
    try {
      const told = await page({ cursor: String(next), limit: STEP });
      if (wanted === filter) {
        shown.push(...told.deliveries);
        next = told.next;
        draw();
      }
    } catch (failed) {
      tell(failed);
    }
    older.disabled = false;
  }

  /** @param {Record<string, string>} which */
  async function replay(which) {
    const { replayed } = /** @type {Api.Replayed} */ (await ask("POST", "v1/deliveries/replay", which));
    say(note, replayed.length ? `${count(replayed.length, "callback")} will be sent again.` : "Nothing is sent again: it waits already, or its webhook is deleted.");
  }

  /** @param {Record<string, string>} one What was pressed for, wherever the address leads meanwhile. */
  const replayOne = (one) => act(again, fault, () => replay(one)).then(look.now);

  async function replayAll() {
    const which = { ...filter };
    delete which.state;
    const how = el("p", { role: "status" }, "Counting …");
    const what = "They are sent again, oldest first, with the same ids and bodies. One that is past delivery.max_age gets one attempt.";
    void modal("Replay dead callbacks", [how, el("p", { class: "dim" }, what)], "Replay", () => replay(which).then(look.now));
    try {
      const told = await page({ state: "dead", limit: MOST });
      const some = told.deliveries.filter((row) => row.webhook_name).length;
      say(how, `${told.next ? "More than " : ""}${count(some, "dead callback")} ${Object.keys(which).length ? "by this filter" : "in all"}.`);
    } catch (failed) {
      show(how, failed);
    }
  }

  /** @param {HTMLSelectElement | HTMLInputElement} field @param {string} [value] */
  function set(field, value = "") {
    if (field instanceof HTMLSelectElement && ![...field.options].some((each) => each.value === value)) put(field, el("option", { value }, value));
    if (field.value !== value) field.value = value;
  }

  /** @param {import("../main.js").Route} to */
  function follow(to) {
    const wanted = filterOf(to);
    if (JSON.stringify(wanted) !== JSON.stringify(filter)) {
      [filter, shown, next, paged] = [wanted, [], null, false];
      say(empty, "Asking the agent …");
    }
    const aged = /^\d+[a-z]+$/.test(filter.since) && !filter.until;
    const values = { webhook: "", device: "", state: "", ...filter, time: aged ? filter.since : filter.since || filter.until ? "range" : "", since: inField(filter.since), until: inField(filter.until) };
    for (const [name, value] of Object.entries(values)) set(fields[name], value);
    ranged();
    const before = id;
    id = to.path[0] ?? "";
    beside.classList.toggle("open", !!id);
    close.href = address("");
    if (before !== id) {
      drawn = "";
      fill(parts);
      show(fault, null);
      again.hidden = true;
      (id ? heading : nodes.get(before)?.node.querySelector("a"))?.focus();
    }
    draw();
  }

  function ranged() {
    for (const field of [fields.since, fields.until]) /** @type {HTMLElement} */ (field.parentNode).hidden = fields.time.value !== "range";
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => {
    ranged();
    const { webhook, device, state, time, since, until } = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value.trim()]));
    const called = [...live.devices.values()].filter(({ name }) => name === device);
    fields.device.setCustomValidity(called.length > 1 ? `${called.length} devices are called that: choose one by its UDID.` : "");
    if (!form.reportValidity()) return;
    const range = time === "range";
    if (range && !since && !until) return;
    location.hash = address(id, { webhook, device: called[0]?.udid ?? device, state, since: range ? global(since) : time, until: range ? global(until, true) : "" });
  });
  fields.device.addEventListener("focus", () => fill(known, [...live.devices.values()].map(({ udid, name }) => el("option", { value: udid }, name))));
  ask("GET", "v1/webhooks").then((/** @type {Api.WebhookList} */ { webhooks }) => {
    fill(fields.webhook, el("option", { value: "" }, "All webhooks"), webhooks.map((each) => el("option", { value: each.id }, each.name)));
    set(fields.webhook, filter.webhook);
  }, tell);
  const soon = (/** @type {any} */ { detail: { all, udids } }) => {
    if (all) draw(); // the names are known
    if (udids || document.hidden) return;
    timer ||= setTimeout(() => {
      timer = 0;
      void look.now();
    }, 1000);
  };
  live.addEventListener("devices", soon);
  live.addEventListener("transitions", soon);
  follow(route);
  return {
    update(to) {
      follow(to);
      void look.now();
    },
    close() {
      live.removeEventListener("devices", soon);
      live.removeEventListener("transitions", soon);
      clearTimeout(timer);
      look.end();
    },
  };
}

/** @param {Api.DeliveryDetail} row */
function whole(row) {
  const { body } = row;
  const [device, webhook, told, standing] = words(row);
  const facts = { Created: at(row.created), Finished: at(row.finished, "not yet"), Device: device, Webhook: webhook, Tells: told, Delivery: standing, Id: el("code", {}, row.id) };
  const sent = el("pre", {}, pretty(body));
  const copied = el("span", { role: "status", class: "dim" });
  const copy = () => {
    say(sent, body);
    getSelection()?.selectAllChildren(sent);
    say(copied, " Selected: press Ctrl+C.");
    navigator.clipboard?.writeText(body).then(() => say(copied, " Copied."), () => {});
  };
  return [
    el("dl", { class: "facts" }, Object.entries(facts).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, .../** @type {any[]} */ ([value]).flat())])),
    el("h3", {}, "Attempts"),
    el("ul", { class: "plain tries" }, row.tries.map((one) => el("li", {}, at(one.at), ` ${one.status ?? "no answer"} in ${took(one.duration_ms)}`, el("div", { class: "error" }, one.error), one.answer && el("pre", {}, one.answer)))),
    el("h3", {}, "Headers"),
    el("pre", {}, Object.entries(row.headers).map(([name, value]) => `${name}: ${value}\n`)),
    el("h3", {}, "Body"),
    sent,
    el("button", { type: "button", "data-key": "copy", onclick: copy }, "Copy as sent"),
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
