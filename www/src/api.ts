/** What this page and its server say to each other; the server's side is `www/server/src/main.rs`. */
export interface Api {
  calls: {
    join(who: { name: string }): Joined;
    say(message: { text: string }): Message;
    rename(who: { name: string }): Member;
    roll(): Roll;
  };
  notifies: {
    cursor: Point;
  };
  listens: {
    joined: Member;
    left: Member;
    renamed: Member;
    said: Message;
    rolled: { name: string; dice: Dice };
    cursor: Point & { id: number };
  };
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
