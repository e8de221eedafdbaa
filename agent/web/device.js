// One device: what each source says of it, who has it, what it went through.

import { act, errorLine } from "./act.js";
import { ask, now, query } from "./api.js";
import { el, fill, part, say } from "./dom.js";
import { fleet } from "./fleet.js";
import { age, at, charge, CALLBACKS, stateOf, STATES } from "./format.js";
import * as leases from "./lease.js";
import { live } from "./live.js";
import { show } from "./session.js";
import * as silences from "./silence.js";
import { chart } from "./timeline.js";

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
  let [shown, asked, answered, stale, asking] = [8, 0, 0, false, false];
  const ended = new AbortController();
  const { signal } = ended;
  const path = `v1/devices/${encodeURIComponent(udid)}`;

  const [trouble, failed, noMore] = [errorLine(), errorLine(), errorLine()];
  const [name, who, why, kept, list] = [el("h2", { class: "name" }), el("div"), el("dl", { class: "facts" }), el("ul", { class: "plain" }), el("ol", { class: "plain moves" })];
  const lease = el("button", { onclick: () => device && (device.lease ? leases.release(device.lease, lease, failed, renew) : leases.take(device, renew)) });
  const silence = el("button", { onclick: () => device && silences.begin(silences.choicesOf(device)) }, "Silence…");
  const more = el("button", { onclick: () => act(more, noMore, older, true) }, "More");
  const time = chart(async (_, range, aborted) => {
    const told = await ask("GET", `${path}/history${query(range)}`, undefined, aborted);
    return { ...told, devices: [{ ...told, udid }] };
  });
  const [lane, call] = time.lane(udid);
  call("this phone");
  time.plot.prepend(time.axis, lane);
  const body = el("div", { hidden: true }, who, el("div", { class: "acts" }, lease, silence), failed, kept, el("h3", {}, "Why"), why, el("h3", {}, "Transitions"), list, more, noMore, el("h3", {}, "Timeline"), time.bar, time.plot);
  fill(root, el("div", { class: "head" }, name, el("button", { class: "link end", onclick: () => go("") }, "Close")), el("p", { class: "mono dim" }, udid), trouble, body);
  say(name, live.devices.get(udid)?.name ?? udid);

  function renew() {
    stale = true;
    void load();
  }

  async function load() {
    if (asking) return;
    [asking, stale, asked] = [true, false, Date.now()];
    try {
      /** @type {Api.DeviceDetail} */
      const got = await ask("GET", path, undefined, signal);
      if (got.udid !== udid) return go(got.udid);
      const older = moves.filter(({ id }) => !got.transitions.some((each) => each.id === id));
      if (older.length === moves.length) older.length = 0; // between them some are not known
      if (!older.length) next = got.next;
      moves = [...got.transitions, ...older];
      [device, answered] = [got, now()];
      body.hidden = false;
      show(trouble, null);
      draw();
    } catch (error) {
      if (signal.aborted) return;
      show(trouble, error);
      if (device) trouble.append(" What follows is from ", age(new Date(answered).toISOString()), " ago.");
    } finally {
      asking = false;
    }
  }

  async function older() {
    if (shown >= moves.length) {
      const page = await ask("GET", `${path}/transitions${query({ cursor: next })}`, undefined, signal);
      moves.push(...page.transitions);
      next = page.next;
    }
    shown = moves.length;
    draw();
  }

  function draw() {
    if (!device) return;
    const known = { ...device, transitions: [] };
    const [some, covering] = [moves.slice(0, shown), silences.covering(device)];
    say(name, known.name);
    part(who, known, () => sentence(known));
    say(lease, known.lease ? "Release lease…" : "Take a lease…");
    part(kept, covering, () => covering.map(silences.row));
    part(why, [known, fleet.hub !== null, silent(known.host)], () => grounds(known));
    part(list, some, () => some.map(moveOf));
    more.hidden = shown >= moves.length && !next;
  }

  /** @param {boolean} concerned */
  function told(concerned) {
    stale ||= concerned;
    if (stale && Date.now() - asked > 1000) void load();
  }
  live.addEventListener("devices", (/** @type {any} */ { detail }) => told(detail.all || detail.udids.has(udid)), { signal });
  live.addEventListener("transitions", (/** @type {any} */ { detail }) => told(detail.some((/** @type {Api.DeviceTransition} */ move) => move.udid === udid)), { signal });
  live.addEventListener("silences", draw, { signal });
  fleet.addEventListener("change", draw, { signal });
  // Some of it changes and is not told: it is asked for every 10 s.
  const timer = setInterval(() => document.hidden || told(Date.now() - asked > 10_000), 1000);
  void load();
  return () => {
    ended.abort();
    time.close();
    clearInterval(timer);
  };
}

