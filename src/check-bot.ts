// Check bot: the door by which a bot comes in. What passed is a bot definition in every member; a slip in one is found at
// start-up and not in the first message that needs it.

import { z } from "zod";
import { nearest, problem, refuse, shown } from "./config-problems.ts";
import type { BotDefinition } from "./domain/bot.ts";
import { NAME_PATTERN } from "./domain/ids.ts";
import type { ConfigError } from "./errors.ts";

const DAY_MS = 24 * 3_600_000;
const TEN_YEARS_MS = 3_650 * DAY_MS;

const whole = (unit: string, min: number, max: number) => {
  const error = `a whole number${unit} from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
};
const ms = (min: number, max: number) => whole(" of ms", min, max).optional();
const handler = z.custom<unknown>((value) => typeof value === "function", { error: "a function" });
const NAME = { error: 'a text of lower case letters, digits and "-", beginning with a letter, at most 64' };
const MIGRATE = { error: "an object of functions, by the version each one starts from" };

const notices = z.strictObject(
  { gap: handler.optional(), poisoned: handler.optional(), deliveryFailed: handler.optional() },
  { error: "an object of functions" },
);

const definition = z.strictObject(
  {
    name: z.string(NAME).regex(NAME_PATTERN, NAME),
    version: whole("", 1, Number.MAX_SAFE_INTEGER),
    initialState: handler,
    migrate: z.record(z.string().regex(/^[1-9]\d{0,15}$/, MIGRATE), handler, MIGRATE).optional(),
    onMessage: handler,
    onTimer: z.record(z.string(), handler, { error: "an object of functions, by the name of the timer" }).optional(),
    onNotice: notices.optional(),
    ordering: z.enum(["strict", "available"], { error: '"strict" or "available"' }).optional(),
    maxAttempts: whole("", 1, 1_000_000).optional(),
    poisonMinMs: ms(0, TEN_YEARS_MS),
    handlerTimeoutMs: ms(1, DAY_MS),
    idleTimeoutMs: ms(1, TEN_YEARS_MS),
    retentionMs: ms(1, TEN_YEARS_MS),
    dedupeMs: ms(1_000, 30 * DAY_MS),
  },
  { error: "a bot" },
);

const HINTS: Readonly<Record<string, string>> = {
  name: 'it stands in URLs and keys, e.g. "order-desk"',
  version: "start with 1 and raise it when the shape of the state changes",
  initialState: "initialState: () => ({ ... })",
  onMessage: "onMessage(state, message, ctx) { ...; return state; }",
  migrate: "migrate[n] makes a state of version n + 1 from one of version n",
};
const WHOLE_HINT = "pass what defineBot({ name, version, initialState, onMessage }) returned";
const OTHER_HINT = "see BotDefinition for what it means, or leave it out";

/**
 * @param bot what should be a bot; it is returned as it is
 * @param key its place in what was given, e.g. `bots[0]`
 * @throws ConfigError, or ConfigProblemsError for several, with keys like `bots[0].version`
 */
export function checkBot(bot: unknown, key: string): BotDefinition {
  refuse(problemsOfBot(bot, key));
  return bot as BotDefinition; // the only place where a bot's own type of state is forgotten
}

/**
 * @param bots what should be a list of bots, none named like another
 * @throws ConfigError, or ConfigProblemsError for several
 */
export function checkBots(bots: unknown, key: string = "bots"): readonly BotDefinition[] {
  if (!Array.isArray(bots)) throw problem(key, `is ${shown(bots)}, not a list of bots`, `${key}: [bot]`);
  if (bots.length === 0) throw problem(key, "is empty", "give at least one bot");
  refuse(bots.flatMap((bot, i) => problemsOfBot(bot, `${key}[${i}]`)));
  const checked = bots as readonly BotDefinition[];
  refuse(namesakes(checked, key));
  return checked;
}

function problemsOfBot(bot: unknown, key: string): ConfigError[] {
  const parsed = definition.safeParse(bot);
  const found = parsed.success ? [] : parsed.error.issues.flatMap((issue) => problemsOfIssue(issue, bot, key));
  if (found.length === 0) return missingSteps(bot as BotDefinition, key);
  return found.filter((each, i) => found.findIndex((other) => other.key === each.key) === i); // one line for each member
}

function problemsOfIssue(issue: z.core.$ZodIssue, bot: unknown, key: string): ConfigError[] {
  const path = issue.path.map((part) => part.toString());
  if (issue.code === "unrecognized_keys") {
    const known = path.length === 0 ? Object.keys(definition.shape) : Object.keys(notices.shape);
    return issue.keys.map((name) => {
      const close = nearest(name, known);
      return problem(
        at(key, [...path, name]),
        "is not a member of a bot",
        close ? `did you mean ${close}?` : "remove it",
      );
    });
  }
  const value = path.reduce<unknown>((whole, name) => (whole as Record<string, unknown> | undefined)?.[name], bot);
  const expected = issue.code === "invalid_key" ? MIGRATE.error : issue.message;
  const what = value === undefined ? `is missing; it must be ${expected}` : `is ${shown(value)}, not ${expected}`;
  return [problem(at(key, path), what, path[0] === undefined ? WHOLE_HINT : (HINTS[path[0]] ?? OTHER_HINT))];
}

const at = (key: string, path: readonly string[]): string =>
  path.reduce((place, name) => (/^[a-z_$][\w$]*$/i.test(name) ? `${place}.${name}` : `${place}[${name}]`), key);

/** Steps lead without a hole from the oldest version they name to this one. None at all: nothing older is kept anywhere. */
function missingSteps({ migrate, version }: BotDefinition, key: string): ConfigError[] {
  const steps = Object.keys(migrate ?? {}).map(Number);
  if (steps.length === 0) return [];
  const beyond = steps.filter((from) => from >= version);
  if (beyond.length > 0) {
    return beyond.map((from) =>
      problem(
        `${key}.migrate[${from}]`,
        `starts from version ${from}, but the bot is version ${version}`,
        `raise version, or remove it`,
      ),
    );
  }
  const known = new Set(steps);
  const oldest = Math.min(...steps);
  for (let from = oldest + 1; from < version; from += 1) {
    if (known.has(from)) continue;
    const hint = `${HINTS.migrate}; (old) => old if nothing changed`;
    return [problem(`${key}.migrate[${from}]`, `is missing between version ${oldest} and ${version}`, hint)];
  }
  return [];
}

function namesakes(bots: readonly BotDefinition[], key: string): ConfigError[] {
  return bots.flatMap(({ name }, i) => {
    const earlier = bots.findIndex((bot) => bot.name === name);
    if (earlier === i) return [];
    return [
      problem(`${key}[${i}].name`, `is ${shown(name)}, as that of ${key}[${earlier}]`, "give each bot its own name"),
    ];
  });
}
