// Channel: the port to the outside world, at both ends. Adapters only convert; order, dedupe and durability are the core's.

import type { ExternalOrder } from "../domain/external-order.ts";
import type { Delivery, Inbound, RenderInput } from "../domain/message.ts";

/** What a 2xx may be said for. */
export type AdmitOutcome =
  /** All durable; duplicates count. */
  | { readonly kind: "admitted"; readonly count: number }
  /** Not, or not all, durable now; what is in counts as a duplicate when the same request comes again. */
  | { readonly kind: "unavailable"; readonly reason: string; readonly retryAfterMs: number }
  /** This conversation's waiting list is at its bound; what other conversations had in the request may be in. */
  | { readonly kind: "full"; readonly conversation: string; readonly retryAfterMs: number };

export type Admit = (messages: readonly Inbound[]) => Promise<AdmitOutcome>;

/** How one attempt at sending ended. Retryability is decided here, where the foreign answer enters, and nowhere else. */
export type SendOutcome =
  | { readonly kind: "delivered" }
  | { readonly kind: "retryable"; readonly reason: string; readonly retryAfterMs?: number }
  /** Unknown whether it arrived: what follows is for the channel's `onAmbiguous` to say. */
  | { readonly kind: "ambiguous"; readonly reason: string }
  /** Never acceptable in this form. */
  | { readonly kind: "terminal"; readonly reason: string }
  /** The recipient left; nothing more will ever be accepted for this conversation. */
  | { readonly kind: "gone"; readonly reason: string };

/** What is known of a reply whose attempt had an unknown outcome. */
export type ProbeOutcome =
  | { readonly kind: "delivered" }
  /** It did not arrive: the same key and bytes go out again. */
  | { readonly kind: "absent" }
  /** Not known now: it is asked again, by the ladder of retries. */
  | { readonly kind: "unknown"; readonly reason: string };

/** What all lanes of a channel share at its outside. */
export interface AccountOptions {
  /** Attempts under way at the same time; default 128. */
  readonly concurrency?: number;
  /** Attempts begun per second, on average; default: as many as there are. */
  readonly ratePerSecond?: number;
  /** Attempts that may begin at once after a quiet time; default one second's. */
  readonly burst?: number;
  /** So many failed attempts in a row, whosever, open the breaker: default 20; Infinity for none. */
  readonly breakerFailures?: number;
  /** How long it stays open before one attempt probes, ms: default 1,000, doubling to 30,000 while probes fail. */
  readonly breakerOpenMs?: number;
  readonly breakerOpenMsMax?: number;
}

/** For how long and how often a reply is tried before its lane gives it up. Both are durable. */
export interface RetryBudget {
  /** From its first failure, ms; default 259,200,000 (3 days). */
  readonly budgetMs?: number;
  /** Failed attempts; default: as many as there is time for. */
  readonly attemptsMax?: number;
}

/** Bodies that one reply may be sent in. */
export const PARTS_MAX = 16;

export interface Channel {
  /** Lower case letters, digits and "-"; part of every conversation's id. */
  readonly name: string;
  /** `lane`: replies are sent by `send`. `transcript`: the commit itself delivers them, and they are read back. */
  readonly delivery: "lane" | "transcript";
  /**
   * What the `sequence` (and `epoch`) of its messages promises; absent, they are only stored. With another mode than `arrival` a message
   * without a sequence is taken in its turn of arrival and moves no order: an adapter refuses it where it should have one.
   */
  readonly order?: ExternalOrder;
  /**
   * For how long, ms, its outside sends a message again that it has no answer for. A start is refused where a bot forgets message ids
   * sooner (`dedupeMs`): the last repeat would be a second message.
   */
  readonly retryHorizonMs?: number;
  /** Bounds of its outside. Absent: none; then nothing is counted either. */
  readonly account?: AccountOptions;
  readonly retry?: RetryBudget;
  /**
   * What follows an attempt of unknown outcome. `retry` (default): the same key and bytes go out again, for an outside that knows a key
   * it had before. `probe`: `probe` is asked first. `halt`: the lane halts. The latter two write each attempt down before it begins.
   */
  readonly onAmbiguous?: "retry" | "probe" | "halt";
  /** For an outside that knows no keys: the next reply goes out only after the commit that says this one is delivered (attack H7). */
  readonly ackFirst?: boolean;
  /**
   * The wire bytes of a reply. Pure: the same input gives the same bytes. A lane's channel whose outside takes less at once than a reply
   * may have gives several bodies, 1 to `PARTS_MAX`: they are sent one after the other, each under a key of its own, and one that
   * becomes a dead letter takes those behind it along. The bodies of a reply take at most 6 x `replyBytesMax` and 8 KiB each.
   * What it throws, and a result that is none of this (TurnOutputError), fails the turn before its commit.
   */
  render(input: RenderInput): Uint8Array | readonly Uint8Array[];
  /** One attempt at one body, never rejects. Aborting ends it as `ambiguous`. */
  send(delivery: Delivery, signal: AbortSignal): Promise<SendOutcome>;
  /** Whether a reply arrived whose attempt had an unknown outcome; never rejects. Needed with `onAmbiguous: "probe"`. */
  probe?(delivery: Delivery, signal: AbortSignal): Promise<ProbeOutcome>;
  /** Called once when messages can be admitted; a channel that receives by itself keeps `admit`. */
  open?(admit: Admit): void;
  close?(): Promise<void>;
}

/** Names in lower case. A header that came twice is one value joined by ", ", or an array: it equals no single value. */
export type WebhookHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

/** What became of a request's body. A problem refuses the whole request: nothing of it is admitted. */
export type ParseResult =
  | { readonly kind: "ok"; readonly messages: readonly Inbound[] }
  | {
      readonly kind: "problem";
      /** 400: cannot be read at all. 422: read, but not what the channel takes. */
      readonly status: 400 | 422;
      /** Why, for the sender. It may name members of the body and never quotes their values. */
      readonly detail: string;
      /** Where: `id`, `[3].data.items[0]`; "" for the whole body. */
      readonly field?: string;
    };

/** How much one request may bring. */
export interface RequestBounds {
  readonly messagesMax: number;
  /** UTF-8 bytes of one message's ids, text and data together. */
  readonly messageBytesMax: number;
}

/** A channel whose messages arrive by `POST /channels/<channel>/<bot>`. */
export interface WebhookChannel {
  readonly name: string;
  /** By its headers alone, before its body is read: why a request is answered 403; undefined if it is not. Pure, never throws. */
  refuse?(headers: WebhookHeaders): string | undefined;
  /** Whether the raw body is from whom it claims to be. Pure, constant time in what is secret, never throws. */
  verify(headers: WebhookHeaders, raw: Uint8Array): boolean;
  /** The messages in a verified body. Pure, never throws. */
  parse(raw: Uint8Array, bot: string, bounds: RequestBounds): ParseResult;
}
