// What a hub knows of its fleet: asked for again and again at a hub, and once anywhere else.

import { ask } from "./api.js";
import { live } from "./live.js";
import { poll } from "./poll.js";

/** Milliseconds between two looks. */
const EVERY = 5_000;

/** Tells of `change`. */
class Fleet extends EventTarget {
  constructor() {
    super();
    /** How this hub stands; null: it is none, as far as is known. @type {Api.Hub | null} */
    this.hub = null;
    /** @type {Api.Host[]} */
    this.hosts = [];
    /** Ends the asking. @type {ReturnType<typeof poll> | null} */
    this.asking = null;
  }

  /** Look now: the agent may be another one. */
  look() {
    if (this.asking) void this.asking.now();
    else this.asking = poll(EVERY, (signal) => this.ask(signal));
  }

  /** @param {AbortSignal} signal */
  async ask(signal) {
    if (live.standing !== "live") return;
    try {
      const { hub, hosts } = await ask("GET", "v1/hosts", undefined, signal);
      [this.hub, this.hosts] = [hub, hosts];
      this.dispatchEvent(new Event("change"));
    } catch {
      // What was told last stays; that the agent is gone is said elsewhere.
    }
    if (this.hub) return;
    this.asking?.end();
    this.asking = null;
  }

  /** @param {string} name */
  host(name) {
    return this.hosts.find(({ host }) => host === name);
  }
}

export const fleet = new Fleet();
