// Log: one JSON object a line, with fixed names for what every line has. Ids, sizes, counts and codes only.
//
// Invariants
//   L1. No text of a message or reply, no body and no header is ever a field: nobody passes one, and what is passed is
//       reduced here to plain values of bounded length.
//   L2. Of an error only `name`, `code`, `message` and `cause` get out, the stack at level debug: clients of Redis hang
//       the arguments of the failed command on theirs.
//   L3. A line is written before its call returns, so the last line before a crash is there.

import { type DestinationStream, destination as fileDestination, type Logger, pino } from "pino";

export type LogLevel = "debug" | "info" | "warn" | "error" | "fatal" | "silent";

/** An error goes under `error`. The names `level`, `time`, `pid` and `message` are the line's own. */
export type LogFields = Readonly<Record<string, unknown>>;

/** What the core knows of logging. */
export interface Log {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  fatal(fields: LogFields, message: string): void;
  /** A log with these fields on each of its lines. */
  child(fields: LogFields): Log;
}

export interface LogOptions {
  readonly level: LogLevel;
  /** Where lines go; standard output by default. */
  readonly destination?: DestinationStream;
}

const STDOUT = 1;
const TEXT_LENGTH_MAX = 500;
const ITEMS_MAX = 50;
const DEPTH_MAX = 4;
const OWN_NAMES: ReadonlySet<string> = new Set(["level", "time", "pid", "message"]);

export function createLog({ level, destination }: LogOptions): Log {
  const logger = pino(
    {
      level,
      base: { pid: process.pid },
      messageKey: "message",
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination ?? fileDestination({ fd: STDOUT, sync: true }), // L3
  );
  return wrap(logger, level === "debug");
}

/** Says nothing. */
export const silentLog: Log = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  fatal() {},
  child: () => silentLog,
};

function wrap(logger: Logger, withStack: boolean): Log {
  const at =
    (level: Exclude<LogLevel, "silent">) =>
    (fields: LogFields, message: string): void => {
      if (logger.isLevelEnabled(level)) logger[level](plainFields(fields, withStack), message);
    };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    fatal: at("fatal"),
    child: (fields) => wrap(logger.child(plainFields(fields, withStack)), withStack),
  };
}

type PlainFields = Record<string, unknown>;

function plainFields(fields: LogFields, withStack: boolean): PlainFields {
  const plain: PlainFields = {};
  for (const [name, value] of Object.entries(fields)) {
    plain[OWN_NAMES.has(name) ? `${name}_` : name] =
      name === "error" ? errorFields(value, withStack, 0) : plainValue(value, withStack, 0);
  }
  return plain;
}

/** L1: what cannot hold a secret by accident; anything else is named by its kind. */
function plainValue(value: unknown, withStack: boolean, depth: number): unknown {
  switch (typeof value) {
    case "string":
      return cut(value);
    case "number":
    case "boolean":
    case "undefined":
      return value;
    case "bigint":
      return String(value);
    case "object":
      return value === null ? null : plainObject(value, withStack, depth);
    default:
      return `<${typeof value}>`;
  }
}

function plainObject(value: object, withStack: boolean, depth: number): unknown {
  if (value instanceof Error) return errorFields(value, withStack, depth);
  if (ArrayBuffer.isView(value)) return `<${value.byteLength} bytes>`;
  if (depth >= DEPTH_MAX) return "<deeper>";
  if (Array.isArray(value)) return value.slice(0, ITEMS_MAX).map((item) => plainValue(item, withStack, depth + 1));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return `<${prototype?.constructor?.name || "object"}>`;
  const members = Object.entries(value).slice(0, ITEMS_MAX);
  return Object.fromEntries(members.map(([name, member]) => [name, plainValue(member, withStack, depth + 1)]));
}

/** What may be logged, or shown, of whatever was thrown (L2). */
export function describeError(thrown: unknown): unknown {
  return errorFields(thrown, false, 0);
}

function errorFields(value: unknown, withStack: boolean, depth: number): unknown {
  if (!(value instanceof Error)) return plainValue(value, withStack, depth);
  const { name, message, stack, cause } = value;
  const { code } = value as { code?: unknown };
  return {
    name,
    ...(typeof code === "string" && { code: cut(code) }),
    message: cut(message),
    ...(withStack && { stack }),
    ...(cause !== undefined && depth < DEPTH_MAX && { cause: errorFields(cause, withStack, depth + 1) }),
  };
}

const cut = (text: string): string =>
  text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX).toWellFormed()}...` : text;
