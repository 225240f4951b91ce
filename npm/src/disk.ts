/**
 * Where patches wait in IndexedDB: one database for an origin, with one object store of patches.
 *
 * It knows nothing of sending. Versions of its layout: whoever raises `VERSION` adds a step to `upgrade`, which takes what
 * older ones left along; a page of an older version lets go of the database at once, and goes on in memory.
 */

const DATABASE = "moorline";
const VERSION = 1;
const PATCHES = "patches";
const BY_STORE = "store";
/** Some browsers never answer; whoever waits for a patch to be kept must not wait for that. */
const OPEN_TIMEOUT_MS = 5_000;

/** A patch as it is kept. */
export interface KeptPatch {
  /** Given by the database: ascending over all pages of the origin. */
  sequence?: number;
  /** URL of the server. */
  server: string;
  store: string;
  /** Who wrote it; empty when that was not known yet. */
  owner: string;
  /** The page that wrote it, whose lock is held while it lives. */
  page: string;
  /** What the server knows it by. */
  operation: string;
  patch: Uint8Array;
  /** When it was written, in ms since 1970. */
  at: number;
  /** Set when the server did not take it. */
  refused?: { code: string; message: string };
}

/** An open database. Every method rejects when the browser does not do it. */
export class Disk {
  readonly #database: IDBDatabase;

  private constructor(database: IDBDatabase, onLost: () => void) {
    this.#database = database;
    // The user cleared the site's data, or a newer version of this package wants another layout.
    database.onclose = onLost;
    database.onversionchange = () => {
      database.close();
      onLost();
    };
  }

  /** `onLost`: nothing more can be kept. */
  static open(factory: IDBFactory, onLost: () => void): Promise<Disk> {
    return new Promise((resolve, reject) => {
      const request = factory.open(DATABASE, VERSION);
      let isLate = false;
      const timer = setTimeout(() => {
        isLate = true;
        reject(new Error(`IndexedDB did not open within ${OPEN_TIMEOUT_MS} ms`));
      }, OPEN_TIMEOUT_MS);
      request.onupgradeneeded = ({ oldVersion }) => upgrade(request.result, oldVersion);
      request.onerror = () => {
        clearTimeout(timer);
        reject(request.error);
      };
      request.onsuccess = () => {
        clearTimeout(timer);
        if (isLate) request.result.close();
        else resolve(new Disk(request.result, onLost));
      };
    });
  }

  /** Keeps patches, all or none, and gives their sequences. They are on the disk when it resolves. */
  add(patches: readonly KeptPatch[]): Promise<number[]> {
    return this.#run("readwrite", "strict", (store) => {
      const requests = patches.map((patch) => store.add(patch));
      return () => requests.map((request) => request.result as number);
    });
  }

  /** What is kept of a store, in the order in which it was written. */
  list(server: string, name: string): Promise<KeptPatch[]> {
    return this.#run("readonly", "default", (store) => {
      const request = store.index(BY_STORE).getAll([server, name]);
      return () => request.result as KeptPatch[];
    });
  }

  /** Writes patches again that are kept. One that is not there any more stays away: somebody else has sent it. */
  update(patches: readonly KeptPatch[]): Promise<void> {
    return this.#run("readwrite", "strict", (store) => {
      for (const patch of patches) {
        const request = store.getKey(patch.sequence!);
        request.onsuccess = () => { if (request.result !== undefined) store.put(patch); };
      }
      return () => {};
    });
  }

  /** Forgets patches. What comes back after a power failure is sent again, and known by its operation. */
  remove(sequences: readonly number[]): Promise<void> {
    return this.#run("readwrite", "relaxed", (store) => {
      for (const sequence of sequences) store.delete(sequence);
      return () => {};
    });
  }

  close(): void {
    this.#database.close();
  }

  /** Resolves when the transaction is complete: a request that succeeded may still be rolled back. */
  #run<T>(mode: IDBTransactionMode, durability: IDBTransactionDurability, ask: (store: IDBObjectStore) => () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const transaction = this.#database.transaction(PATCHES, mode, { durability });
      transaction.onabort = () => reject(transaction.error);
      try {
        const result = ask(transaction.objectStore(PATCHES));
        transaction.oncomplete = () => resolve(result());
      } catch (error) {
        // What was asked before it would be done all the same.
        reject(error);
        transaction.abort();
      }
    });
  }
}

/** From the layout of any older version to this one's. */
function upgrade(database: IDBDatabase, from: number): void {
  if (from < 1) {
    const patches = database.createObjectStore(PATCHES, { keyPath: "sequence", autoIncrement: true });
    patches.createIndex(BY_STORE, ["server", "store"]);
  }
}
