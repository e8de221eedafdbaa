// One device beside the table: what each source says of it, who has it, what it went through.

import { ask, query } from "./api.js";
import { el, fill, say } from "./dom.js";
import { age, at, moment, stateOf, STATES } from "./format.js";
import * as leases from "./lease.js";
import { live } from "./live.js";
import { show } from "./session.js";
import * as silences from "./silence.js";

/** Milliseconds after which it is asked for again though nothing was told. */
const OLD = 10_000;
const CALLBACK = { pending: "waiting", delivered: "delivered", dead: "given up", cancelled: "cancelled" };

/**
 * @param {HTMLElement} root
 * @param {string} udid
 * @param {(udid: string) => void} go Show that one instead; "": none.
 * @returns {() => void} Listen to nothing any more.
 */
export function open(root, udid, go) {
  /** @type {Api.DeviceDetail | null} */
  let device = null;
  /** @type {Api.DeviceTransition[]} */
  let moves = [];
  /** @type {string | null} Where older ones are. */
  let next = null;
  let shown = 8;
  let [asked, stale, asking] = [0, true, false];
  const ended = new AbortController();
  const { signal } = ended;
  const path = `v1/devices/${encodeURIComponent(udid)}`;

  const line = () => el("p", { class: "error", role: "alert" });
  const [trouble, actLine, moreLine] = [line(), line(), line()];
  const name = el("h2", { class: "name" });
  const [who, why, kept, list] = [el("div"), el("div"), el("ul", { class: "plain" }), el("ol", { class: "plain moves" })];
  const lease = el("button", { type: "button", onclick: () => device && (device.lease ? leases.release(device.lease, lease, actLine, renew) : leases.take(device, renew)) });
  const silence = el("button", { type: "button", onclick: () => device && silences.begin(silences.choicesOf(device)) }, "Silence…");
  const more = el("button", { type: "button", onclick: older }, "More");
  const body = el("div", { hidden: true }, who, el("div", { class: "acts" }, lease, silence), actLine, kept, el("h3", {}, "Why"), why, el("h3", {}, "Transitions"), list, more, moreLine);
  fill(root, el("div", { class: "head" }, name, el("button", { type: "button", class: "link end", onclick: () => go("") }, "Close")), el("p", { class: "mono dim" }, udid), trouble, body);
  say(name, live.devices.get(udid)?.name ?? udid);

  /** @type {Map<Element, string>} */
  const drawn = new Map();
  /**
   * Fill a part anew where what it shows has changed.
   *
   * @param {Element} node
   * @param {unknown} data
   * @param {() => (import("./dom.js").Child | import("./dom.js").Child[])[]} make
   */
  function part(node, data, make) {
    const text = JSON.stringify(data);
    if (drawn.get(node) === text) return;
    drawn.set(node, text);
    fill(node, ...make());
  }

  function renew() {
    stale = true;
    void load();
  }

  async function load() {
    if (asking) return;
    [asking, stale] = [true, false];
    try {
      device = /** @type {Api.DeviceDetail} */ (await ask("GET", path, undefined, signal));
      if (device.udid !== udid) return go(device.udid);
      const fresh = new Set(device.transitions.map((move) => move.id));
      const known = moves.filter((move) => !fresh.has(move.id));
      if (!known.length) next = device.next;
      moves = [...device.transitions, ...known];
      show(trouble, null);
      draw(device);
      asked = Date.now();
    } catch (error) {
      if (signal.aborted) return;
      show(trouble, error);
      if (device) trouble.append(` What follows is from ${moment(new Date(asked).toISOString())}.`);
    } finally {
      asking = false;
    }
  }

  async function older() {
    more.disabled = true;
    show(moreLine, null);
    try {
      if (shown >= moves.length) {
        const page = await ask("GET", `${path}/transitions${query({ cursor: next })}`, undefined, signal);
        moves.push(...page.transitions);
        next = page.next;
      }
      shown = moves.length;
      drawMoves();
    } catch (error) {
      show(moreLine, error);
    } finally {
      more.disabled = false;
    }
  }

  /** @param {Api.DeviceDetail} device */
  function draw(device) {
    const { transitions, lease: held, ...rest } = device;
    body.hidden = false;
    say(name, device.name);
    part(who, [rest, held], () => sentence(device));
    say(lease, held ? "Release lease…" : "Take a lease…");
    drawSilences();
    part(why, rest, () => grounds(device));
    drawMoves();
  }

  function drawSilences() {
    const covering = live.silences.filter((each) => device && silences.covers(each, device));
    part(kept, covering, () => covering.map(silences.row));
  }

  function drawMoves() {
    part(list, moves.slice(0, shown), () => moves.slice(0, shown).map(moveOf));
    more.hidden = shown >= moves.length && next === null;
  }

  const told = () => {
    stale = true;
    if (Date.now() - asked > 1000) void load();
  };
  live.addEventListener("devices", (event) => {
    const { all, udids } = /** @type {CustomEvent} */ (event).detail;
    if (all || udids.has(udid)) told();
  }, { signal });
  live.addEventListener("transitions", (event) => {
    if (/** @type {CustomEvent} */ (event).detail.some((/** @type {Api.DeviceTransition} */ move) => move.udid === udid)) told();
  }, { signal });
  live.addEventListener("silences", drawSilences, { signal });
  const timer = setInterval(() => {
    if (!document.hidden && (stale || Date.now() - asked > OLD)) void load();
  }, 1000);
  void load();
  return () => {
    ended.abort();
    clearInterval(timer);
  };
}

