// Config: every bound, wait and place of the runtime, with its default and unit, in one schema.
//
// Invariants
//   G1. A flag or option beats the environment, which beats the default; each key has one variable, named after it.
//   G2. What is not understood is refused: an unknown key or COLLOQUY_ variable, a wrong type, a bound that another needs
//       to be larger. Nothing is corrected silently, and all problems are reported at once.
//   G3. A secret's value and a URL's password never stand in an error; secrets have no flag, since every process sees argv.
//
// The descriptions stand in error messages, and docs/config.md can be made from them.

import { isIP } from "node:net";
import { z } from "zod";
import { ORDER_MODES, type OrderOptions } from "./channels/order-options.ts";
import { nearest, problem, refuse, shown } from "./config-problems.ts";
import type { ConfigError } from "./errors.ts";
import { checkNamespace } from "./store/keys.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const SECOND_MS = 1_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What an inbox entry holds beside one message: frame, checksum, and three ids of at most 512 bytes. */
const ENTRY_OVERHEAD_BYTES = 4 * KIB;

/** Only these bytes of slack turn a bound into "as good as none"; more is a slip of the keyboard. */
const BYTES_CEILING = 1024 * GIB;

const HTTP_SECRET_BYTES_MIN = 16;
const ADMIN_TOKEN_BYTES_MIN = 32;

