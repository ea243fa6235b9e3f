// Channel problems: what keeps a channel that anybody wrote from being used by lanes. Pure.
//
// What is absent has its default and is no problem. A channel whose replies go to the transcript has no lanes: what it says of them is
// looked at all the same, since a slip there is a slip.

import { nearest, problem, shown } from "../config-problems.ts";
import type { ConfigError } from "../errors.ts";
import type { AccountOptions, Channel, RetryBudget } from "./channel.ts";

/** What lanes ask a channel about itself. */
export type LaneTraits = Pick<Channel, "account" | "retry" | "onAmbiguous" | "ackFirst" | "probe">;

const ON_AMBIGUOUS = ["retry", "probe", "halt"] as const satisfies readonly NonNullable<Channel["onAmbiguous"]>[];

interface Bound {
  readonly min: number;
  readonly max: number;
  readonly unit?: string;
  readonly kind?: "fraction" | "whole or Infinity";
}

const YEAR_MS = 365 * 24 * 3_600_000;
const DAY_MS = 24 * 3_600_000;

const ACCOUNT: Readonly<Record<keyof AccountOptions, Bound>> = {
  concurrency: { min: 1, max: 100_000 },
  ratePerSecond: { min: 0.001, max: 1_000_000, kind: "fraction" },
  burst: { min: 1, max: 1_000_000 },
  breakerFailures: { min: 1, max: 1_000_000, kind: "whole or Infinity" },
  breakerOpenMs: { min: 1, max: DAY_MS, unit: " of ms" },
  breakerOpenMsMax: { min: 1, max: DAY_MS, unit: " of ms" },
};

const RETRY: Readonly<Record<keyof RetryBudget, Bound>> = {
  budgetMs: { min: 1, max: YEAR_MS, unit: " of ms" },
  attemptsMax: { min: 1, max: 1_000_000 },
};

const BREAKER_OPEN_MS_DEFAULT = 1_000;
const BREAKER_OPEN_MS_MAX_DEFAULT = 30_000;

/** @param key where the channel stands, e.g. `channels[0]` */
export function problemsOfLaneTraits(channel: LaneTraits, key: string): ConfigError[] {
  const { account, retry, onAmbiguous, ackFirst, probe } = channel;
  const found = [
    ...problemsOfMembers(account, ACCOUNT, `${key}.account`),
    ...problemsOfMembers(retry, RETRY, `${key}.retry`),
  ];
  if (onAmbiguous !== undefined && !ON_AMBIGUOUS.includes(onAmbiguous)) {
    const what = `is ${shown(onAmbiguous)}, not one of ${ON_AMBIGUOUS.join(", ")}`;
    found.push(problem(`${key}.onAmbiguous`, what, "retry if its outside knows a key that it had before"));
  }
  if (ackFirst !== undefined && typeof ackFirst !== "boolean") {
    found.push(
      problem(`${key}.ackFirst`, `is ${shown(ackFirst)}`, "true for an outside that knows no keys, else leave it out"),
    );
  }
  if (probe !== undefined && typeof probe !== "function") {
    found.push(
      problem(`${key}.probe`, `is ${shown(probe)}, not a function`, "it asks the outside whether a reply arrived"),
    );
  } else if (onAmbiguous === "probe" && probe === undefined) {
    const hint = "write it; where the outside cannot be asked, set onAmbiguous to halt";
    found.push(problem(`${key}.probe`, "is missing, and onAmbiguous is probe", hint));
  }
  return found.length > 0 || account === undefined ? found : contradictionsOf(account, `${key}.account`);
}

function problemsOfMembers(given: unknown, bounds: Readonly<Record<string, Bound>>, key: string): ConfigError[] {
  if (given === undefined) return [];
  const names = Object.keys(bounds);
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    return [problem(key, `is ${shown(given)}, not an object`, `it has ${names.join(", ")}, each of them optional`)];
  }
  return Object.entries(given).flatMap(([name, value]) => {
    const bound = Object.hasOwn(bounds, name) ? bounds[name] : undefined;
    if (bound === undefined) return [unknownMember(name, names, key)];
    return value === undefined || isWithin(value, bound) ? [] : [outOfBounds(value, bound, `${key}.${name}`)];
  });
}

function unknownMember(name: string, names: readonly string[], key: string): ConfigError {
  const meant = nearest(name, names);
  return problem(
    `${key}.${name}`,
    "is unknown",
    meant === undefined ? `known are ${names.join(", ")}` : `did you mean ${meant}?`,
  );
}

function isWithin(value: unknown, { min, max, kind }: Bound): boolean {
  if (kind === "whole or Infinity" && value === Number.POSITIVE_INFINITY) return true;
  if (typeof value !== "number" || !(value >= min && value <= max)) return false;
  return kind === "fraction" || Number.isSafeInteger(value);
}

function outOfBounds(value: unknown, { min, max, unit = "", kind }: Bound, key: string): ConfigError {
  const what = kind === "fraction" ? "a number" : `a whole number${unit}`;
  const or = kind === "whole or Infinity" ? ", or Infinity" : "";
  return problem(
    key,
    `is ${shown(value)}, not ${what} from ${min} to ${max}${or}`,
    "see docs/channels.md for what it means",
  );
}

function contradictionsOf(account: AccountOptions, key: string): ConfigError[] {
  const { burst, ratePerSecond, breakerOpenMs: openMs = BREAKER_OPEN_MS_DEFAULT } = account;
  const openMsMax = account.breakerOpenMsMax ?? BREAKER_OPEN_MS_MAX_DEFAULT;
  const found: ConfigError[] = [];
  if (burst !== undefined && ratePerSecond === undefined) {
    found.push(problem(`${key}.burst`, "means nothing without ratePerSecond", "set that too, or remove it"));
  }
  if (openMsMax < openMs) {
    const what = `is ${openMsMax}, less than breakerOpenMs (${openMs}), which it is the most of`;
    found.push(problem(`${key}.breakerOpenMsMax`, what, "raise it or lower that"));
  }
  return found;
}
