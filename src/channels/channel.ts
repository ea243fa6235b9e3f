// Channel: the port to the outside world, at both ends. Adapters only convert; order, dedupe and durability are the core's.

import type { Delivery, Inbound, RenderInput } from "../domain/message.ts";

/** What a 2xx may be said for. */
export type AdmitOutcome =
  /** All durable; duplicates count. */
  | { readonly kind: "admitted"; readonly count: number }
  /** Not, or not all, durable now; what is in counts as a duplicate when the same request comes again. */
  | { readonly kind: "unavailable"; readonly reason: string; readonly retryAfterMs: number };

export type Admit = (messages: readonly Inbound[]) => Promise<AdmitOutcome>;

/** How one attempt at sending ended. Retryability is decided here, where the foreign answer enters, and nowhere else. */
export type SendOutcome =
  | { readonly kind: "delivered" }
  | { readonly kind: "retryable"; readonly reason: string; readonly retryAfterMs?: number }
  /** Unknown whether it arrived: the same key and bytes go out again. */
  | { readonly kind: "ambiguous"; readonly reason: string }
  /** Never acceptable in this form. */
  | { readonly kind: "terminal"; readonly reason: string }
  /** The recipient left; nothing more will ever be accepted for this conversation. */
  | { readonly kind: "gone"; readonly reason: string };

export interface Channel {
  /** Lower case letters, digits and "-"; part of every conversation's id. */
  readonly name: string;
  /** `lane`: replies are sent by `send`. `transcript`: the commit itself delivers them, and they are read back. */
  readonly delivery: "lane" | "transcript";
  /** The wire bytes of a reply. Pure: the same input gives the same bytes. */
  render(input: RenderInput): Uint8Array;
  /** One attempt, never rejects. Aborting ends it as `ambiguous`. */
  send(delivery: Delivery, signal: AbortSignal): Promise<SendOutcome>;
  /** Called once when messages can be admitted; a channel that receives by itself keeps `admit`. */
  open?(admit: Admit): void;
  close?(): Promise<void>;
}
