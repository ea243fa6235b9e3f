// Client lines: the NDJSON logs of clients, sink and faults (docs/verify.md), checked field by field, so that a log in another
// format is an error with a line number and never a history without messages.

import { closeSync, openSync, readSync } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import { VerifyInputError } from "../errors.ts";
import type { ClientLine, Fault } from "./history.ts";

const CHUNK_BYTES = 1_048_576;
/** A line longer than this is no line of these formats, bytes. */
const LINE_BYTES_MAX = 16 * 1_048_576;

type Fields = Readonly<Record<string, unknown>>;

const isText = (value: unknown): boolean => typeof value === "string";
const isName = (value: unknown): boolean => typeof value === "string" && value !== "";
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isTime = (value: unknown): boolean => typeof value === "number" && Number.isFinite(value);
const isOneOf =
  (...words: readonly string[]) =>
  (value: unknown): boolean =>
    words.includes(value as string);
const isItems = (value: unknown): boolean =>
  Array.isArray(value) && value.every((item: Fields | null) => isName(item?.conversation) && isName(item?.id));
const orNone =
  (check: (value: unknown) => boolean) =>
  (value: unknown): boolean =>
    value === undefined || check(value);

const FORMATS: Readonly<Record<string, Readonly<Record<string, (value: unknown) => boolean>>>> = {
  message: {
    bot: isName,
    channel: orNone(isName),
    conversation: isName,
    id: isName,
    n: orNone(isCount),
    text: orNone(isText),
  },
  attempt: {
    bot: isName,
    channel: orNone(isName),
    request: isName,
    attempt: isCount,
    purpose: isOneOf("first", "repeat"),
    items: isItems,
    sentUs: isTime,
    endedUs: isTime,
    outcome: isOneOf("ack", "nack", "unknown"),
    status: isCount,
  },
  delivery: {
    bot: isName,
    channel: orNone(isName),
    key: isName,
    conversation: isName,
    sequence: isCount,
    inReplyTo: (value) => value === null || isText(value),
    text: orNone(isText),
    bodyHash: (value) => typeof value === "string" && /^[0-9a-f]{64}$/.test(value),
    bytes: orNone(isCount),
    receivedUs: isTime,
    answeredUs: isTime,
    status: isCount,
  },
  fault: { fault: isName, target: orNone(isText), atUs: isTime },
};

/** @throws VerifyInputError  it is none of the lines of docs/verify.md; the text says which field is wrong */
export function parseLine(text: string, where: string): ClientLine | Fault {
  let fields: Fields;
  try {
    fields = JSON.parse(text) as Fields;
  } catch {
    throw wrongLine(where, "it is not JSON");
  }
  const kind = typeof fields === "object" && fields !== null ? String(fields.kind) : "";
  const format = Object.hasOwn(FORMATS, kind) ? FORMATS[kind] : undefined;
  if (!format) throw wrongLine(where, `kind is none of ${Object.keys(FORMATS).join(", ")}`);
  for (const name in format) {
    if (!format[name]!(fields[name])) throw wrongLine(where, `${name} is missing or not what a ${kind} has there`);
  }
  const needsText = (kind === "message" || kind === "delivery") && fields.text === undefined;
  return (needsText ? { ...fields, text: "" } : fields) as unknown as ClientLine | Fault;
}

function wrongLine(where: string, what: string): VerifyInputError {
  return new VerifyInputError(`${where}: ${what}; nothing was verified (docs/verify.md has the formats)`);
}

/**
 * The lines of a log. One that has no end yet is left out: its writer was killed in the middle of it, or still writes.
 * @param onBytes called after each chunk with its length
 */
export function* readLines(
  path: string,
  onBytes: (bytes: number) => void = () => undefined,
): Iterable<{ readonly text: string; readonly where: string }> {
  const file = openSync(path, "r");
  const decoder = new StringDecoder("utf8");
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let rest = "";
  let number = 0;
  try {
    for (;;) {
      const length = readSync(file, chunk, 0, CHUNK_BYTES, null);
      if (length === 0) return;
      const lines = (rest + decoder.write(chunk.subarray(0, length))).split("\n");
      rest = lines.pop()!;
      if (rest.length > LINE_BYTES_MAX) throw wrongLine(`${path}:${number + lines.length + 1}`, "the line has no end");
      for (const text of lines) {
        number += 1;
        if (text.trim() !== "") yield { text, where: `${path}:${number}` };
      }
      onBytes(length);
    }
  } finally {
    closeSync(file);
  }
}
