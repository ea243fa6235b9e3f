// Order options: from what a channel's maker was given to the external order that it declares. Pure.

import { problem, refuse, shown } from "../config-problems.ts";
import type { ExternalOrder } from "../domain/external-order.ts";
import type { ConfigError } from "../errors.ts";

export type OrderMode = ExternalOrder["mode"];

export const ORDER_MODES = ["arrival", "contiguous", "monotonic"] as const satisfies readonly OrderMode[];

/** Members that are absent or undefined have the default of the mode. */
export interface OrderOptions {
  /** A mode, or the whole order; default `arrival`. */
  readonly order?: OrderMode | ExternalOrder | undefined;
  /** contiguous: how long the first message behind a gap waits for what is missing, ms from 1 to 7 days; default 3,000. */
  readonly gapTimeoutMs?: number | undefined;
  /**
   * contiguous: how long the first message of a conversation waits for lower ones, ms from 0 to 7 days; default 500.
   * monotonic: how long each message does; default 0.
   */
  readonly settleMs?: number | undefined;
  /** contiguous, monotonic: more messages than this are not held back, 1 to 100,000; default 64. */
  readonly maxHeld?: number | undefined;
  /** contiguous: of the first message of every conversation and every epoch; without it the lowest within `settleMs` begins. */
  readonly firstSequence?: number | undefined;
}

const WAIT_MAX_MS = 7 * 24 * 3_600_000;

interface Bound {
  readonly min: number;
  readonly max: number;
  readonly unit: string;
}

const BOUNDS: Readonly<Record<Exclude<keyof OrderOptions, "order">, Bound>> = {
  gapTimeoutMs: { min: 1, max: WAIT_MAX_MS, unit: " of ms" },
  settleMs: { min: 0, max: WAIT_MAX_MS, unit: " of ms" },
  maxHeld: { min: 1, max: 100_000, unit: "" },
  firstSequence: { min: 0, max: Number.MAX_SAFE_INTEGER, unit: "" },
};
type Name = keyof typeof BOUNDS;
const NAMES = Object.keys(BOUNDS) as readonly Name[];

/** What each mode takes. */
const TAKEN: Readonly<Record<OrderMode, readonly Name[]>> = {
  arrival: [],
  contiguous: NAMES,
  monotonic: ["settleMs", "maxHeld"],
};

/**
 * @param key where the options stand, e.g. `channels.http`
 * @throws ConfigError, or ConfigProblemsError for several, with keys like `channels.http.gapTimeoutMs`
 */
export function externalOrder(options: OrderOptions, key: string): ExternalOrder {
  const { order = "arrival" } = options;
  if (typeof order === "object" && order !== null) {
    refuse([...besides(options, key), ...problemsOfOrder(order, `${key}.order`)]);
    return order;
  }
  if (!isMode(order)) throw notAMode(order, `${key}.order`);
  refuse(NAMES.flatMap((name) => problemsOfOption(name, options[name], order, key)));
  const { gapTimeoutMs = 3_000, settleMs, maxHeld = 64, firstSequence = null } = options;
  switch (order) {
    case "arrival":
      return { mode: "arrival" };
    case "contiguous":
      return { mode: "contiguous", gapTimeoutMs, settleMs: settleMs ?? 500, maxHeld, firstSequence };
    case "monotonic":
      return { mode: "monotonic", settleMs: settleMs ?? 0, maxHeld };
  }
}

/** What keeps the order that a channel declares from being one; none if it is. */
export function problemsOfOrder(order: unknown, key: string): ConfigError[] {
  const { mode, ...members } = (order ?? {}) as Readonly<Record<string, unknown>>;
  if (!isMode(mode)) return [notAMode(mode, `${key}.mode`)];
  const taken = TAKEN[mode];
  const unknown = Object.keys(members)
    .filter((name) => !(taken as readonly string[]).includes(name))
    .map((name) => notTaken(name, mode, key));
  const wrong = taken
    .filter((name) => !(name === "firstSequence" && members[name] === null))
    .flatMap((name) => problemsOfNumber(name, members[name], `${key}.${name}`));
  return [...unknown, ...wrong];
}

const isMode = (value: unknown): value is OrderMode => (ORDER_MODES as readonly unknown[]).includes(value);

function notAMode(value: unknown, key: string): ConfigError {
  const hint = "arrival unless the numbers of messages say more than their arrival does";
  return problem(key, `is ${shown(value)}, not one of ${ORDER_MODES.join(", ")}`, hint);
}

/** A whole order brings its own members. */
function besides(options: OrderOptions, key: string): ConfigError[] {
  return NAMES.filter((name) => options[name] !== undefined).map((name) =>
    problem(`${key}.${name}`, "stands beside an order that is an object", "put it into that"),
  );
}

function problemsOfOption(name: Name, value: unknown, mode: OrderMode, key: string): ConfigError[] {
  if (value === undefined) return [];
  return TAKEN[mode].includes(name) ? problemsOfNumber(name, value, `${key}.${name}`) : [notTaken(name, mode, key)];
}

function notTaken(name: string, mode: OrderMode, key: string): ConfigError {
  const modes = ORDER_MODES.filter((each) => (TAKEN[each] as readonly string[]).includes(name));
  const hint = modes.length === 0 ? "remove it" : `remove it, or set order to ${modes.join(" or ")}`;
  return problem(`${key}.${name}`, `means nothing with the order ${mode}`, hint);
}

function problemsOfNumber(name: Name, value: unknown, key: string): ConfigError[] {
  const { min, max, unit } = BOUNDS[name];
  if (Number.isSafeInteger(value) && (value as number) >= min && (value as number) <= max) return [];
  const what = value === undefined ? "is missing; it must be" : `is ${shown(value)}, not`;
  return [problem(key, `${what} a whole number${unit} from ${min} to ${max}`, "see docs/order.md for what it means")];
}
