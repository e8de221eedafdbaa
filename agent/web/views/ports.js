// Where each phone hangs on this host's USB: for somebody in front of the rack.

import { errorLine } from "../act.js";
import { ask } from "../api.js";
import { el, fill, order, part, put, say } from "../dom.js";
import { fleet } from "../fleet.js";
import { age, at, count, shape, stateOf } from "../format.js";
import { live } from "../live.js";
import { poll } from "../poll.js";
import { show } from "../session.js";
import { begin } from "../silence.js";

export const title = "Ports";

/**
 * @typedef {Partial<Api.Device> & (Api.PhoneAtPort | Api.LeftPhone)} Phone
 * @typedef {Partial<Api.Port> & {ports: Api.Port[]}} Hub Or a controller, which has hubs.
 */

const dim = (/** @type {import("../dom.js").Child[]} */ ...said) => el("span", { class: "dim" }, said);
const warn = (/** @type {import("../dom.js").Child[]} */ ...said) => el("p", { class: "warn" }, shape("▲ "), said);
const rate = (/** @type {number} */ speed) => (speed < 1000 ? `${speed} Mb/s` : `${speed / 1000} Gb/s`);
const named = (/** @type {Partial<Api.Port>} */ port) => `${port.vendor || port.vendor_id} ${port.product || port.product_id}`.trim();
/** Also one that is gone: phones hung on it. */
const isHub = (/** @type {Api.Port} */ port) => port.kind === "hub" || port.ports?.length > 0;
/** As it is now. @returns {Phone} */
const now = (/** @type {Phone} */ phone) => live.devices.get(phone.udid) ?? phone;
const place = (/** @type {string} */ udid) => `${live.devices.get(udid)?.port} ${live.devices.get(udid)?.state === "unplugged"}`;

/**
 * @param {HTMLElement} root
 * @param {import("../main.js").Route} route
 * @returns {import("../main.js").View}
 */
