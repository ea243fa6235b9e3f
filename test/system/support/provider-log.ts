// Provider log: what a provider writes down of each request, and what of it is a line for `colloquy verify`.

import { readFileSync } from "node:fs";
import type { DeliveryAttempt } from "./history.ts";
import type { Treatment } from "./provider-behaviour.ts";

/** One request that the provider received. Times are those of `nowUs`. */
export interface ProviderAttempt {
  readonly kind: "request";
  /** Of the provider's accounts, the one that it came to. */
  readonly account: string;
  readonly key: string;
  /** At this key, from 1, in the order of their coming. */
  readonly attempt: number;
  readonly bot: string;
  readonly channel: string;
  readonly conversation: string;
  /** Of the reply, by its key. */
  readonly sequence: number;
  /** SHA-256, hex; null for a body that was not read. */
  readonly bodyHash: string | null;
  readonly bytes: number;
  readonly inReplyTo: string | null;
  readonly text: string;
  readonly isRedriven: boolean;
  /** `refused`: by command, with `status`. `cut off`: its sender was gone before the body was whole. */
  readonly gave: Treatment | "refused" | "cut off";
  /** The provider keeps it, whether or not its sender will ever know. */
  readonly isAccepted: boolean;
  /** That the sender was given; 0 for none. */
  readonly status: number;
  readonly retryAfterS: number | null;
  readonly receivedUs: number;
  /** When the answer was given, or the connection had ended without one. */
  readonly answeredUs: number;
}

export interface KeyParts {
  readonly bot: string;
  readonly channel: string;
  readonly conversation: string;
  readonly born: string;
  readonly sequence: number;
  /** null for a reply of one part. */
  readonly part: number | null;
}

/** @returns undefined if it is not `<bot>~<channel>~<conversation>~<born>.<outSeq>[.<part>]` */
export function parseReplyKey(key: string): KeyParts | undefined {
  const [bot, channel, conversation, name, more] = key.split("~");
  const match = /^([a-z0-9-]+)\.([1-9]\d*)(?:\.([1-9]\d*))?$/.exec(name ?? "");
  if (!bot || !channel || !conversation || !match || more !== undefined) return undefined;
  try {
    return {
      bot: decodeURIComponent(bot),
      channel: decodeURIComponent(channel),
      conversation: decodeURIComponent(conversation),
      born: match[1]!,
      sequence: Number(match[2]),
      part: match[3] === undefined ? null : Number(match[3]),
    };
  } catch {
    return undefined;
  }
}

/** Names a reply the same in each run: its key without what depends on the time of day. */
export function stableName({ bot, channel, conversation, sequence, part }: KeyParts): string {
  return `${bot}/${channel}/${conversation} ${sequence}${part === null ? "" : `.${part}`}`;
}

/** In the order of their coming. */
export function readProviderLog(path: string): ProviderAttempt[] {
  const lines = readFileSync(path, "utf8").split("\n");
  const attempts = lines.filter((line) => line !== "").map((line) => JSON.parse(line) as ProviderAttempt);
  return attempts.sort((a, b) => a.receivedUs - b.receivedUs);
}

/** The line of docs/verify.md; undefined for a request whose body nobody read. */
export function sinkLine(attempt: ProviderAttempt): DeliveryAttempt | undefined {
  const { bot, channel, key, conversation, sequence, inReplyTo, text, bodyHash, bytes } = attempt;
  const { receivedUs, answeredUs, status } = attempt;
  if (bodyHash === null) return undefined;
  const reply = { bot, channel, key, conversation, sequence, inReplyTo, text, bodyHash, bytes };
  return { kind: "delivery", ...reply, receivedUs, answeredUs, status };
}