/** @param {Api.DeviceDetail} device */
function sentence({ state, since, reason, told, visibility, flapping, lease }) {
  return [
    el("p", {}, stateOf(state), " for ", age(since), ", since ", at(since), reason && `: ${reason}`),
    flapping && el("p", { class: "warn" }, "Flapping: it changes too often to be believed."),
    told !== state && el("p", { class: "warn" }, `Kept back by a silence: webhooks go by ${told ? STATES[told].word : "nothing yet"}.`),
    visibility === "public" && el("p", {}, "Public: it is followed, and calls nobody back."),
    lease && el("p", {}, "Leased to ", el("strong", {}, lease.holder), lease.purpose && ` for ${lease.purpose}`, lease.host && fleet.hub && ` at ${lease.host}`, " since ", at(lease.since), ", until ", at(lease.expires), " unless renewed. ", lease.taken_from),
  ];
}

/** @param {Api.DeviceDetail} device */
function grounds({ readings: said, sightings, platform, model, port, tags, aliases, host, battery }) {
  /** @type {(string | HTMLElement | null | false)[][]} */
  const facts = fleet.hub ? [["Sources", "on the own page of its host, whose agent tells of it", silent(host)]] : [
    ["USB", said.presence, said.presence_reason, said.presence_since && age(said.presence_since)],
    [said.bridge_source ?? "bridge", said.bridge, said.bridge_reason, said.bridge_since && age(said.bridge_since)],
    ["Usage", said.usage, said.usage_reason || said.holder, said.usage_since && age(said.usage_since)],
    ...sightings.map((seen) => [`${seen.source} sees`, seen.address, seen.port, seen.network && "network", seen.says, seen.reason !== said.bridge_reason && seen.reason]),
  ];
  facts.push(
    ["Battery", charge(battery), battery && battery.health, battery && age(battery.at, " ago")],
    ["Model", model, platform],
    ["Port", port],
    ["Tags", tags.join(", ")],
    ["Also called", aliases.join(", ")],
    ["Host", host && el("a", { href: `#/devices?host=${encodeURIComponent(host)}`, "data-key": "host" }, host)],
  );
  return facts.map(([title, ...all]) => {
    const set = all.filter(Boolean);
    return set.length > 0 && [el("dt", {}, title), el("dd", {}, set.flatMap((each, i) => [i > 0 && " · ", each]))];
  }).flat();
}

/** What is wrong with a host of the fleet. @param {string} host */
function silent(host) {
  const known = fleet.host(host);
  return !known ? "which is not known any more" : known.state === "alive" ? "" : known.problem || "which was not heard since the hub's start";
}

/** @param {Api.DeviceTransition} move */
function moveOf({ at: when, from, to, reason, callbacks }) {
  const made = callbacks.map(({ id, webhook_name, state, attempts }) =>
    el("a", { href: `#/deliveries/${encodeURIComponent(id)}`, "data-key": id }, `${webhook_name || "webhook gone"}: ${CALLBACKS[state][0].toLowerCase()}${state === "pending" && attempts ? ` after ${attempts}` : ""}`));
  return el("li", {}, at(when), ` ${from ? `${STATES[from].word} → ` : ""}`, stateOf(to), el("span", { class: "dim" }, ` ${reason}`), made);
}
