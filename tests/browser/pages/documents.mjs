// Documents of Yjs and of Loro and what binds them to stores, where a test finds them.
import { LoroDoc } from "loro-crdt";
import * as moorline from "moorline";
import { bindLoro } from "moorline/loro";
import { bindYjs } from "moorline/yjs";
import * as Y from "yjs";

globalThis.moorline = moorline;

/** Either kind, with a list to which edits are added and a text into which they are written at the same place. */
globalThis.documents = {
  Yjs: {
    bind: bindYjs,
    make: () => new Y.Doc(),
    edit: (doc, what) => doc.transact(() => {
      doc.getArray("list").push([what]);
      doc.getText("text").insert(0, `${what}, `);
      doc.getMap("map").set(what, what.length);
    }),
    remove: (doc, at) => doc.getArray("list").delete(at, 1),
    read: (doc) => ({ list: doc.getArray("list").toJSON(), text: doc.getText("text").toString(), map: doc.getMap("map").toJSON() }),
  },
  Loro: {
    bind: bindLoro,
    make: () => new LoroDoc(),
    edit(doc, what) {
      doc.getList("list").push(what);
      doc.getText("text").insert(0, `${what}, `);
      doc.getMap("map").set(what, what.length);
      doc.commit();
    },
    remove(doc, at) {
      doc.getList("list").delete(at, 1);
      doc.commit();
    },
    read: (doc) => ({ list: doc.getList("list").toJSON(), text: doc.getText("text").toString(), map: doc.getMap("map").toJSON() }),
  },
};
