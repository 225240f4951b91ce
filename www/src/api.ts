/** What this page and its server say to each other; the server's side is `www/server/src/main.rs`. */
export interface Api {
  calls: {
    join(): Joined;
    turn(): Member;
    roll(): Roll;
    /** For whoever has the scope `room.speak`. */
    say(message: { text: string }): Message;
    /** For admins. */
    clear(): null;
    dismiss(whom: { id: number }): null;
  };
  notifies: {
    cursor: Point;
  };
  listens: {
    joined: Member;
    left: Member;
    turned: Member;
    said: Message;
    cleared: { by: string };
    rolled: { name: string; dice: Dice };
    cursor: Point & { id: number };
  };
}

/** The pages beside the room; the server's side is `www/server/src/channels.rs`. */
export interface ChannelApi {
  topics: {
    "chat:{room}": { text: string };
    /** Nothing is published there: its members send to each other. */
    "peers:{room}": never;
  };
}

export type Role = "viewer" | "speaker" | "admin";

/** What the doorman is shown (`www/server/src/role.rs`). A guest is one of the pages beside the room. */
export interface SignIn {
  name: string;
  role: Role | "guest";
  password?: string;
}

export interface Joined {
  you: number;
  /** Tells one run of the server from the next, in which the numbers begin anew. */
  openedAtMs: number;
  members: Member[];
  messages: Message[];
}

export interface Member {
  id: number;
  name: string;
  role: Role;
  /** Where the cursor was last. */
  at: Point | null;
}

/** 0 to 1 from the left and from the top of the harbour. */
export interface Point {
  x: number;
  y: number;
}

export interface Message {
  id: number;
  from: number;
  name: string;
  text: string;
  atMs: number;
}

export type Dice = [number, number];

export interface Roll {
  dice: Dice;
  uptimeMs: number;
}
