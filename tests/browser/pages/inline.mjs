import * as moorline from "moorline/inline";

globalThis.moorline = moorline;
