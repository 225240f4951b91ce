import type { Unsubscribe } from "./listeners.js";

/** What a client wants to hear of its page. */
export interface PageEvents {
  /** The network came back, or the page is looked at or runs again: waiting longer makes no sense. */
  wake(): void;
  /** The page is going for good; one that may come back (`persisted`) keeps its session for that. */
  leave(): void;
}

/** Follows the page, where there is one. In a worker some of these events never come, in Node none does. */
export function followPage({ wake, leave }: PageEvents): Unsubscribe {
  const following = new AbortController();
  const options = { signal: following.signal };
  globalThis.addEventListener?.("online", wake, options);
  // Back from the back-forward cache. A page that loads fires it too, and has nothing to wake.
  globalThis.addEventListener?.("pageshow", (event) => { if (event.persisted) wake(); }, options);
  // `pagehide` and never `unload`, which would keep the page out of the back-forward cache.
  globalThis.addEventListener?.("pagehide", (event) => { if (!event.persisted) leave(); }, options);
  // Frozen (`freeze`) it runs nothing and needs nothing: the session waits at the server.
  globalThis.document?.addEventListener("resume", wake, options);
  globalThis.document?.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") wake();
  }, options);
  return () => following.abort();
}
