// Elements made in code: text is always put in as text, so nothing from outside becomes markup.

/**
 * @typedef {Node | string | number | null | undefined | false} Child
 * @typedef {Record<string, unknown>} Props
 */

/**
 * An element with attributes and children.
 *
 * `class`, `for` and the rest are attributes; `on…` with a function is a listener; a boolean is an
 * attribute that is there or not; null and undefined are left out. Children that are null or false
 * are left out; strings and numbers are text.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props} [props]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on") && typeof value === "function") {
      made.addEventListener(name.slice(2), /** @type {EventListener} */ (value));
    } else if (name === "value" && "value" in made) {
      Object.assign(made, { value });
    } else if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, String(value));
    }
  }
  put(made, ...children);
  return made;
}

/**
 * Add children to an element, as `el` does.
 *
 * @param {Element | DocumentFragment} parent
 * @param {...(Child | Child[])} children
 */
export function put(parent, ...children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Set an element's text, and touch the page only where that differs.
 *
 * @param {Element} node
 * @param {string} text
 */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Replace an element's children; the focus stays on what has the same `data-key`.
 *
 * @param {Element} parent
 * @param {...(Child | Child[])} children
 */
export function fill(parent, ...children) {
  const key = parent.contains(document.activeElement)
    ? document.activeElement?.getAttribute("data-key")
    : null;
  parent.replaceChildren();
  put(parent, ...children);
  if (key) {
    const again = parent.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (again instanceof HTMLElement) again.focus({ preventScroll: true });
  }
}

/** What each shows. @type {WeakMap<Element, string>} */
const drawn = new WeakMap();

/**
 * Fill an element anew where what it shows is other data than before.
 *
 * @param {Element} node
 * @param {unknown} data
 * @param {() => (Child | Child[])[]} make
 */
export function part(node, data, make) {
  const text = JSON.stringify(data);
  if (drawn.get(node) === text) return;
  drawn.set(node, text);
  fill(node, ...make());
}

/**
 * Bring the children of an element into this order. Few are moved: of two that stand wrongly the
 * one that has the longer way. The focus comes back to one that had to move.
 *
 * @param {Element} parent
 * @param {Element[]} wanted
 */
export function order(parent, wanted) {
  const focused = document.activeElement;
  const to = new Map(wanted.map((child, i) => [/** @type {Element | null} */ (child), i]));
  for (const child of [...parent.children]) if (!to.has(child)) child.remove();
  const from = new Map([...parent.children].map((child, i) => [/** @type {Element | null} */ (child), i]));
  let next = parent.firstElementChild;
  wanted.forEach((child, i) => {
    const way = () => (from.get(child) ?? 0) - (from.get(next) ?? 0);
    while (next && way() > 0 && (to.get(next) ?? 0) - i > way()) next = next.nextElementSibling;
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  });
  if (focused instanceof HTMLElement && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

/**
 * Do something piece by piece, as many in a frame as leave time to lay them out.
 *
 * @param {() => boolean} piece Whether there is more to do.
 */
export function pieces(piece) {
  let frame = 0;
  const soon = () => (frame ||= requestAnimationFrame(run));
  function run() {
    const until = performance.now() + 8;
    frame = 0;
    while (piece()) if (performance.now() > until) return void soon();
  }
  return { soon, end: () => cancelAnimationFrame(frame) };
}

/**
 * The element of that id, which is in the HTML.
 *
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`no element ${id}`);
  return found;
}
