// AOF folder: the multi-part append-only file of Redis 7 as transactions, in order. It reads only, also beside a running Redis.
//
// Invariants
//   A1. Files are read as the manifest orders them. A torn end is the newest file's alone: what Redis itself would cut off.
//   A2. Commands between MULTI and EXEC are one transaction, and none at all without the EXEC.
//   A3. One chunk is in memory, and what of the next command has been read.

import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { VerifyInputError } from "../errors.ts";
import { type Command, RespReader } from "./resp.ts";
import type { Transaction } from "./store-log.ts";

const CHUNK_BYTES = 8 * 1_024 * 1_024;
const FOLDER = "appendonlydir";

export interface AofFolder {
  readonly path: string;
  readonly files: readonly string[];
  readonly bytes: number;
  /** Whether the base file holds no key, so that the rest tells everything. */
  readonly isWhole: boolean;
}

/**
 * The append-only file in `folder` or in a folder directly in it.
 * @returns undefined if there is none
 * @throws VerifyInputError  there are several, or the manifest names what is not there
 */
export function findAof(folder: string): AofFolder | undefined {
  const inside = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const places = [folder, ...inside.map(({ name }) => join(folder, name))];
  if (basename(folder) === FOLDER) return openAof(folder);
  const found = places.map((place) => join(place, FOLDER)).filter((place) => existsSync(place));
  if (found.length > 1) {
    throw new VerifyInputError(
      `${folder} holds ${found.length} append-only files (${found.join(", ")}); verify one run at a time, each in a folder of its own`,
    );
  }
  return found[0] === undefined ? undefined : openAof(found[0]);
}

function openAof(path: string): AofFolder {
  const manifest = readdirSync(path).find((name) => name.endsWith(".manifest"));
  if (manifest === undefined) throw new VerifyInputError(`${path} has no manifest; copy the folder once more, whole`);
  const parts = readFileSync(join(path, manifest), "utf8").split("\n").flatMap(partOf);
  const files = [
    ...parts.filter(({ type }) => type === "b"),
    ...parts.filter(({ type }) => type === "i").sort((a, b) => a.seq - b.seq),
  ];
  const missing = files.find(({ file }) => !existsSync(join(path, file)));
  if (missing) {
    throw new VerifyInputError(
      `${path} lacks ${missing.file}, which its manifest names; copy the folder once more, whole`,
    );
  }
  const names = files.map(({ file }) => join(path, file));
  const isBinary = names.map(beginsAsRdb);
  return {
    path,
    files: names.filter((_name, i) => !isBinary[i]),
    bytes: names.reduce((sum, name) => sum + statSync(name).size, 0),
    isWhole: names.every((name, i) => !isBinary[i] || isEmptyRdb(readFileSync(name).subarray(0, RDB_HEAD_BYTES))),
  };
}

/** `file <name> seq <n> type <b|i|h>`; a name with spaces is quoted. Files of type h are no longer part of it. */
function partOf(line: string): { file: string; seq: number; type: string }[] {
  const match = /^file (?:"([^"]+)"|(\S+)) seq (\d+) type ([bih])/.exec(line.trim());
  return match ? [{ file: match[1] ?? match[2]!, seq: Number(match[3]), type: match[4]! }] : [];
}

const RDB_HEAD_BYTES = 4_096;
const RDB_AUX = 0xfa;
const RDB_END = 0xff;
const RDB_FUNCTION = 0xf5;

function beginsAsRdb(name: string): boolean {
  const head = Buffer.alloc(5);
  const file = openSync(name, "r");
  readSync(file, head, 0, head.length, 0);
  closeSync(file);
  return head.toString("latin1") === "REDIS";
}

/** Nothing but fields about the server before the end: exported for tests. */
export function isEmptyRdb(head: Buffer): boolean {
  let at = 9; // "REDIS" and four digits of a version
  while (head[at] === RDB_AUX || head[at] === RDB_FUNCTION) {
    const strings = head[at] === RDB_AUX ? 2 : 1;
    at += 1;
    for (let i = 0; i < strings; i += 1) at = afterRdbString(head, at);
  }
  return head[at] === RDB_END;
}

function afterRdbString(bytes: Buffer, at: number): number {
  const first = bytes[at] ?? 0;
  const kind = first >> 6;
  if (kind === 0) return at + 1 + (first & 0x3f);
  if (kind === 1) return at + 2 + (((first & 0x3f) << 8) | (bytes[at + 1] ?? 0));
  if (kind === 2) return at + 5 + (at + 5 <= bytes.length ? bytes.readUInt32BE(at + 1) : 0);
  return at + 1 + (first === 0xc0 ? 1 : first === 0xc1 ? 2 : 4); // a number of 8, 16 or 32 bits
}

/**
 * @param onBytes called after each chunk with how much of it was read so far
 * @throws VerifyInputError  a file is damaged; a torn end of the newest is not damage
 */
export function* readAof(aof: AofFolder, onBytes: (bytes: number) => void = () => undefined): Iterable<Transaction> {
  let count = 0;
  const number = (): number => {
    count += 1;
    return count;
  };
  for (const [i, path] of aof.files.entries()) {
    const reader = new RespReader(path);
    let open: Command[] | undefined;
    for (const command of commandsOf(path, reader, onBytes)) {
      if (command.name === "MULTI") open = [];
      else if (command.name === "EXEC") {
        if (open && open.length > 0) yield { at: number(), commands: open };
        open = undefined;
      } else if (open) open.push(command);
      else yield { at: number(), commands: [command] };
    }
    const isNewest = i === aof.files.length - 1;
    if (!isNewest && (reader.tornBytes > 0 || open)) {
      throw new VerifyInputError(
        `${path} ends in the middle of a command and is not the newest file; Redis would not start with it; nothing was changed`,
      );
    }
  }
}

function* commandsOf(path: string, reader: RespReader, onBytes: (bytes: number) => void): Iterable<Command> {
  const file = openSync(path, "r");
  try {
    for (;;) {
      const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
      const length = readSync(file, chunk, 0, CHUNK_BYTES, null);
      if (length === 0) return;
      yield* reader.push(chunk.subarray(0, length));
      onBytes(length);
    }
  } finally {
    closeSync(file);
  }
}
