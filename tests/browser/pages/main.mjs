// Everything that the entry exports, where a test finds it.
import * as moorline from "moorline";

globalThis.moorline = moorline;
