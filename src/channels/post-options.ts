// Post options: from what the http channel's maker was told about posting replies to what the channel does and declares. Pure.

import { problem, refuse, shown } from "../config-problems.ts";
import type { ConfigError } from "../errors.ts";
import type { AccountOptions, RetryBudget } from "./channel.ts";
import { problemsOfLaneTraits } from "./channel-problems.ts";

/** All of them are about `deliverTo`, and refused without it. */
export interface PostOptions {
  /** For one attempt at delivering, ms from 1 to 1 hour; default 10,000. */
  readonly timeoutMs?: number | undefined;
  /** Connections, and so attempts under way, at the same time, 1 to 100,000; default 128. */
  readonly connections?: number | undefined;
  /** Rate and breaker of what is posted; `connections` is its `concurrency`. */
  readonly account?: Omit<AccountOptions, "concurrency"> | undefined;
  /** For how long and how often a reply is tried; default: `deliveryBudgetMs` of the app. */
  readonly retry?: RetryBudget | undefined;
}

export interface Posting {
  readonly timeoutMs: number;
  readonly connections: number;
  readonly account: AccountOptions;
  readonly retry?: RetryBudget;
}

const NAMES = ["timeoutMs", "connections", "account", "retry"] as const satisfies readonly (keyof PostOptions)[];
const BOUNDS = {
  timeoutMs: { max: 3_600_000, unit: " of ms" },
  connections: { max: 100_000, unit: "" },
} as const;

/**
 * @param key where the options stand, e.g. `channels.http`
 * @throws ConfigError, or ConfigProblemsError for several, with keys like `channels.http.connections`
 */
export function posting(options: PostOptions, key: string): Posting {
  const { account, connections = 128, retry, timeoutMs = 10_000 } = options;
  refuse([
    ...problemsOfNumber("timeoutMs", timeoutMs, key),
    ...problemsOfNumber("connections", connections, key),
    ...problemsOfAccount(account, key),
    ...problemsOfLaneTraits({ ...(account !== undefined && { account }), ...(retry !== undefined && { retry }) }, key),
  ]);
  return {
    timeoutMs,
    connections,
    account: { ...account, concurrency: connections },
    ...(retry !== undefined && { retry }),
  };
}

/**
 * @param key as of `posting`
 * @throws as `posting`, for each that is given
 */
export function refusePosting(options: PostOptions, key: string): void {
  const given = NAMES.filter((name) => options[name] !== undefined);
  refuse(
    given.map((name) =>
      problem(`${key}.${name}`, "means nothing without deliverTo", "set where replies are posted, or remove it"),
    ),
  );
}

function problemsOfNumber(name: keyof typeof BOUNDS, value: number, key: string): ConfigError[] {
  const { max, unit } = BOUNDS[name];
  if (Number.isSafeInteger(value) && value >= 1 && value <= max) return [];
  const what = `is ${shown(value)}, not a whole number${unit} from 1 to ${max}`;
  return [problem(`${key}.${name}`, what, "see docs/channels.md for what it means")];
}

/** The one bound has one name. */
function problemsOfAccount(account: AccountOptions | undefined, key: string): ConfigError[] {
  if (account?.concurrency === undefined) return [];
  return [problem(`${key}.account.concurrency`, "is no option of this channel", "it is called connections here")];
}
