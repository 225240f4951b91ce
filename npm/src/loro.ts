/**
 * `moorline/loro`: keeps a Loro document and a store the same. Needs the package `loro-crdt`, version 1.
 *
 * @module
 */
import { decodeImportBlobMeta, LoroDoc, VersionVector, type PeerID } from "loro-crdt";

import { StoreBinding, type Binding, type BindOptions, type Replica } from "./binding.js";
import type { Store } from "./store-types.js";

export type { Binding, BindingState, BindOptions } from "./binding.js";

/**
 * Binds a document to a store: what others write is imported, and what is committed here goes out. Bind before anything
 * else reads from the store, and open that without `since`: what the server is not heard to have is sent to it.
 *
 * ```ts
 * import { LoroDoc } from "loro-crdt";
 * import { connect } from "moorline";
 * import { bindLoro } from "moorline/loro";
 *
 * const client = connect("wss://example.com/moorline");
 * const doc = new LoroDoc();
 * const binding = bindLoro(doc, client.store("notes/42", { offline: true }));
 * await binding.synced;
 * doc.getText("body").insert(0, "Hello");
 * doc.commit();
 * ```
 *
 * What other code imports into the document is sent, too, unless it came from the server before.
 */
export function bindLoro(doc: LoroDoc<any>, store: Store, options?: BindOptions): Binding {
  return new StoreBinding(new LoroReplica(doc), store, options);
}

/** How far each peer's operations go. */
type Versions = Map<PeerID, number>;

class LoroReplica implements Replica {
  readonly #doc: LoroDoc;
  /** What came from the store or was told as an edit. The rest is of other code. */
  #known: Versions;
  /** What the updates of the store go up to. Loro keeps what it cannot use yet apart, and out of its exports. */
  readonly #expected: Versions = new Map();
  #isApplying = false;
  #tell: (update: Uint8Array, isEdit: boolean) => void = () => {};

  constructor(doc: LoroDoc) {
    this.#doc = doc;
    // What was edited so far is told to nobody, and found by comparing.
    doc.commit();
    this.#known = this.#versions();
  }

  apply(update: Uint8Array): void {
    this.#tellOthers();
    extend(this.#expected, ends(update));
    // Whether events come within the import or after it has changed between versions of Loro.
    this.#isApplying = true;
    try {
      this.#doc.import(update);
      this.#known = this.#versions();
    } finally {
      this.#isApplying = false;
    }
  }

  /** Of operations that the document still has: Loro merges by exporting them together. */
  merge(updates: readonly Uint8Array[]): Uint8Array {
    if (updates.length === 1) return updates[0]!;
    const ranges = new Map<PeerID, { from: number; to: number }>();
    for (const update of updates) {
      const starts: Versions = decodeImportBlobMeta(update, false).partialStartVersionVector.toJSON();
      for (const [peer, to] of ends(update)) {
        const from = starts.get(peer) ?? 0;
        const range = ranges.get(peer);
        ranges.set(peer, range ? { from: Math.min(range.from, from), to: Math.max(range.to, to) } : { from, to });
      }
    }
    const spans = [...ranges].map(([peer, { from, to }]) => ({ id: { peer, counter: from }, len: to - from }));
    return this.#doc.export({ mode: "updates-in-range", spans });
  }

  state(): Uint8Array {
    return this.#doc.export({ mode: "snapshot" });
  }

  isEmpty(): boolean {
    return this.#doc.opCount() === 0;
  }

  isComplete(): boolean {
    return !goesBeyond(this.#expected, this.#versions());
  }

  beyond(updates: readonly Uint8Array[]): Uint8Array | undefined {
    const other = new LoroDoc();
    try {
      if (updates.length > 0) other.importBatch([...updates]);
      const had = other.version();
      return goesBeyond(this.#versions(), had.toJSON()) ? this.#doc.export({ mode: "update", from: had }) : undefined;
    } finally {
      other.free();
    }
  }

  listen(listener: (update: Uint8Array, isEdit: boolean) => void): () => void {
    this.#tell = listener;
    const stopEdits = this.#doc.subscribeLocalUpdates((update) => {
      extend(this.#known, ends(update));
      listener(update, true);
    });
    const stopEvents = this.#doc.subscribe(({ by }) => { if (by === "import" && !this.#isApplying) this.#tellOthers(); });
    return () => {
      stopEdits();
      stopEvents();
    };
  }

  /** Tells what other code has imported. */
  #tellOthers(): void {
    const versions = this.#versions();
    if (!goesBeyond(versions, this.#known)) return;
    const update = this.#doc.export({ mode: "update", from: new VersionVector(this.#known) });
    this.#known = versions;
    this.#tell(update, false);
  }

  #versions(): Versions {
    return this.#doc.version().toJSON();
  }
}

function ends(update: Uint8Array): Versions {
  return decodeImportBlobMeta(update, false).partialEndVersionVector.toJSON();
}

function extend(versions: Versions, by: Versions): void {
  for (const [peer, end] of by) if (end > (versions.get(peer) ?? 0)) versions.set(peer, end);
}

function goesBeyond(versions: Versions, others: Versions): boolean {
  return [...versions].some(([peer, end]) => end > (others.get(peer) ?? 0));
}