export function open(root, route) {
  const field = el("input", { id: "find", type: "search", placeholder: "Name or UDID" });
  const hits = el("span", { role: "status" });
  const error = errorLine();
  const top = el("div", { role: "status" });
  const tree = el("ul", {}, el("li", { class: "empty" }, "Asking the agent …"));
  const find = [el("label", { for: "find", class: "end" }, "Find a phone"), field, hits];
  put(root, el("div", { class: "head" }, el("h1", {}, title), find), error, top, tree);

  /** @type {Api.Ports | null} */
  let told = null;
  /** @type {Map<string, {node: HTMLElement, text: string}>} Hubs. */
  const nodes = new Map();
  /** @type {Map<string, {node: HTMLElement, phone: Phone}>} */
  const cells = new Map();
  const places = new Map([...live.devices.keys()].map((udid) => [udid, place(udid)]));
  const changed = new Set();
  let [frame, timer, asked, began, since] = [0, 0, 0, 0, ""];

  /** @param {string} udid */
  function paint(udid) {
    const cell = cells.get(udid);
    if (!cell) return;
    const { node, phone } = cell;
    const { name, state, reason, holder, flapping, since: when } = now(phone);
    node.className = `phone is-${state}`;
    fill(
      node,
      el("a", { href: `#/devices/${encodeURIComponent(udid)}`, "data-key": udid, title: `${name} ${udid}` }, el("bdi", {}, name)),
      "at" in phone ? dim("left ", phone.at ? age(phone.at, " ago") : "just now") : el("span", {}, stateOf(state), " ", age(when ?? null)),
      flapping && el("span", { class: "tag warn" }, "flapping"),
      el("small", { title: reason }, reason || holder),
    );
  }

  function cell(/** @type {Phone} */ phone) {
    const node = el("div");
    cells.set(phone.udid, { node, phone });
    paint(phone.udid);
    return node;
  }

  /** @param {Api.Port} port @param {Hub} hub */
  function leaf({ port, number, kind, speed, device, left = [], left_count: all, blocked, ...names }, hub) {
    const slow = device && speed && (speed <= 12 || (speed < 5000 && Number(hub.speed) >= 5000));
    const [last, ...rest] = left.map(cell);
    return el(
      "li",
      { class: kind === "empty" && "none" },
      number && dim(el("b", {}, number), ` ${port ?? ""} `, speed && !slow && rate(speed)),
      device ? cell(device) : dim(kind === "other" ? named(names) : kind),
      slow && warn(rate(speed), ": slow, try another cable"),
      blocked && warn("blocked: ", blocked),
      last,
      all > 1 && el("details", {}, el("summary", {}, `${all - 1} before`), rest, all > left.length && dim("and others")),
    );
  }

  /**
   * What hangs on it; what is as it was is not touched.
   *
   * @param {Hub} hub
   * @param {string} name
   * @param {Element} parent
   * @param {number} level
   */
  async function hang(hub, name, parent, level = 2) {
    const { port_count: size, kind, speed, ports, left, cause } = hub;
    const known = nodes.get(name) ?? { node: el("li", {}, el("div"), el("ul", { class: "ports" }), el("ul")), text: "" };
    const { node } = known;
    const [head, list, under] = node.children;
    if (!node.isConnected) parent.append(node);
    const inner = ports.filter(isHub);
    const text = JSON.stringify(hub, (_, value) => (inner.includes(value) ? value.kind : value));
    if (text !== known.text) {
      nodes.set(name, { node, text });
      const used = ports.filter((port) => port.kind !== "empty").length;
      fill(
        head,
        el(/** @type {"h2"} */ (`h${Math.min(level, 6)}`), {}, name),
        kind && dim([named(hub), speed && rate(speed), kind === "empty" ? "gone" : `${used} ${size ? `of ${size} ` : ""}ports used`].filter(Boolean).join(" · ")),
        kind && el("button", { type: "button", class: "link", "data-key": name, "aria-label": `Silence ${name}`, onclick: () => begin([`hub ${String(hub.port)}`]) }, "Silence …"),
        hub.blocked && warn("blocked: ", hub.blocked),
        cause && (cause.over ? dim : warn)(cause.over ? " Was lost" : "Lost", ` with ${count(cause.devices, "phone")} · `, at(cause.at)),
        left?.map(cell),
      );
      const leaves = ports.filter((port) => !isHub(port));
      // Of a hub somebody wants to know the free ports; many of a bus lead nowhere.
      for (let number = 1; level > 3 && number <= (size ?? 0); number++) {
        if (!ports.some((port) => port.number === number)) leaves.push(/** @type {any} */ ({ number, kind: "empty" }));
      }
      fill(list, leaves.sort((a, b) => Number(a.number) - Number(b.number)).map((port) => leaf(port, hub)));
      if (performance.now() - began > 12) {
        await new Promise((done) => setTimeout(done));
        began = performance.now();
      }
    }
    const all = [];
    for (const each of inner) all.push(await hang(each, `${level > 2 ? "Hub" : "Bus"} ${each.port}`, under, level + 1));
    order(under, all);
    return node;
  }

  /**
   * The phones below, and the topmost hubs of which none is online.
   *
   * @param {Api.Port[]} ports
   * @param {Element[]} lost
   * @returns {Phone[]}
   */
  function below(ports, lost) {
    return ports.flatMap((port) => {
      /** @type {Element[]} */
      let inner = [];
      const phones = [...(port.device ? [port.device] : port.left.slice(0, 1)), ...below(port.ports, inner)];
      const states = phones.map((phone) => now(phone).state);
      // That phones were taken away is no fault; that their hub went with them may be.
      if (states.length > 1 && isHub(port) && !states.some((state) => /online|utilizing/.test(state)) && (port.kind === "empty" || states.includes("offline"))) {
        const first = el("a", { href: `#/ports?device=${encodeURIComponent(phones[0].udid)}`, "data-key": port.port }, "Show");
        inner = [el("p", { class: "lost is-offline" }, shape("▲ "), `Hub ${port.port}: none of its ${states.length} phones is online. Look at its power supply and cable. `, first)];
      }
      lost.push(...inner);
      return phones;
    });
  }

  /** What is to be seen first, and what somebody looks for. */
  function look(scroll = false) {
    if (!told) return;
    const lost = told.reason ? [warn(told.reason)] : [];
    for (const { hubs } of told.controllers) below(hubs, lost);
    if (lost.map((line) => line.textContent).join("") !== top.textContent) fill(top, lost);
    const wanted = field.value.trim().toLowerCase();
    const here = [...cells].filter(([, { node }]) => node.isConnected);
    const exact = here.filter(([udid]) => udid.toLowerCase() === wanted);
    const found = exact.length ? exact : here.filter(([udid, { phone }]) => wanted && `${now(phone).name} ${udid}`.toLowerCase().includes(wanted));
    for (const [, { node }] of here) node.classList.remove("found");
    for (const [, { node }] of found) {
      node.classList.add("found");
      const folded = node.closest("details");
      if (folded) folded.open = true;
    }
    say(hits, wanted && count(found.length, "phone"));
    // Twice: what lies above has its true height only when it was near.
    for (let i = 0; scroll && i < 2; i++) setTimeout(() => found[0]?.[1].node.scrollIntoView({ block: "center" }), i * 50);
  }

  /** Ports are a host's own. */
  function atHub() {
    if (!fleet.hub) return;
    fill(top);
    show(error, null);
    for (const node of find) node.hidden = true;
    for (const { node } of nodes.values()) node.remove();
    part(tree, fleet.hosts.map(({ host, devices }) => [host, devices]), () => [
      el("li", {}, "This is a hub. Ports are on each host's own page: run device-agent ui there. Which phones hang where:"),
      ...fleet.hosts.map(({ host, devices }) => el("li", {}, el("a", { href: `#/devices?host=${encodeURIComponent(host)}`, "data-key": host }, el("bdi", {}, host)), dim(` ${count(devices, "phone")}`))),
    ]);
  }

  const asking = poll(30_000, async (signal) => {
    asked = began = performance.now();
    if (fleet.hub) return atHub();
    try {
      const first = !told;
      told = /** @type {Api.Ports} */ (await ask("GET", "v1/ports", undefined, signal));
      if (fleet.hub) return atHub();
      since = new Date().toISOString();
      show(error, null);
      if (first) fill(tree);
      const all = [];
      for (const { controller, cause, hubs } of told.controllers) all.push(await hang({ ports: hubs, cause }, `Controller ${controller || "not known"}`, tree));
      const ports = told.unplaced.map((device) => /** @type {any} */ ({ device }));
      if (ports.length) all.push(await hang({ ports }, "At no port of this host that is known", tree));
      order(tree, all.length ? all : [el("li", { class: "empty" }, "Nothing is plugged in.")]);
      for (const [name, { node }] of nodes) if (!node.isConnected) nodes.delete(name);
      look(first);
    } catch (failed) {
      if (signal.aborted) return;
      show(error, failed);
      if (since) put(error, " What is shown is of ", at(since));
    }
  });
  const soon = () => {
    timer ||= setTimeout(() => {
      timer = 0;
      if (!document.hidden) void asking.now();
    }, asked + 2000 - performance.now());
  };
  /** No more in one frame than leaves time to lay it out. */
  function draw() {
    const until = performance.now() + 8;
    frame = 0;
    for (const udid of changed) {
      if (performance.now() > until) {
        frame = requestAnimationFrame(draw);
        break;
      }
      changed.delete(udid);
      paint(udid);
      if (places.has(udid) ? places.get(udid) !== place(udid) : !cells.has(udid)) soon();
      places.set(udid, place(udid));
    }
    if (!frame) look();
  }
  const heard = (/** @type {any} */ { detail: { all, udids } }) => {
    for (const udid of all ? [...udids, ...places.keys()] : udids) changed.add(udid);
    frame ||= requestAnimationFrame(draw);
  };
  const back = () => error.textContent && soon();
  live.addEventListener("devices", heard);
  live.addEventListener("standing", back);
  fleet.addEventListener("change", atHub);
  field.addEventListener("input", () => {
    history.replaceState(null, "", `#/ports?device=${encodeURIComponent(field.value)}`);
    look(true);
  });

  /** @param {import("../main.js").Route} route */
  function update({ query }) {
    field.value = query.get("device") ?? "";
    look(true);
  }
  update(route);
  return {
    update,
    close() {
      live.removeEventListener("devices", heard);
      live.removeEventListener("standing", back);
      fleet.removeEventListener("change", atHub);
      asking.end();
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    },
  };
}
