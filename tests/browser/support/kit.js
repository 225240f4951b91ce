/**
 * What tests use inside of a page, as `kit`. It is put into every page before the page's own scripts, and is no part of
 * what is tested.
 */
globalThis.kit = {
  /** An error as plain data, so that it can leave the page. */
  plain(error) {
    if (error === undefined) return undefined;
    const { name, code, message, remedy, retryable, ref, data, cause } = error;
    const isOurs = globalThis.moorline?.MoorlineError.is(error) ?? false;
    return { isOurs, name, code, message, remedy, retryable, ref, data, cause: cause && kit.plain(cause) };
  },

  /** How a promise ends, as plain data. */
  outcome(promise) {
    return promise.then((value) => ({ value }), (error) => ({ error: kit.plain(error) }));
  },

  /** What a function throws. */
  thrown(action) {
    try {
      action();
    } catch (error) {
      return kit.plain(error);
    }
  },

  /** A status as plain data. */
  status({ status, attempt, retryInMs, error }) {
    return { status, attempt, retryInMs, error: kit.plain(error) };
  },

  /** Every status of a client from now on. */
  statuses(client) {
    const seen = [kit.status(client.status)];
    client.on("status", (status) => seen.push(kit.status(status)));
    return seen;
  },

  /** The first status that passes: the present one or one that comes. */
  until(client, passes) {
    return new Promise((resolve) => {
      const look = (status) => passes(status) && (resolve(kit.status(status)), off());
      let off = () => {};
      off = client.on("status", look);
      look(client.status);
    });
  },

  /** The status with this error. */
  failed(client, code) {
    return kit.until(client, ({ error }) => error?.code === code);
  },

  connected(client) {
    return kit.until(client, ({ status }) => status === "connected");
  },

  /** What is told by this event from now on, in an array that grows. */
  events(client, name) {
    const seen = [];
    client.on(name, (value) => seen.push(value));
    return seen;
  },

  /**
   * Numbered notifications there and back and numbered calls both ways, small ones, large ones and some that travel in
   * parts, in bursts and with many on their way at any time. Gives what came of them, which for whole traffic is
   * `{ notes, once: calls, asked, reversed }` and nothing odd.
   */
  async traffic(client, { notes, calls }) {
    const found = { notes: 0, once: 0, asked: 0, reversed: 0, odd: [] };
    const size = (n) => (n % 200 === 199 ? 100_000 : n % 50 === 49 ? 20_000 : n % 10 === 9 ? 2_000 : 0);
    let wake = () => {};
    const off = client.listen("noted", ({ n, pad }) => {
      if (n === found.notes && pad.length === size(n)) found.notes++;
      else found.odd.push(`note ${n} after ${found.notes - 1}`);
      wake();
    });
    client.handle("same", (value) => value);
    const heard = (count) => new Promise((resolve) => {
      wake = () => found.notes + found.odd.length >= count && resolve();
      wake();
    });
    const BURST = 100;
    const tell = async () => {
      for (let n = 0; n < notes; n++) {
        // As much as either side keeps for one that is away, and no more.
        if (n % BURST === 0) await heard(n - 2 * BURST);
        client.notify("note", { n, pad: "x".repeat(size(n)) });
      }
      await heard(notes);
    };
    const options = { timeoutMs: 100_000 };
    const one = async (n) => {
      if ((await client.call("once", n, options)) === 1) found.once++;
      else found.odd.push(`call ${n} ran twice`);
      if (n % 2 === 0) {
        const { ok } = await client.call("ask", { name: "same", data: n, timeoutMs: 100_000 }, options);
        if (ok === n) found.asked++;
      }
      if (n % 100 === 0) {
        const bytes = new Uint8Array(90_000).map((_, at) => at + n);
        const reversed = await client.call("reverse", bytes, options);
        if (String(reversed.reverse()) === String(bytes)) found.reversed++;
      }
    };
    let next = 0;
    const work = async () => { while (next < calls) await one(next++); };
    const failed = (error) => void found.odd.push(`${error.code}: ${error.message}`);
    await Promise.all([tell(), ...Array.from({ length: 40 }, work)].map((job) => job.catch(failed)));
    off();
    return found;
  },

  /** Publishes `{ n }` for these numbers in order, some on their way at once. */
  async publish(client, name, from, to) {
    const BURST = 100;
    for (let first = from; first <= to; first += BURST) {
      const burst = Array.from({ length: Math.min(BURST, to - first + 1) }, (_, at) => first + at);
      await Promise.all(burst.map((n) => client.publish(name, { n }, { timeoutMs: 50_000 })));
    }
  },

  /** The next of a loop: `undefined` where it is over. */
  async take(loop, count) {
    const read = [];
    while (read.length < count) read.push((await loop.next()).value);
    return read;
  },

  /** How many patches wait in this origin's IndexedDB. */
  async kept() {
    const settled = (request) => new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    const opening = indexedDB.open("moorline");
    // There is none yet, and it is not for a test to make one.
    opening.onupgradeneeded = () => opening.transaction.abort();
    const database = await settled(opening).catch(() => undefined);
    if (!database) return 0;
    const count = await settled(database.transaction("patches").objectStore("patches").count());
    database.close();
    return count;
  },

  /** Connects, and binds a new document to a store, all of which a test then finds in the page by their names. */
  async document({ kind, url, options, name, store, bind }) {
    await kit.eventually(() => globalThis.documents);
    Object.assign(globalThis, documents[kind], { doc: documents[kind].make(), problems: [] });
    globalThis.client = moorline.connect(url, options);
    globalThis.store = client.store(name, store);
    const { snapshot } = globalThis.store;
    globalThis.snapshots = [];
    globalThis.store.snapshot = (...args) => {
      const outcome = snapshot.apply(globalThis.store, args);
      snapshots.push(kit.outcome(outcome));
      return outcome;
    };
    globalThis.binding = documents[kind].bind(doc, globalThis.store, { onError: (error) => problems.push(kit.plain(error)), ...bind });
  },

  /** Edits `NAME n` for these numbers, each in a task and so in a patch of its own. */
  async edit(name, from, to) {
    for (let n = from; n <= to; n++) {
      edit(doc, `${name} ${n}`);
      await new Promise((resolve) => setTimeout(resolve));
    }
  },

  /** Waits for something that no event tells. */
  async eventually(holds) {
    while (!(await holds())) await new Promise((resolve) => setTimeout(resolve));
  },

  /** The next notifications of this name. */
  heard(client, name, count = 1) {
    return new Promise((resolve) => {
      const values = [];
      const off = client.listen(name, (value) => {
        values.push(value);
        if (values.length === count) resolve((off(), values));
      });
    });
  },
};