/** @param {Api.DeviceDetail} device */
function sentence({ state, since, reason, told, visibility, flapping, lease }) {
  return [
    el("p", {}, stateOf(state), since && [" for ", age(since), ", since ", at(since)], reason && `: ${reason}`),
    flapping && el("p", { class: "warn" }, "Flapping: it changes too often to be believed."),
    told !== state && el("p", { class: "warn" }, `A silence keeps this back: webhooks go by ${told ? STATES[told].word : "nothing yet"}.`),
    visibility === "public" && el("p", { class: "dim" }, "Public: it is followed, and calls nobody back."),
    lease && el("p", {}, "Leased to ", el("strong", {}, lease.holder), lease.purpose && ` (${lease.purpose})`, " since ", at(lease.since), ", until ", at(lease.expires), " unless renewed.", lease.taken_from && ` Taken from ${lease.taken_from}`),
  ];
}

/** @param {Api.DeviceDetail} device */
function grounds({ readings: said, sightings, platform, model, port, tags, aliases, host }) {
  const word = (/** @type {string} */ reading, /** @type {string} */ reason, /** @type {string | null} */ since) => [reading, reason && `: ${reason}`, since && [" · ", age(since)]];
  /** @type {[string, any][]} */
  const facts = [
    ["USB", word(said.presence, said.presence_reason, said.presence_since)],
    [said.bridge_source ?? "Bridge", word(said.bridge, said.bridge_reason, said.bridge_since)],
    ["Usage", word(said.usage, said.usage_reason || said.holder, said.usage_since)],
    ...sightings.map((seen) => /** @type {[string, any]} */ ([`${seen.source} sees`, [seen.address, seen.port, seen.network && "network", seen.says, seen.reason].filter(Boolean).join(" · ")])),
    ["Model", [model, platform].filter(Boolean).join(" · ")],
    ["Port", port],
    ["Tags", tags.join(", ")],
    ["Also called", aliases.join(", ")],
    ["Host", host],
  ];
  return [el("dl", { class: "facts" }, facts.filter(([, what]) => what.length).flatMap(([title, what]) => [el("dt", {}, title), el("dd", {}, [what].flat(3))]))];
}

/** @param {Api.DeviceTransition} move */
function moveOf({ id, at: when, from, to, reason, callbacks }) {
  const made = callbacks.map(({ id, webhook_name, state, attempts }) =>
    el("a", { href: `#/deliveries/${encodeURIComponent(id)}`, "data-key": id, class: `is-${state}` }, `${webhook_name || "webhook gone"}: ${CALLBACK[state]}${state === "pending" && attempts ? ` after ${attempts}` : ""}`));
  return el("li", { "data-id": id }, at(when), " ", from ? `${STATES[from].word} → ` : "", stateOf(to), reason && el("span", { class: "dim" }, ` ${reason}`), made.length > 0 && el("div", { class: "small" }, made));
}