const whole = (unit: string, fallback: number, min: number, max: number, about: string) => {
  const error = `a whole number${unit} from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error }).default(fallback).describe(about);
};
const count = (fallback: number, min: number, max: number, about: string) => whole("", fallback, min, max, about);
const ms = (fallback: number, min: number, max: number, about: string) => whole(" of ms", fallback, min, max, about);
const bytes = (fallback: number, min: number, about: string) => whole(" of bytes", fallback, min, BYTES_CEILING, about);
const oneOf = <const Words extends readonly [string, ...string[]]>(
  words: Words,
  fallback: Words[number],
  about: string,
) =>
  z
    .enum(words, { error: `one of ${words.join(", ")}` })
    .default(fallback)
    .describe(about);
/** Of no use, or another default, in some settings of another key: what is not given stays undefined. */
const maybe = (number: z.ZodDefault<z.ZodInt>) => {
  const { description = "" } = number;
  return number.unwrap().optional().describe(description);
};
const text = (error: string, isUsable: (value: string) => boolean) => z.string({ error }).refine(isUsable, { error });

const RATE = "a number from 0.001 to 1000000";
const HOSTS = "host names or addresses without port, separated by commas";
const NO_HOSTS: readonly string[] = Object.freeze([]);

const schema = z.strictObject({
  // where
  port: count(4_000, 0, 65_535, "TCP port of webhooks, health and admin; 0 takes a free one"),
  host: text("a host name or IP address without port", isHost).default("127.0.0.1").describe("address to listen on"),
  allowedHosts: z
    .array(text(HOSTS, isHost), { error: HOSTS })
    .readonly()
    .default(NO_HOSTS)
    .describe("names under which pages, transcripts and /admin are asked besides the address, as behind a proxy"),
  dataDir: text("the path of a folder", isPath)
    .default(".data")
    .describe("folder of the node's id and of the embedded Redis"),
  redis: text("redis://host:port, rediss://host:port or a socket's absolute path", isRedis)
    .optional()
    .describe("the Redis to use; without it an embedded one runs in the data folder"),
  namespace: text("1 to 64 of A-Z a-z 0-9 . _ : -", isNamespace)
    .default("colloquy")
    .describe("prefix of all Redis keys"),
  logLevel: oneOf(["debug", "info", "warn", "error", "fatal", "silent"], "info", "least level that is logged"),

  // the http channel that `colloquy start` makes
  deliverTo: text("an http or https URL without user and password", isHttpUrl)
    .optional()
    .describe("where replies are posted; without it they are read from the transcript"),
  deliveryTimeoutMs: maybe(
    ms(
      10 * SECOND_MS,
      1,
      HOUR_MS,
      "with deliverTo: how long one attempt at posting a reply may take; 10000 if not set",
    ),
  ),
  deliveryConcurrency: maybe(
    count(
      128,
      1,
      100_000,
      "with deliverTo: attempts under way at once, each on a connection of its own; 128 if not set",
    ),
  ),
  deliveryRatePerSecond: z
    .number({ error: RATE })
    .min(0.001, { error: RATE })
    .max(1_000_000, { error: RATE })
    .optional()
    .describe("with deliverTo: attempts begun per second on average; any number if not set"),
  deliveryBurst: maybe(
    count(1, 1, 1_000_000, "with a rate: attempts that may begin at once after a quiet time; one second's if not set"),
  ),
  deliveryBreakerFailures: maybe(
    count(
      20,
      0,
      1_000_000,
      "with deliverTo: failed attempts in a row, of whatever conversations, after which only a probe is sent; 20 if not set, 0 for never",
    ),
  ),
  deliveryBreakerOpenMs: maybe(
    ms(SECOND_MS, 1, DAY_MS, "with deliverTo: pause before the first probe; 1000 if not set"),
  ),
  deliveryBreakerOpenMsMax: maybe(
    ms(30 * SECOND_MS, 1, DAY_MS, "with deliverTo: what that doubles to while probes fail; 30000 if not set"),
  ),
  order: oneOf(ORDER_MODES, "arrival", "what decides the order of a conversation's messages"),
  gapTimeoutMs: maybe(
    ms(3 * SECOND_MS, 1, 7 * DAY_MS, "order contiguous: how long a gap is waited for; 3000 if not set"),
  ),
  settleMs: maybe(
    ms(
      0,
      0,
      7 * DAY_MS,
      "how long lower numbers are waited for: contiguous, at first, 500 if not set; monotonic, always, 0",
    ),
  ),
  maxHeld: maybe(count(64, 1, 100_000, "order contiguous and monotonic: messages held back at most; 64 if not set")),
  firstSequence: maybe(
    count(
      1,
      0,
      Number.MAX_SAFE_INTEGER,
      "order contiguous: number of the first message; the lowest that comes if not set",
    ),
  ),
  httpSecret: text(`a secret of at least ${HTTP_SECRET_BYTES_MIN} bytes`, isSecretOf(HTTP_SECRET_BYTES_MIN))
    .optional()
    .describe("key of the signature that webhook requests then need, e.g. from: openssl rand -hex 32"),
  adminToken: text(`a token of at least ${ADMIN_TOKEN_BYTES_MIN} bytes`, isSecretOf(ADMIN_TOKEN_BYTES_MIN))
    .optional()
    .describe("bearer token of /admin and /metrics for others than this machine, e.g. from: openssl rand -hex 32"),

  // ownership and durability
  shards: count(1, 1, 256, "units of ownership and commit; fixed when a namespace is first used"),
  durability: oneOf(
    ["always", "everysec", "none", "assumed"],
    "always",
    "the least that Redis must promise; less than always can lose what was answered 2xx",
  ),
  leaseTtlMs: ms(5_000, SECOND_MS, 60_000, "how long a silent node keeps its shards"),
  redisMemoryRatioMax: z
    .number({ error: "a number from 0.1 to 0.95" })
    .min(0.1, { error: "a number from 0.1 to 0.95" })
    .max(0.95, { error: "a number from 0.1 to 0.95" })
    .default(0.75)
    .describe("share of maxmemory above which nothing is admitted"),

  // time
  ackDelayMs: ms(20, 0, 10_000, "how long an acknowledgement waits for a commit to ride in"),
  drainMs: ms(10 * SECOND_MS, 0, 10 * 60_000, "how long a stop may take"),
  dedupeMs: ms(600_000, SECOND_MS, 30 * DAY_MS, "how long a repeat of a message id is recognised"),
  transcriptMs: ms(30 * DAY_MS, 60_000, 3_650 * DAY_MS, "how long a transcript is kept after its last line"),
  drainSliceMs: ms(5, 1, SECOND_MS, "longest time one conversation keeps the thread before others have their turn"),
  spillMs: ms(
    2 * SECOND_MS,
    1,
    10 * 60_000,
    "how long a message may wait in the inbox before it is moved to its conversation's own list",
  ),
  watchdogMs: ms(
    10 * SECOND_MS,
    0,
    HOUR_MS,
    "CPU time that one handler may keep the thread before the process is ended; 0 for ever",
  ),

  // the port
  headerBytesMax: bytes(16 * KIB, 4 * KIB, "path and headers of one request; over it 431"),
  connectionsMax: count(10_000, 16, 1_000_000, "connections open at once; further ones are cut"),
  requestTimeoutMs: ms(15 * SECOND_MS, SECOND_MS, 10 * 60_000, "how long a request may take to arrive; over it 408"),
  connectionTimeoutMs: ms(60 * SECOND_MS, SECOND_MS, HOUR_MS, "how long a connection may stand still amid an answer"),
  keepAliveTimeoutMs: ms(
    72 * SECOND_MS,
    SECOND_MS,
    HOUR_MS,
    "how long an idle connection is kept; longer than a load balancer in front keeps it",
  ),
  admitTimeoutMs: ms(10 * SECOND_MS, 100, 10 * 60_000, "how long a webhook waits to be stored; over it 503"),
  eventStreamsMax: count(1_000, 1, 1_000_000, "event streams open at once; over it 503"),
  eventStreamPollMs: ms(1_500, 100, 60_000, "how often an event stream looks for lines that other nodes committed"),
  eventStreamHeartbeatMs: ms(15 * SECOND_MS, SECOND_MS, 10 * 60_000, "pause between comments on a silent event stream"),
  eventStreamStallMs: ms(30 * SECOND_MS, SECOND_MS, 10 * 60_000, "how long a client may leave an event stream unread"),

  // admission
  requestMessagesMax: count(1_000, 1, 10_000, "messages of one webhook request"),
  requestBytesMax: bytes(1 * MIB, KIB, "body of one webhook request"),
  messageBytesMax: bytes(256 * KIB, KIB, "one message"),
  entryBytesMax: bytes(1 * MIB, 8 * KIB, "one entry of the inbox: the messages of one flush"),
  inboxBytesMax: bytes(64 * MIB, 8 * KIB, "the inbox of one shard; over it webhooks answer 503"),
  admissionBytesMax: bytes(16 * MIB, 8 * KIB, "what waits in memory to be appended, per shard; over it 503"),

  // conversations
  mailboxMax: count(1_024, 1, 1_000_000, "messages of one conversation that wait in memory; more go to its list"),
  mailboxBytesMax: bytes(1 * MIB, 8 * KIB, "the same in bytes"),
  waitingMax: count(1_000, 2, 1_000_000, "messages on one conversation's waiting list; at it webhooks answer 429"),
  waitingBytesMax: bytes(4 * MIB, 8 * KIB, "the same in bytes"),
  suspectGroupMax: count(
    64,
    1,
    1_024,
    "conversations that run together after the process ended twice, to find the one that ends it",
  ),
  dedupeMax: count(4_096, 1, 1_000_000, "message ids remembered per conversation"),
  readAheadBytesMax: bytes(16 * MIB, 8 * KIB, "inbox entries in memory per shard; over it the reader waits"),
  runningTurnsMax: count(1_024, 1, 1_000_000, "handlers that run at once in this process"),
  drainTurnsMax: count(64, 1, 100_000, "turns of one conversation before others have theirs"),
  residentsMax: count(100_000, 1, 10_000_000, "conversations in memory"),
  residentBytesMax: bytes(512 * MIB, MIB, "states of the conversations in memory"),
  stateBytesMax: bytes(1 * MIB, KIB, "one conversation's state"),
  stepsMax: count(100, 1, 10_000, "steps of one turn"),
  journalBytesMax: bytes(256 * KIB, KIB, "results of the steps of one turn together"),
  sendsMax: count(100, 1, 10_000, "messages that one turn sends to other conversations"),
  hopsMax: count(32, 1, 1_000, "sends that may follow from one another; one more becomes a dead letter"),

  // commit
  uncommittedTurnsMax: count(256, 1, 100_000, "turns of one conversation that wait for their commit"),
  uncommittedBytesMax: bytes(1 * MIB, KIB, "the same in bytes"),
  commitKeysMax: count(4_000, 4, 4_000, "Redis keys of one commit; more than 8,000 values crash Lua's unpack"),
  commitBytesMax: bytes(4 * MIB, 64 * KIB, "one commit"),

  // replies
  replyBytesMax: bytes(64 * KIB, 64, "one reply"),
  repliesMax: count(100, 1, 10_000, "replies of one turn"),
  turnReplyBytesMax: bytes(1 * MIB, 64, "replies of one turn together"),
  laneBacklogMax: count(1_000, 1, 1_000_000, "undelivered replies of one conversation; at it the conversation pauses"),
  laneBacklogBytesMax: bytes(4 * MIB, 64, "the same in bytes"),
  deliveryBudgetMs: ms(
    259_200_000,
    1_000,
    31_536_000_000,
    "for how long a reply is tried, from its first failure; then its lane halts, or it becomes a dead letter",
  ),
  laneSweepMs: ms(1_000, 0, 600_000, "how often lanes whose wake-up was lost are looked for; 0: never"),
  outboxBytesMax: bytes(64 * MIB, 64 * KIB, "undelivered replies of one shard"),
  deadLettersMax: count(
    100_000,
    1,
    10_000_000,
    "dead letters of one shard; at it nothing more becomes one: its lane halts",
  ),
  deadLetterBytesMax: bytes(256 * MIB, 64 * KIB, "the same in bytes"),
  transcriptLinesMax: count(200, 1, 100_000, "newest lines kept of a conversation's transcript"),
  transcriptBytesMax: bytes(256 * KIB, KIB, "the same in bytes"),
});

export type Config = Readonly<z.output<typeof schema>>;
export type ConfigKey = keyof Config;
/** Settings of the http channel that `colloquy start` makes; code gives them to `httpChannel` itself. */
export type HttpKey = "deliverTo" | "order" | "httpSecret" | keyof OrderOptions | PostingKey;
type PostingKey =
  | "deliveryTimeoutMs"
  | "deliveryConcurrency"
  | "deliveryRatePerSecond"
  | "deliveryBurst"
  | "deliveryBreakerFailures"
  | "deliveryBreakerOpenMs"
  | "deliveryBreakerOpenMsMax";
/** Options as code gives them: any of the other keys; undefined means not given. */
export type ConfigOptions = { readonly [Key in Exclude<ConfigKey, HttpKey>]?: Config[Key] | undefined };
/** Values as texts, by key: what a command line gives. */
export type ConfigFlags = { readonly [Key in ConfigKey]?: string | undefined };
export type EnvironmentVariables = Readonly<Record<string, string | undefined>>;

export const CONFIG_KEYS = Object.keys(schema.shape) as readonly ConfigKey[];
const DEFAULTS: Config = schema.parse({});
const NUMBERS: ReadonlySet<ConfigKey> = new Set(
  CONFIG_KEYS.filter((key) => {
    const { def } = schema.shape[key];
    return (def.type === "default" || def.type === "optional") && def.innerType.def.type === "number";
  }),
);
const SECRETS: ReadonlySet<ConfigKey> = new Set(["httpSecret", "adminToken"]);
const HTTP_OPTIONS: Readonly<Record<HttpKey, string>> = {
  deliverTo: "deliverTo",
  deliveryTimeoutMs: "timeoutMs",
  deliveryConcurrency: "connections",
  deliveryRatePerSecond: "account: { ratePerSecond }",
  deliveryBurst: "account: { burst }",
  deliveryBreakerFailures: "account: { breakerFailures }",
  deliveryBreakerOpenMs: "account: { breakerOpenMs }",
  deliveryBreakerOpenMsMax: "account: { breakerOpenMsMax }",
  order: "order",
  gapTimeoutMs: "gapTimeoutMs",
  settleMs: "settleMs",
  maxHeld: "maxHeld",
  firstSequence: "firstSequence",
  httpSecret: "secret",
};
/** Options of createApp that are no part of Config: known when a slip of the keyboard looks for its neighbour. */
const APP_OPTIONS = ["bots", "channels", "children"];

const PREFIX = "COLLOQUY_";
/** Not settings: what the project's own tests read, and what Kubernetes sets for a Service named colloquy. */
const NOT_SETTINGS = /^COLLOQUY_(?:COUNTS_FILE|SEED|TEST_.*|SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT_\d+_.*)$/;

/** The option in code that sets a key: of createApp, or of the http channel that the app is given. */
export function optionOf(key: ConfigKey): string {
  return isHttpKey(key) ? `httpChannel({ ${HTTP_OPTIONS[key]} })` : key;
}

/** The environment variable of a key: `leaseTtlMs` is COLLOQUY_LEASE_TTL_MS; only `redis` has the name that everybody uses. */
export function variableOf(key: ConfigKey): string {
  return key === "redis" ? "REDIS_URL" : PREFIX + key.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

/** A URL for messages and banners: without user, password and query, which may hold one too. */
export function withoutPassword(url: string): string {
  return url.replace(/\/\/.*@/s, "//***@").replace(/\?.*/s, "?***");
}

/** What a key means, for help texts: its description, default and variable. */
export function helpOf(key: ConfigKey): string {
  const fallback = DEFAULTS[key];
  return `${schema.shape[key].description} (${hasDefault(fallback) ? `default ${fallback}, ` : ""}${variableOf(key)})`;
}

const hasDefault = (value: unknown): boolean => value !== undefined && String(value) !== "";

/**
 * The one way to a Config (G1, G2).
 * @param options     values of their own type, as code gives them
 * @param environment variables; what does not begin with COLLOQUY_, except REDIS_URL, is not looked at
 * @param flags       texts by key; they beat both
 * @throws ConfigError one problem; ConfigProblemsError several
 */
export function resolveConfig(
  options: ConfigOptions,
  environment: EnvironmentVariables = {},
  flags: ConfigFlags = {},
): Config {
  const problems = [...unknownOptions(options), ...unknownVariables(environment)];
  const given = new Map<ConfigKey, Given>();
  for (const key of CONFIG_KEYS) {
    const value = giving(key, options, environment, flags);
    if (value) given.set(key, value);
  }
  const parsed = schema.safeParse(Object.fromEntries([...given].map(([key, { value }]) => [key, value])));
  if (parsed.success) problems.push(...tooSmall(parsed.data));
  else problems.push(...unusable(parsed.error, given));
  refuse(problems);
  return Object.freeze({ ...parsed.data!, allowedHosts: parsed.data!.allowedHosts.map((name) => name.toLowerCase()) });
}

interface Given {
  readonly value: unknown;
  /** The flag or variable that it came from; empty for an option. */
  readonly from: string;
}

function giving(
  key: ConfigKey,
  options: ConfigOptions,
  environment: EnvironmentVariables,
  flags: ConfigFlags,
): Given | undefined {
  const flag = flags[key];
  if (flag !== undefined) return { value: fromText(key, flag), from: flagOf(key) ?? key };
  const option = (options as Readonly<Record<string, unknown>>)[key];
  if (option !== undefined) return { value: option, from: "" };
  const variable = variableOf(key);
  const inherited = environment[variable];
  return inherited === undefined ? undefined : { value: fromText(key, inherited), from: variable };
}

/** A list is separated by commas; an empty text is none, so that it is refused. */
function listFromText(value: string): unknown {
  return value === "" ? value : value.split(",").map((item) => item.trim());
}

/** What is no plain decimal number stays a text, which the schema then refuses with the right words. */
function fromText(key: ConfigKey, value: string): unknown {
  if (Array.isArray(DEFAULTS[key])) return listFromText(value);
  return NUMBERS.has(key) && /^-?\d{1,16}(?:\.\d{1,16})?$/.test(value) ? Number(value) : value;
}

/** The flag of `colloquy start` that sets a key; secrets have none (G3). */
export function flagOf(key: ConfigKey): string | undefined {
  if (SECRETS.has(key)) return undefined;
  return key === "dataDir" ? "--data" : `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function unknownOptions(options: object): ConfigError[] {
  return Object.keys(options)
    .filter((name) => !Object.hasOwn(schema.shape, name) || isHttpKey(name))
    .map((name) =>
      isHttpKey(name)
        ? problem(name, "is an option of the http channel", `channels: [httpChannel({ ${HTTP_OPTIONS[name]} })]`)
        : problem(name, "is not an option", suggestion(nearest(name, [...CONFIG_KEYS, ...APP_OPTIONS]))),
    );
}

const isHttpKey = (name: string): name is HttpKey => Object.hasOwn(HTTP_OPTIONS, name);

function unknownVariables(environment: EnvironmentVariables): ConfigError[] {
  const variables = CONFIG_KEYS.map(variableOf);
  const known = new Set(variables);
  const bare = new Map(variables.map((name) => [name.replace(PREFIX, ""), name]));
  return Object.keys(environment)
    .filter((name) => name.startsWith(PREFIX) && environment[name] !== undefined)
    .filter((name) => !known.has(name) && !NOT_SETTINGS.test(name))
    .sort()
    .map((name) => {
      const close = nearest(name.slice(PREFIX.length), [...bare.keys()]);
      return problem(name, "is not a setting", suggestion(close && bare.get(close)));
    });
}

const suggestion = (close: string | undefined): string => (close ? `did you mean ${close}?` : "remove it");

function unusable(error: z.ZodError, given: ReadonlyMap<ConfigKey, Given>): ConfigError[] {
  const first = new Map<ConfigKey, string>();
  for (const issue of error.issues) {
    const key = issue.path[0] as ConfigKey | undefined; // unknown keys never reach the schema
    if (key !== undefined && !first.has(key)) first.set(key, issue.message);
  }
  return [...first].map(([key, expected]) => {
    const { value, from } = given.get(key)!;
    return problem(key, `${from ? `${from} ` : ""}is ${shownOf(key, value)}, not ${expected}`, hintOf(key, value));
  });
}

/** G3: a secret is told by its length. */
function shownOf(key: ConfigKey, value: unknown): string {
  if (typeof value !== "string") return shown(value);
  if (value === "") return "empty";
  if (SECRETS.has(key)) return `a text of ${Buffer.byteLength(value)} bytes`;
  return shown(key === "redis" || key === "deliverTo" ? withoutPassword(value) : value);
}

function hintOf(key: ConfigKey, value: unknown): string {
  if (key === "port" && typeof value === "string" && /^(?:tcp|udp):\/\//.test(value)) {
    return "Kubernetes sets this variable for a Service named colloquy; give the pod enableServiceLinks: false";
  }
  const fallback = DEFAULTS[key];
  return `${schema.shape[key].description}${hasDefault(fallback) ? `; default ${fallback}` : ""}`;
}

/** What must fit into what, so that the largest legal thing can always move on: a bound that cannot hold one jams for ever. */
const FITS: readonly { readonly into: ConfigKey; readonly what: string; size(config: Config): number }[] = [
  { into: "requestBytesMax", what: "messageBytesMax", size: (c) => c.messageBytesMax },
  {
    into: "entryBytesMax",
    what: `messageBytesMax + ${ENTRY_OVERHEAD_BYTES} for its ids and frame`,
    size: (c) => c.messageBytesMax + ENTRY_OVERHEAD_BYTES,
  },
  { into: "admissionBytesMax", what: "4 * requestBytesMax", size: (c) => c.requestBytesMax * 4 },
  { into: "admissionBytesMax", what: "entryBytesMax", size: (c) => c.entryBytesMax },
  { into: "inboxBytesMax", what: "entryBytesMax", size: (c) => c.entryBytesMax },
  { into: "readAheadBytesMax", what: "entryBytesMax", size: (c) => c.entryBytesMax },
  ...(["mailboxBytesMax", "waitingBytesMax"] as const).map((into) => ({
    into,
    what: `messageBytesMax + ${ENTRY_OVERHEAD_BYTES} for its ids and frame`,
    size: (c: Config) => c.messageBytesMax + ENTRY_OVERHEAD_BYTES,
  })),
  { into: "residentBytesMax", what: "stateBytesMax", size: (c) => c.stateBytesMax },
  { into: "turnReplyBytesMax", what: "replyBytesMax", size: (c) => c.replyBytesMax },
  {
    into: "commitBytesMax",
    what: "stateBytesMax + journalBytesMax + messageBytesMax + the larger of uncommittedBytesMax and turnReplyBytesMax",
    size: (c) =>
      c.stateBytesMax + c.journalBytesMax + c.messageBytesMax + Math.max(c.uncommittedBytesMax, c.turnReplyBytesMax),
  },
  { into: "laneBacklogMax", what: "repliesMax", size: (c) => c.repliesMax },
  { into: "laneBacklogBytesMax", what: "turnReplyBytesMax", size: (c) => c.turnReplyBytesMax },
  { into: "outboxBytesMax", what: "commitBytesMax", size: (c) => c.commitBytesMax },
  { into: "transcriptBytesMax", what: "replyBytesMax", size: (c) => c.replyBytesMax },
  { into: "connectionTimeoutMs", what: "2 x eventStreamHeartbeatMs", size: (c) => 2 * c.eventStreamHeartbeatMs },
  { into: "connectionTimeoutMs", what: "admitTimeoutMs", size: (c) => c.admitTimeoutMs },
  { into: "connectionsMax", what: "eventStreamsMax + 1", size: (c) => c.eventStreamsMax + 1 },
  { into: "leaseTtlMs", what: "3 x ackDelayMs", size: (c) => 3 * c.ackDelayMs },
  { into: "leaseTtlMs", what: "3 x drainSliceMs", size: (c) => 3 * c.drainSliceMs },
];

function tooSmall(config: Config): ConfigError[] {
  return FITS.filter(({ into, size }) => Number(config[into]) < size(config)).map(({ into, what, size }) =>
    problem(into, `is ${config[into]}, less than ${what} (${size(config)})`, "raise the first or lower the others"),
  );
}

function isHost(value: string): boolean {
  return isIP(value) !== 0 || /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$/.test(value);
}

function isPath(value: string): boolean {
  return value !== "" && !value.includes("\0");
}

function isRedis(value: string): boolean {
  if (value.startsWith("/")) return isPath(value);
  if (!URL.canParse(value)) return false;
  const { protocol, hostname } = new URL(value);
  return (protocol === "redis:" || protocol === "rediss:") && hostname !== "";
}

function isHttpUrl(value: string): boolean {
  if (!URL.canParse(value)) return false;
  const { protocol, username, password } = new URL(value);
  return (protocol === "http:" || protocol === "https:") && username === "" && password === "";
}

function isNamespace(value: string): boolean {
  try {
    return checkNamespace(value) === value;
  } catch {
    return false;
  }
}

function isSecretOf(bytesMin: number): (value: string) => boolean {
  return (value) => Buffer.byteLength(value) >= bytesMin;
}
