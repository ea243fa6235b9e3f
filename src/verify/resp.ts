// RESP reader: the commands of an append-only file, from chunks of any size. Pure.
//
// Invariants
//   R1. Whatever the chunks are, the same commands come out, each with the byte it began at.
//   R2. What is not the beginning of a command is never skipped: it is an error that names the byte.

import { VerifyInputError } from "../errors.ts";

export interface Command {
  /** Of its first byte in the file. */
  readonly offset: number;
  /** The name in upper case, then its arguments as views into the chunk. */
  readonly name: string;
  readonly args: readonly Buffer[];
}

const STAR = 0x2a;
const DOLLAR = 0x24;
const HASH = 0x23;
const CR = 0x0d;
const LF = 0x0a;
const DIGITS_MAX = 10;
const ARGS_MAX = 1_048_576;

export class RespReader {
  #rest: Buffer = Buffer.alloc(0);
  #restAt = 0;
  readonly #where: string;

  /** @param where names the file in errors */
  constructor(where: string) {
    this.#where = where;
  }

  /** Bytes at the end that are no whole command. */
  get tornBytes(): number {
    return this.#rest.length;
  }

  /** @throws VerifyInputError  a byte that no command begins with, or a length that is none */
  *push(chunk: Buffer): Iterable<Command> {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    for (;;) {
      const end = this.#skipAnnotation(bytes, at) ?? at;
      if (end > at) {
        at = end;
        continue;
      }
      const parsed = this.#command(bytes, at);
      if (parsed === undefined) break;
      const { name, args } = parsed;
      yield { offset: this.#restAt + at, name, args };
      at = parsed.end;
    }
    this.#rest = bytes.subarray(at);
    this.#restAt += at;
  }

  /** `#TS:<seconds>`, where aof-timestamp-enabled is on. @returns the byte after it, once it is whole */
  #skipAnnotation(bytes: Buffer, at: number): number | undefined {
    if (bytes[at] !== HASH) return undefined;
    const end = bytes.indexOf(LF, at);
    return end < 0 ? undefined : end + 1;
  }

  #command(bytes: Buffer, start: number): { name: string; args: Buffer[]; end: number } | undefined {
    if (start >= bytes.length || bytes[start] === HASH) return undefined;
    if (bytes[start] !== STAR) throw this.#damage(start, "no command begins here");
    const head = this.#number(bytes, start + 1);
    if (head === undefined) return undefined;
    if (head.value < 1 || head.value > ARGS_MAX) throw this.#damage(start, `a command of ${head.value} words`);
    const words: Buffer[] = [];
    let at = head.end;
    for (let i = 0; i < head.value; i += 1) {
      if (at >= bytes.length) return undefined;
      if (bytes[at] !== DOLLAR) throw this.#damage(at, "no word begins here");
      const length = this.#number(bytes, at + 1);
      if (length === undefined) return undefined;
      const end = length.end + length.value;
      if (end + 2 > bytes.length) return undefined;
      if (bytes[end] !== CR || bytes[end + 1] !== LF) throw this.#damage(end, "a word is longer than it says");
      words.push(bytes.subarray(length.end, end));
      at = end + 2;
    }
    return { name: words[0]!.toString("latin1").toUpperCase(), args: words.slice(1), end: at };
  }

  #number(bytes: Buffer, start: number): { value: number; end: number } | undefined {
    let value = 0;
    let at = start;
    for (; at < bytes.length && bytes[at] !== CR; at += 1) {
      const digit = bytes[at]! - 0x30;
      if (digit < 0 || digit > 9 || at - start >= DIGITS_MAX) throw this.#damage(at, "a length is no number");
      value = value * 10 + digit;
    }
    if (at + 1 >= bytes.length) return undefined;
    if (at === start || bytes[at + 1] !== LF) throw this.#damage(at, "a length is no number");
    return { value, end: at + 2 };
  }

  #damage(at: number, what: string): VerifyInputError {
    return new VerifyInputError(
      `${this.#where} is damaged at byte ${this.#restAt + at}: ${what}; nothing was changed (look with redis-check-aof, at a copy)`,
    );
  }
}
