import { isBackpressure } from "./backlog.js";
import type { Admission, Core, CoreFailure } from "./boundary.js";
import type { AuthenticateOptions, Identity } from "./client-types.js";
import type { TokenRequest } from "./connect-types.js";
import { base64url, Credentials, shown } from "./credentials.js";
import { AuthError, ConnectError, MoorlineError } from "./errors.js";
import { fromCore } from "./failure.js";
import { checkAuthenticateOptions } from "./options.js";
import type { Owner } from "./owner.js";
import { decode } from "./payload.js";
import type { Settings } from "./settings.js";
import { Settlement } from "./settlement.js";

/** What signing in needs of its client. */
export interface SignInOwner extends Owner {
  /** `owner` may be another one. */
  ownerChanged(): void;
  /** Tells the listeners. */
  told(identity: Identity): void;
}

/** Who a client is: what it shows for itself, to which connection, and what the server makes of that. */
export class SignIn {
  /** Who the server says this is; `undefined` before it has said so. */
  identity: Identity | undefined;

  readonly #owner: SignInOwner;
  readonly #settings: Settings;
  readonly #credentials: Credentials;
  /** The newest question for what is to be shown; 0 when its answer is not needed any more. */
  #ticket = 0;
  /** What the token provider threw, asked by that. */
  #noCredentials: unknown;
  /** Something is being handed to the core, which shows it before what waits there for room. */
  #isShowing = false;
  /** What waits to be shown. */
  readonly #showing = new Set<() => void>();
  /**
   * What was shown and is not answered. Also where nobody waits for the answer any more: the server may take it all the
   * same. `adopt` shows it to later connections, too.
   */
  readonly #authentications = new Map<number, { settlement: Settlement<Identity>; adopt: () => void }>();

  constructor(settings: Settings, owner: SignInOwner) {
    this.#settings = settings;
    this.#owner = owner;
    this.#credentials = new Credentials(settings);
  }

  /** The same for whoever is the same at the server: JSON of tenant and subject. `undefined` while that may change at any moment. */
  get owner(): string | undefined {
    return this.#isShowing || this.#authentications.size > 0 ? undefined : JSON.stringify([this.identity?.tenant ?? "", this.identity?.subject ?? ""]);
  }

  async authenticate(options: AuthenticateOptions): Promise<Identity> {
    const { token, auth, timeoutMs = this.#settings.callTimeoutMs, signal } = checkAuthenticateOptions(options);
    if ((token === undefined) === (auth === undefined)) {
      throw new MoorlineError("invalid_option", "authenticate() takes either token or auth");
    }
    signal?.throwIfAborted();
    const show = shown(token, auth);
    const settlement = new Settlement<Identity>({
      timeoutMs,
      signal,
      timedOut: () => this.#owner.timeout(AuthError, `The server did not say who this is within ${timeoutMs} ms`),
    });
    // One at a time, and not while another answer is on its way: a refused try is made again when that has changed.
    const attempt = (): void => {
      const ended = this.#owner.ended();
      if (ended) return settlement.reject(ended);
      const core = this.#owner.core();
      if (!core) return;
      this.#isShowing = true;
      this.#owner.ownerChanged();
      try {
        const id = core.authenticate(show.token, show.encoding, show.data);
        this.#authentications.set(id, { settlement, adopt: () => this.#credentials.adopt({ token, auth }) });
        settlement.onAbandoned = () => {
          if (!core.withdraw(id) || !this.#authentications.delete(id)) return;
          this.#owner.ownerChanged();
          this.show();
        };
        this.#showing.delete(attempt);
      } catch (failure) {
        if (!isForLater(failure)) settlement.reject(fromCore(ConnectError, failure));
      }
      this.#isShowing = false;
      if (this.owner !== undefined) this.#owner.ownerChanged();
    };
    settlement.onAbandoned = () => void this.#showing.delete(attempt);
    this.#showing.add(attempt);
    attempt();
    return settlement.promise.finally(() => this.#showing.delete(attempt));
  }

  /** Shows what waits, as far as the core takes it. */
  show(): void {
    for (const attempt of [...this.#showing]) attempt();
  }

  /** Gets what the next connection is to show. */
  async authorize(ticket: number, attempt: number, reason: TokenRequest["reason"]): Promise<void> {
    const core = this.#owner.core();
    if (!core) return;
    const clientKey = base64url(core.clientKey());
    [this.#ticket, this.#noCredentials] = [ticket, undefined];
    let answer: Parameters<Core["authorized"]>;
    try {
      const { token, encoding, data } = await this.#credentials.get({ reason, attempt, clientKey });
      answer = [ticket, true, token, encoding, data];
    } catch (cause) {
      // One that is late, or was told that nobody waits, explains nothing.
      if (ticket !== this.#ticket) return;
      answer = [ticket, false];
      this.#noCredentials = cause;
      // The connection goes on, for the while that what was shown is good.
      if (reason === "expiring") this.#owner.report(this.unavailable());
    }
    // It may have been closed, and freed, meanwhile.
    if (this.#owner.core() === core) core.authorized(...answer);
  }

  /** The error `credentials_unavailable`, with what the token provider threw. */
  unavailable(): AuthError {
    return new AuthError("credentials_unavailable", undefined, { cause: this.#noCredentials });
  }

  onAuthenticated(id: number, admission: Admission | undefined, failure: CoreFailure | undefined): void {
    const asked = this.#authentications.get(id);
    this.#authentications.delete(id);
    if (admission) {
      this.admitted(admission);
      if (asked) {
        this.#ticket = 0;
        asked.adopt();
      } else this.#credentials.renewed();
      asked?.settlement.resolve(this.identity!);
    } else {
      const error = fromCore(ConnectError, failure);
      if (asked) asked.settlement.reject(error);
      // The core's own: the client goes on as it is until what it showed expires.
      else this.#owner.report(error);
      this.#owner.ownerChanged();
    }
    this.show();
  }

  /** The server has said who this is. */
  admitted({ identity, encoding, data, expiresInMs }: Admission): void {
    if (!identity) return;
    try {
      const { subject, tenant, role, scopes, meta } = decode(1, identity) as Identity;
      const given = encoding !== undefined && data ? decode(encoding, data) : undefined;
      this.identity = Object.freeze({
        subject,
        tenant,
        role: role ?? undefined,
        scopes: scopes ? Object.freeze(scopes) : undefined,
        meta: meta ?? undefined,
        data: given,
        expiresAtMs: expiresInMs === undefined ? undefined : Date.now() + expiresInMs,
      });
    } catch (unreadable) {
      return this.#owner.report(fromCore(ConnectError, unreadable));
    }
    this.#owner.ownerChanged();
    this.#owner.told(this.identity);
  }

  /** The client ends: nobody is asked any more. */
  stop(): void {
    this.#ticket = 0;
    this.#credentials.stop();
  }

  /** What was shown is not answered any more. */
  end(reason: MoorlineError): void {
    for (const { settlement } of this.#authentications.values()) settlement.reject(reason);
  }
}

/** Something else is being answered. */
function isForLater(failure: unknown): boolean {
  return isBackpressure(failure) || (failure as { code?: unknown }).code === "connection_lost";
}
