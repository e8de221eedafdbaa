// The page's frame: which view is shown, who looks, and whether the agent is there.

import { ask } from "./api.js";
import { byId, el, fill, say } from "./dom.js";
import { fleet } from "./fleet.js";
import { shape, STATES, tick } from "./format.js";
import { live } from "./live.js";
import { session } from "./session.js";
import * as agent from "./views/agent.js";
import * as deliveries from "./views/deliveries.js";
import * as devices from "./views/devices.js";
import * as history_ from "./views/history.js";
import * as ports from "./views/ports.js";
import * as report from "./views/report.js";
import * as webhooks from "./views/webhooks.js";

/**
 * @typedef {object} Route What the address says behind `#/`.
 * @property {string} view
 * @property {string[]} path The parts behind the view's name.
 * @property {URLSearchParams} query
 *
 * @typedef {object} View One that is open.
 * @property {(route: Route) => void} update The address changed, within this view.
 * @property {() => void} close Listen to nothing any more.
 * @property {() => boolean} [leave] May the address change? Asks whoever looks, where something would be lost.
 *
 * @typedef {object} ViewModule
 * @property {string} title
 * @property {(root: HTMLElement, route: Route) => View} open
 */

/** @type {Record<string, ViewModule>} */
const VIEWS = { devices, ports, history: history_, report, webhooks, deliveries, agent };
const FIRST = "devices";

/** @type {{name: string, view: View} | null} */
let shown = null;

/** @returns {Route} */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [view, ...parts] = path.split("/");
  return {
    view: Object.hasOwn(VIEWS, view) ? view : FIRST,
    path: parts.filter(Boolean).map(decoded),
    query: new URLSearchParams(query),
  };
}

/**
 * A part of the address as it was meant; somebody may have typed half of an escape.
 *
 * @param {string} part
 * @returns {string}
 */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  const wanted = route();
  if (shown?.name === wanted.view) {
    shown.view.update(wanted);
    return;
  }
  shown?.view.close();
  shown = null;
  const main = byId("main");
  const module = VIEWS[wanted.view];
  document.title = `${module.title} · device-agent`;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === `#/${wanted.view}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const root = el("div", { class: `view view-${wanted.view}` });
  fill(main, root);
  shown = { name: wanted.view, view: module.open(root, wanted) };
  scrollTo(0, 0);
}

const STANDING = {
  connecting: ["connecting", "◌"],
  live: ["live", "●"],
  gone: ["agent not reached", "▲"],
  refused: ["sign in to look", "▲"],
  held: ["no events", "▲"],
};

function showStanding() {
  const [word, sign] = STANDING[live.standing];
  const node = byId("standing");
  node.className = `is-${live.standing}`;
  if (node.dataset.word !== word) {
    node.dataset.word = word;
    fill(node, shape(sign), " ", word);
  }
  document.documentElement.classList.toggle("gone", live.standing === "gone");
  if (live.standing === "live") {
    void showHost();
    fleet.look();
  }
  // An agent that was restarted knows no sessions; or who may read was changed.
  if (live.standing === "live" || live.standing === "refused") void session.look();
  showBanner();
}

let [version, hostname] = ["", ""];
let upgraded = "";

async function showHost() {
  try {
    const status = await ask("GET", "v1/status");
    hostname = status.host;
    if (version && status.version !== version) upgraded = status.version;
    version ||= status.version;
    showFleet();
  } catch {
    // Whoever may not read is told so elsewhere.
  }
}

function showFleet() {
  const { hub } = fleet;
  say(byId("host"), `${hostname}${hub ? (hub.active ? " · hub" : " · standby hub") : ""}`);
  showBanner();
}

function showWho() {
  const button = byId("sign");
  button.hidden = session.asker.by === "socket"; // a proxy on it: whoever comes may do everything
  say(button, session.mayChange ? "Sign out" : "Sign in to change");
  const who = session.asker.session?.user;
  button.title = who ? `Signed in as ${who}` : session.mayChange ? "Signed in with the API's token" : "";
  document.documentElement.classList.toggle("may-change", session.mayChange);
  showBanner();
}

/** What whoever looks must know before all else. */
function showBanner() {
  const lines = [];
  if (live.standing === "gone") {
    lines.push("device-agent is not reached. What is shown is what it told last; the page goes on by itself when it is back.");
  }
  if (live.standing === "held") {
    const why = live.why ? `tells of no events: ${live.why}.` : "answers, and its events do not come: does a proxy in between buffer /v1/events?";
    lines.push(`device-agent ${why} What changes is not shown.`);
  }
  if (live.standing === "live" && fleet.hub?.blind) {
    lines.push(`This hub is blind: ${fleet.hub.reason || "the broker gives back none of its heartbeats"}. It decides nothing until it hears itself again: states are those from before, and no host is taken for lost.`);
  }
  if (!session.asker.may_read) {
    lines.push(
      el("span", {}, "Reading needs a session here. ", el("button", { type: "button", class: "link", onclick: () => session.toChange() }, "Sign in")),
    );
  }
  if (session.asker.exposed) {
    lines.push("This agent listens beyond its host without TLS: what you see, and your session, can be read on the way. Set [api] cert and key.");
  }
  if (session.note) lines.push(session.note);
  if (upgraded) {
    lines.push(
      el("span", {}, `device-agent is ${upgraded} now. `, el("button", { type: "button", class: "link", onclick: () => location.reload() }, "Reload the page")),
    );
  }
  const banner = byId("banner");
  const text = lines.map((line) => (typeof line === "string" ? line : line.textContent)).join("\n");
  if (banner.dataset.text === text) return;
  banner.dataset.text = text;
  fill(banner, lines.map((line) => el("p", {}, shape("▲"), " ", line)));
}

/** @type {Api.DeviceTransition[]} What is not announced yet. */
let told = [];
let announcing = 0;

/**
 * Say it to those who cannot see what changed, no faster than it is read out.
 *
 * @param {CustomEvent} event
 */
function heard(event) {
  told.push(...event.detail);
  announcing ||= setTimeout(announce, 2000);
}

function announce() {
  const last = told[told.length - 1];
  const text = told.length > 3 ? `${told.length} devices changed` : `${last.name} is ${STATES[last.to].word.toLowerCase()}`;
  say(byId("announce"), text);
  [told, announcing] = [[], 0];
}

byId("sign").addEventListener("click", () => (session.mayChange ? session.leave() : session.toChange()));
byId("skip").addEventListener("click", () => byId("main").focus());
for (const button of document.querySelectorAll("[data-close]")) {
  button.addEventListener("click", () => button.closest("dialog")?.close());
}
live.addEventListener("standing", showStanding);
live.addEventListener("transitions", (event) => heard(/** @type {CustomEvent} */ (event)));
session.addEventListener("change", showWho);
fleet.addEventListener("change", showFleet);
addEventListener("hashchange", ({ oldURL }) => {
  if (location.hash.startsWith("#code=")) {
    void session.bring().then(() => session.look());
    history.replaceState(null, "", oldURL); // what is shown stays
  } else if (shown?.view.leave?.() === false) {
    history.pushState(null, "", oldURL);
  } else {
    show();
  }
});
setInterval(tick, 1000);

const begun = session.start();
show();
void live.start();
await begun;
