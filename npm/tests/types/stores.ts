/** Claims about stores and what is bound to them, checked by tsc alone. */
import { LoroDoc } from "loro-crdt";
import { connect, type MoorlineError, type Position, type RefusedPatch, type Store, type StoreState, type StoreUpdate, type WithheldPatches } from "moorline";
import { bindLoro } from "moorline/loro";
import { bindYjs, type Binding, type BindingState } from "moorline/yjs";
import * as Y from "yjs";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
/** Compiles only if the value has exactly the type `T`. */
declare function exactly<T>(): <U>(value: U, ...proof: Same<T, U> extends true ? [] : ["another type"]) => void;

const client = connect("wss://example.com/moorline");
const store: Store = client.store("notes/42", { offline: true, presence: { name: "Ann" }, members: false, buffer: 16 });
exactly<StoreState>()(store.current);
exactly<"off" | "disk" | "memory">()(store.current.offline);
exactly<Position | undefined>()(store.position);
exactly<Promise<Position>>()(store.append(new Uint8Array(), { idempotencyKey: "k", timeoutMs: 5, signal: AbortSignal.abort() }));
exactly<Promise<void>>()(store.snapshot(new Uint8Array(), store.position!));
exactly<Promise<string>>()(store.putValue(new Uint8Array()));
exactly<Promise<Uint8Array>>()(store.value("00", { maxBytes: 1024 }));
exactly<readonly RefusedPatch[]>()(store.refused);
exactly<readonly WithheldPatches[]>()(store.withheld);
store.subscribe(({ synced, withheld }) => (exactly<boolean>()(synced), exactly<number>()(withheld)));
store.on("gap", (gap) => exactly<"recreated" | "diverged" | "trimmed" | "overflow">()(gap));
store.on("refused", ({ error, retry, discard }) => {
  exactly<MoorlineError>()(error);
  retry();
  discard();
});
// @ts-expect-error: no such event
store.on("message", () => {});
// @ts-expect-error: patches are bytes
store.append("text");
// @ts-expect-error: a snapshot says what it covers
store.snapshot(new Uint8Array());
// @ts-expect-error: no such option
client.store("notes/42", { offlien: true });

async function reading(): Promise<void> {
  exactly<Store>()(await store.ready());
  for await (const update of store) {
    exactly<StoreUpdate>()(update);
    if (update.kind === "patch") exactly<string>()(update.from.subject);
    // @ts-expect-error: nobody has written a snapshot but the server
    else update.from;
  }
  using brief = client.store("notes/43");
  brief.close();
}
void reading;

const binding = bindYjs(new Y.Doc(), store, { snapshotEvery: { patches: 100, bytes: 2 ** 20 }, onError: ({ remedy }) => console.log(remedy) });
exactly<Binding>()(binding);
exactly<Promise<void>>()(binding.synced);
exactly<BindingState>()(binding.current);
exactly<number>()(binding.current.pending);
binding.subscribe(({ synced }) => exactly<boolean>()(synced));
binding.destroy();
exactly<Binding>()(bindLoro(new LoroDoc<{ body: never }>(), store, { snapshotEvery: false }));
// @ts-expect-error: that is the other one's
bindYjs(new LoroDoc(), store);
