// Which phones are listed, by what the address says.

import { STATES } from "./format.js";
import { choicesOf } from "./silence.js";

/** What is said where no phone is known. */
export const EMPTY = { connecting: "Waiting for the agent …", live: "No phone is here.", gone: "Waiting for the agent …", refused: "Sign in to look.", held: "Waiting for the agent's events …" };

/** @param {Api.Device} device */
export const needs = ({ silence, state, flapping }) => !silence && (state === "offline" || flapping);

/** By what they are now: sign, word, and which. @type {Record<string, [string, string, (device: Api.Device) => boolean]>} */
export const FILTERS = {
  needs: ["▲", "Needs you", needs],
  ...Object.fromEntries(Object.entries(STATES).map(([key, { shape, word }]) => [key, [shape, word, (device) => device.state === key]])),
  flapping: ["≈", "Flapping", (device) => device.flapping],
  silenced: ["◌", "Silenced", (device) => device.silence !== null],
};

/** @typedef {Record<string, (device: Api.Device) => (string | null)[]>} Choices */

/** What each has of what can be chosen. */
export const CHOICES = /** @satisfies {Choices} */ ({
  platform: (/** @type {Api.Device} */ device) => [device.platform],
  tag: (/** @type {Api.Device} */ device) => device.tags,
  hub: (/** @type {Api.Device} */ device) => choicesOf(device).filter((each) => each.startsWith("hub ")).map((each) => each.slice(4)),
  host: (/** @type {Api.Device} */ device) => [device.host],
});

/**
 * Whether a device is what somebody chose and searches, its state aside.
 *
 * @param {Api.Device} device
 * @param {Record<string, string>} want
 * @param {Choices} choices
 */
export function fits(device, want, choices) {
  if (!Object.entries(choices).every(([key, of]) => !want[key] || of(device).includes(want[key]))) return false;
  if (!want.q) return true;
  const { name, udid, reason, holder, tags, model, port } = device;
  const text = [name, udid, reason, holder, model, port, ...tags].join("\n").toLowerCase();
  return want.q.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
