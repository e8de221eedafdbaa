// The Webhook Settings: who is called back, whether that works, and the five acts.

import { act, errorLine, modal } from "../act.js";
import { ApiError, ask } from "../api.js";
import { el, fill, order, put, say } from "../dom.js";
import { age, count, moment, setAge, shape, took, until } from "../format.js";
import { poll } from "../poll.js";
import { session, show } from "../session.js";
import { EVENTS, form, named, quoted, toggle } from "./webhook_form.js";

export const title = "Webhooks";

/** Its health by shape, colour and words. @param {Api.ListedWebhook} hook */
function health(hook) {
  if (!hook.enabled) return ["○", "unplugged", "Disabled"];
  if (hook.paused) return ["▲", "offline", "Paused: it answered 410, gone"];
  if (hook.failing_since) return ["▲", "offline", `Failing since ${moment(hook.failing_since)}`];
  if (hook.failures) return ["▲", "warn", `${count(hook.failures, "attempt")} failed`];
  return hook.last_attempt ? ["●", "online", "Good"] : ["◌", "unplugged", "Nothing sent since the agent started"];
}

/** @param {Api.ListedWebhook} hook */
function verify({ id, name }) {
  const out = el("div", { role: "status" });
  void modal(`Verify ${quoted(name)}`, ["A marked sample goes out once, through the webhook as it is saved. Its device is device-agent-test.", out], "Send again", async () => {
    fill(out, el("p", {}, "Sending …"));
    /** @type {Api.Sample} */
    const sample = await ask("POST", `v1/webhooks/${id}/test`, undefined, undefined, 120_000).finally(() => fill(out));
    put(
      out,
      el("p", { class: sample.ok ? "is-online" : "error" }, shape(sample.ok ? "●" : "▲"), ` ${sample.error || sample.status} (${took(sample.duration_ms)})`),
      sample.answer && [el("h3", {}, "Answer"), el("pre", { tabindex: 0 }, sample.answer)],
      el("h3", {}, "Sent"),
      el("pre", { tabindex: 0 }, sample.body),
    );
  }, true);
}

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").Route} route
 * @returns {import("../main.js").View}
 */
