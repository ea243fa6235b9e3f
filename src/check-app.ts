// Check app: what bots, channels and settings must be to each other. A combination that would break a promise later is refused at
// the start.
//
// Invariants
//   A1. No bot forgets a message id while a channel's outside may still repeat the message (P2): `dedupeMs` is at least the channel's
//       `retryHorizonMs`.
//   A2. What a channel holds back for order finds room on the waiting list, so that the policy for gaps comes before "full".
//   A3. What a channel says of itself can be kept by its lanes: one that wants to ask after a reply of unknown outcome can ask.

import type { Channel } from "./channels/channel.ts";
import { type LaneTraits, problemsOfLaneTraits } from "./channels/channel-problems.ts";
import { problemsOfOrder } from "./channels/order-options.ts";
import type { Config } from "./config.ts";
import { problem, refuse, shown } from "./config-problems.ts";
import type { BotDefinition } from "./domain/bot.ts";
import type { ConfigError } from "./errors.ts";

/** As long as an id can be kept at all: the largest `dedupeMs`. */
const RETRY_HORIZON_MAX_MS = 30 * 24 * 3_600_000;

export interface AppParts {
  readonly bots: readonly Pick<BotDefinition, "name" | "dedupeMs">[];
  readonly channels: readonly (Pick<Channel, "name" | "order" | "retryHorizonMs"> & LaneTraits)[];
  readonly config: Pick<Config, "dedupeMs" | "waitingMax">;
}

/** @throws ConfigError, or ConfigProblemsError for several, with keys like `bots[0].dedupeMs` or `channels[1].order.maxHeld` */
export function checkApp(parts: AppParts): void {
  refuse(
    parts.channels.flatMap((channel, i) => [
      ...problemsOfChannel(channel, `channels[${i}]`, parts.config.waitingMax),
      ...problemsOfLaneTraits(channel, `channels[${i}]`), // A3
      ...forgettingSooner(parts, channel),
    ]),
  );
}

function problemsOfChannel(
  { order, retryHorizonMs }: AppParts["channels"][number],
  key: string,
  waitingMax: number,
): ConfigError[] {
  const found = order === undefined ? [] : problemsOfOrder(order, `${key}.order`);
  if (retryHorizonMs !== undefined && !isHorizon(retryHorizonMs)) {
    const what = `is ${shown(retryHorizonMs)}, not a whole number of ms from 0 to ${RETRY_HORIZON_MAX_MS}`;
    found.push(problem(`${key}.retryHorizonMs`, what, "for how long the outside repeats a message without an answer"));
  }
  if (found.length > 0 || order === undefined || order.mode === "arrival" || order.maxHeld < waitingMax) return found;
  const what = `is ${order.maxHeld}, not less than waitingMax (${waitingMax}), the list that held messages wait on`;
  return [problem(`${key}.order.maxHeld`, what, "lower it or raise waitingMax")]; // A2
}

const isHorizon = (value: number): boolean =>
  Number.isSafeInteger(value) && value >= 0 && value <= RETRY_HORIZON_MAX_MS;

/** A1: one line for each bot with a time of its own, and one for all that have the app's. */
function forgettingSooner(
  { bots, config }: AppParts,
  { name, retryHorizonMs = 0 }: AppParts["channels"][number],
): ConfigError[] {
  const own = bots.flatMap(({ dedupeMs }, i) =>
    dedupeMs === undefined ? [] : [[`bots[${i}].dedupeMs`, dedupeMs] as const],
  );
  const times = own.length < bots.length ? [["dedupeMs", config.dedupeMs] as const, ...own] : own;
  return times
    .filter(([, dedupeMs]) => dedupeMs < retryHorizonMs)
    .map(([key, dedupeMs]) =>
      problem(
        key,
        `is ${dedupeMs}, less than retryHorizonMs (${retryHorizonMs}) of the channel ${name}: a message that its outside repeats after that would be handled twice`,
        `set it to at least ${retryHorizonMs}`,
      ),
    );
}
