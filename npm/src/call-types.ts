/** How long to wait, and what ends the wait. */
export interface WaitOptions {
  /** Limit in ms; `Infinity` for none. Each method gives its default. Beyond it: `timeout`. */
  timeoutMs?: number | undefined;
  /** An abort rejects with the signal's `reason`. */
  signal?: AbortSignal | undefined;
}

/** What all that is sent has in common. */
export interface SendOptions {
  /** As in {@link ConnectOptions}, for this message alone. Default: the client's. */
  offline?: "queue" | "fail" | undefined;
}

/** Options of `client.call`. The default of `timeoutMs` is the client's `callTimeoutMs`; an abort also cancels the handler. */
export interface CallOptions extends WaitOptions, SendOptions {
  /**
   * Names this call for the server, which runs its handler once for each key within 10 minutes and answers a repetition
   * with the first answer. A call with a key is sent again after a reset instead of rejecting with `unknown`. 1 to
   * 200 bytes, without control characters; a random UUID does. Default: none.
   */
  idempotencyKey?: string | undefined;
}

/**
 * Options of `client.stream`. `timeoutMs` is how long the first item may take, by default the client's `callTimeoutMs`; an
 * abort ends the loop with the signal's `reason` and cancels the handler.
 */
export interface StreamOptions extends WaitOptions, SendOptions {
  /** Items that the server may send ahead of the loop, 1 to 65,536. Default: 64. */
  buffer?: number | undefined;
}

/** Options of `client.notify`. */
export interface NotifyOptions extends SendOptions {
  /** May be lost: dropped while not connected or when the line is full, never delays anything else. Default: `false`. */
  volatile?: boolean | undefined;
  /** `true` is for {@link ConfirmedNotifyOptions}. Default: `false`. */
  acknowledged?: false | undefined;
}

/** Options of `client.notify` with a promise. The default of `timeoutMs` is the client's `callTimeoutMs`. */
export interface ConfirmedNotifyOptions extends WaitOptions, SendOptions {
  /** The promise resolves when the server has got the notification. It does not wait for what a listener does with it. */
  acknowledged: true;
  volatile?: false | undefined;
}
