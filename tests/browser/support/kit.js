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
