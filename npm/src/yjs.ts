/**
 * `moorline/yjs`: keeps a Yjs document and a store the same. Needs the package `yjs`, version 13.
 *
 * @module
 */
import * as Y from "yjs";

import { StoreBinding, type Binding, type BindOptions, type Replica } from "./binding.js";
import { reportUncaught } from "./listeners.js";
import type { Store } from "./store-types.js";

export type { Binding, BindingState, BindOptions } from "./binding.js";

/**
 * Binds a document to a store: what others write comes in, with the binding as the transaction's origin, and what is edited
 * here goes out. Bind before anything else reads from the store, and open that without `since`: what the server is not heard
 * to have is sent to it.
 *
 * ```ts
 * import { connect } from "moorline";
 * import { bindYjs } from "moorline/yjs";
 * import * as Y from "yjs";
 *
 * const client = connect("wss://example.com/moorline");
 * const doc = new Y.Doc();
 * const binding = bindYjs(doc, client.store("notes/42", { offline: true }));
 * await binding.synced;
 * doc.getText("body").insert(0, "Hello");
 * ```
 *
 * To see a document without a connection after a reload, keep it with `y-indexeddb` as well, and bind it when that has
 * loaded: what the server lacks of it is sent.
 */
export function bindYjs(doc: Y.Doc, store: Store, options?: BindOptions): Binding {
  return new StoreBinding(new YjsReplica(doc), store, options);
}

class YjsReplica implements Replica {
  readonly #doc: Y.Doc;

  constructor(doc: Y.Doc) {
    this.#doc = doc;
  }

  apply(update: Uint8Array): void {
    let isApplied = false;
    try {
      // Within a transaction of our own, whose observers are told when the update is in the document.
      Y.transact(this.#doc, () => {
        Y.applyUpdate(this.#doc, update, this);
        isApplied = true;
      }, this, false);
    } catch (error) {
      if (!isApplied) throw error;
      // An observer of the application's has thrown, which is no fault of the update's.
      reportUncaught(error);
    }
  }

  merge(updates: readonly Uint8Array[]): Uint8Array {
    return updates.length === 1 ? updates[0]! : Y.mergeUpdates([...updates]);
  }

  state(): Uint8Array {
    return Y.encodeStateAsUpdate(this.#doc);
  }

  isEmpty(): boolean {
    return this.#doc.store.clients.size === 0 && this.#doc.store.pendingStructs === null;
  }

  beyond(updates: readonly Uint8Array[]): Uint8Array | undefined {
    const other = new Y.Doc();
    other.transact(() => { for (const update of updates) Y.applyUpdate(other, update); });
    // Deletions are in no state vector, so that alone would not show them.
    const isSame = Y.equalSnapshots(Y.snapshot(this.#doc), Y.snapshot(other));
    const missing = isSame ? undefined : Y.encodeStateAsUpdate(this.#doc, Y.encodeStateVector(other));
    other.destroy();
    return missing;
  }

  isComplete(): boolean {
    return this.#doc.store.pendingStructs === null && this.#doc.store.pendingDs === null;
  }

  listen(listener: (update: Uint8Array, isEdit: boolean) => void, onEnd: () => void): () => void {
    const heard = (update: Uint8Array, origin: unknown, _doc: Y.Doc, { local }: Y.Transaction): void => {
      if (origin !== this) listener(update, local);
    };
    this.#doc.on("update", heard);
    this.#doc.on("destroy", onEnd);
    return () => {
      this.#doc.off("update", heard);
      this.#doc.off("destroy", onEnd);
    };
  }
}
