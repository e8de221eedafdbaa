// Asking again and again, for as long as somebody looks.

/**
 * Do it now and then, one at a time, and only while the tab is visible.
 *
 * @param {number} every Milliseconds between the end of one and the next.
 * @param {(signal: AbortSignal) => Promise<void>} work Aborted at the end; says itself what fails.
 * @returns {{now: () => Promise<void>, end: () => void}} `now` does it at once, too.
 */
export function poll(every, work) {
  const ended = new AbortController();
  let timer = 0;
  let running = false;
  let again = false;

  async function now() {
    clearTimeout(timer);
    if (ended.signal.aborted) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      await work(ended.signal);
    } while (again && !ended.signal.aborted);
    running = false;
    if (!ended.signal.aborted && !document.hidden) timer = setTimeout(now, every);
  }

  document.addEventListener("visibilitychange", () => !document.hidden && now(), { signal: ended.signal });
  void now();
  return {
    now,
    end() {
      clearTimeout(timer);
      ended.abort();
    },
  };
}
