import * as moorline from "moorline/slim";

globalThis.moorline = moorline;