export function open(root, route) {
  /** Those of the operator's file below zero: one may move. @type {Map<number, ReturnType<typeof line>>} */
  const lines = new Map();
  const list = el("ul", { class: "hooks" });
  const error = errorLine();
  const missing = errorLine();
  const empty = el("p", { class: "empty", hidden: true }, "Nobody is called back yet.");
  const create = el("a", { class: "button main end", href: "#/webhooks/new" }, "Create Webhook");
  const beside = el("div", { class: "beside" }, el("div", {}, error, missing, list, empty));
  put(root, el("div", { class: "head" }, el("h1", {}, title), create), beside);
  /** @type {ReturnType<typeof form> | null} */
  let open = null;
  let wanted = "";
  let asOf = "";
  /** What is wanted could not be read, and may be by now. */
  let again = false;

  const look = poll(3000, async (signal) => {
    try {
      /** @type {Api.WebhookList} */
      const { webhooks } = await ask("GET", "v1/webhooks", undefined, signal);
      asOf = new Date().toISOString();
      const orgs = new Set(webhooks.map((hook) => hook.org_id)).size > 1;
      const ids = webhooks.map((hook) => hook.id);
      const keys = webhooks.map((hook) => (hook.managed ? hook.id : -hook.id));
      for (const key of lines.keys()) if (!keys.includes(key)) lines.delete(key);
      order(list, webhooks.map((hook, index) => {
        const one = lines.get(keys[index]) ?? line(hook);
        lines.set(keys[index], one);
        one.tell(hook, orgs);
        return one.node;
      }));
      empty.hidden = ids.length > 0;
      await open?.look(ids);
      show(error, null);
      if (again) reopen();
    } catch (failed) {
      if (signal.aborted) return;
      show(error, failed);
      if (asOf) put(error, ` What is shown is of ${moment(asOf)}.`);
    }
  });

  /** @param {Api.ListedWebhook} hook */
  async function remove({ id, name }) {
    const about = el("p", { role: "status" }, "Counting what waits for it …");
    await modal(`Delete webhook ${quoted(name)}?`, [about], "Delete", async () => {
      await ask("DELETE", `v1/webhooks/${id}`);
      const next = lines.get(id)?.node.nextElementSibling?.querySelector("a") ?? create;
      setTimeout(() => next.focus()); // when the dialog is closed
      void look.now();
    });
    try {
      const { pending, waiting_devices: phones = 0 } = await ask("GET", `v1/webhooks/${id}`);
      say(about, `${pending ? `${count(pending, "callback")} on ${count(phones, "phone")}` : pending === null ? "Callbacks that wait (the store does not say how many)" : "No callbacks"} will be cancelled. Its id goes to no other webhook.`);
    } catch (failed) {
      show(about, failed);
    }
  }

  /** A webhook in the list. @param {Api.ListedWebhook} hook */
  function line(hook) {
    const { id, managed } = hook;
    const href = `#/webhooks/${id}`;
    const name = el("a", { href });
    const about = el("p", { class: "dim" });
    const place = el("span", { class: "tag lock", hidden: managed });
    const failed = errorLine();
    const state = el("div", { class: "state" });
    const last = el("span");
    const ago = age(null, " ago");
    const waits = el("span");
    const next = until(null);
    const boxes = [...EVENTS, "enabled"].map((value) => el("input", { type: "checkbox", value, onchange: () => flip(value) }));
    const toggles = el("fieldset", { disabled: !managed }, el("legend", { class: "unseen" }), boxes.map((box) => toggle(box, named(box.value))));

    /** @param {string} value */
    async function flip(value) {
      const events = EVENTS.filter((_, index) => boxes[index].checked);
      const enabled = boxes[4].checked; // before the list is told of anew
      await act(toggles, failed, async () => {
        if (!events.length) throw new ApiError(0, "", "At least one event stays on.");
        hook = { ...hook, ...await ask("PATCH", `v1/webhooks/${id}`, value === "enabled" ? { enabled } : { events }) };
      });
      set();
      void look.now();
    }

    function set() {
      for (const box of boxes) box.checked = [...hook.events, hook.enabled && "enabled"].some((each) => each === box.value);
    }

    return {
      node: el(
        "li",
        { class: "card" },
        el("div", {}, el("h2", {}, name, " ", place), about),
        el("div", {}, state, last, ago, el("div", {}, waits, next)),
        el(
          "div",
          { class: "acts" },
          el("button", { type: "button", onclick: () => verify(hook) }, "Verify"),
          el("a", { class: "button", href, "data-edit": id }, "Edit"),
          managed && el("button", { type: "button", class: "danger", onclick: () => remove(hook) }, "Delete"),
        ),
        toggles,
        failed,
      ),
      /** @param {Api.ListedWebhook} row @param {boolean} orgs Several organisations have some. */
      tell(row, orgs) {
        hook = row;
        say(name, row.name);
        say(toggles.children[0], `Events of ${row.name}`);
        place.title = `${row.file}:${row.line}`;
        say(place, place.title.replace(/.*\//, ""));
        const only = [...row.platforms.map(named), ...row.tags, ...row.devices].join(", ");
        const parts = [row.url.split("/")[2], orgs && `organisation ${row.org_id}`, only && `only ${only}`, row.description].filter(Boolean);
        if (about.textContent !== parts.join(" · ")) fill(about, parts.flatMap((each, index) => [index > 0 && " · ", el("bdi", {}, each)]));
        if (!managed || !toggles.disabled) set(); // nothing is under way
        const [sign, colour, words] = health(row);
        if (state.textContent !== `${sign} ${words}`) fill(state, shape(sign), ` ${words}`);
        state.className = `state is-${colour}`;
        const { last_attempt: tried, pending, next_try: again = null } = row;
        say(last, tried ? `${tried.error || tried.status} in ${took(tried.duration_ms)}, ` : "");
        setAge(ago, tried?.at ?? null);
        ago.hidden = !tried;
        say(waits, pending ? `${count(pending, "callback waits", "callbacks wait")} on ${count(row.waiting_devices ?? 0, "phone")}${again ? ", next try " : ""}` : "");
        setAge(next, again);
        next.hidden = !pending || !again;
      },
    };
  }

  /** @param {{path: string[]}} route */
  async function turn({ path: [now = ""] }) {
    if (now === wanted) return;
    const before = wanted;
    wanted = now;
    open?.close();
    open = null;
    again = false;
    show(missing, null);
    beside.classList.toggle("open", !!now);
    if (!now) {
      /** @type {HTMLElement} */ (list.querySelector(`[data-edit="${CSS.escape(before)}"]`) ?? create).focus();
      return;
    }
    try {
      const hook = now === "new" ? null : await ask("GET", `v1/webhooks/${encodeURIComponent(now)}`);
      if (wanted !== now || open) return; // asked for twice, or no more
      open = form(hook, async ({ id }) => {
        await look.now();
        wanted = String(id); // which has the focus then
        location.hash = "#/webhooks";
      }, hook && el("button", { type: "button", onclick: () => verify(hook) }, "Verify"));
      put(beside, open.node);
      /** @type {HTMLElement} */ (open.node.querySelector(hook ? "h2" : "input")).focus();
    } catch (failed) {
      if (wanted !== now) return;
      beside.classList.remove("open");
      again = failed instanceof ApiError && [0, 500, 502, 503, 504].includes(failed.status);
      show(missing, failed);
    }
  }

  function reopen() {
    const path = [wanted];
    if (!open) wanted = "";
    void turn({ path });
  }

  /** Somebody else looks: what could not be read is asked for again. */
  function changed() {
    void look.now();
    reopen();
  }

  session.addEventListener("change", changed);
  void turn(route);
  return {
    update: turn,
    leave: () => open?.leave() ?? true,
    close() {
      look.end();
      session.removeEventListener("change", changed);
      open?.close();
    },
  };
}
