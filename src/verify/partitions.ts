// Partitions: all lines of one conversation end up in one partition, in the order in which they came, and one partition is in
// memory at a time. A small history is one partition and never leaves memory; a large one goes through temporary files.

import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readLines } from "./client-lines.ts";

const BUFFER_CHARS = 256 * 1_024;
const FNV_OFFSET = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

export class Partitions<Line> {
  readonly count: number;
  readonly #memory: Line[] = [];
  readonly #folder: string | undefined;
  readonly #files: { readonly path: string; readonly file: number; parts: string[]; chars: number }[] = [];

  /** @param count 1 keeps everything in memory */
  constructor(count: number) {
    this.count = count;
    if (count === 1) return;
    this.#folder = mkdtempSync(join(tmpdir(), "colloquy-verify-"));
    for (let i = 0; i < count; i += 1) {
      const path = join(this.#folder, `${i}.ndjson`);
      this.#files.push({ path, file: openSync(path, "w"), parts: [], chars: 0 });
    }
  }

  partitionOf(name: string): number {
    if (this.count === 1) return 0;
    let hash = FNV_OFFSET;
    for (let i = 0; i < name.length; i += 1) hash = Math.imul(hash ^ name.charCodeAt(i), FNV_PRIME);
    return (hash >>> 0) % this.count;
  }

  /** @param text the line as JSON, if the caller has it already */
  add(partition: number, line: Line, text?: string): void {
    if (this.count === 1) {
      this.#memory.push(line);
      return;
    }
    const target = this.#files[partition]!;
    const json = text ?? JSON.stringify(line);
    target.parts.push(json);
    target.chars += json.length;
    if (target.chars > BUFFER_CHARS) this.#write(target);
  }

  *read(partition: number): Iterable<Line> {
    if (this.count === 1) {
      yield* this.#memory;
      return;
    }
    const target = this.#files[partition]!;
    this.#write(target);
    for (const { text } of readLines(target.path)) yield JSON.parse(text) as Line;
  }

  /** Removes the temporary files. */
  close(): void {
    for (const { file } of this.#files) closeSync(file);
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
  }

  #write(target: { readonly file: number; parts: string[]; chars: number }): void {
    if (target.parts.length === 0) return;
    const bytes = Buffer.from(`${target.parts.join("\n")}\n`);
    for (let at = 0; at < bytes.length; ) at += writeSync(target.file, bytes, at);
    target.parts = [];
    target.chars = 0;
  }
}
