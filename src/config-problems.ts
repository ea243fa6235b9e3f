// Config problems: how what cannot be used is said: key, what is wrong, what to do. All of them at once, one line each.

import { ConfigError } from "./errors.ts";

/** A line `key: what (hint)`. */
export function problem(key: string, what: string, hint: string): ConfigError {
  return new ConfigError(key, `${what} (${hint})`);
}

/** Several problems found together. Its message has a line for each; its key is the first one's. */
export class ConfigProblemsError extends ConfigError {
  readonly problems: readonly ConfigError[];

  constructor(problems: readonly ConfigError[]) {
    const [first, ...rest] = problems;
    const key = first?.key ?? "config";
    super(key, [first?.message.slice(key.length + 2), ...rest.map((each) => each.message)].join("\n"));
    this.problems = problems;
  }
}

/** @throws ConfigError for one problem, ConfigProblemsError for several; nothing for none */
export function refuse(problems: readonly ConfigError[]): void {
  if (problems.length > 1) throw new ConfigProblemsError(problems);
  if (problems[0]) throw problems[0];
}

/** The single problems that a ConfigError stands for. */
export function problemsOf(error: ConfigError): readonly ConfigError[] {
  return error instanceof ConfigProblemsError ? error.problems : [error];
}

/** A value as it stands in a message: one line, and never long. */
export function shown(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value === "number" || typeof value === "bigint" || value === undefined) return String(value);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

const WORD_MAX = 64;

/** The candidate that `word` is most likely a slip of, if any: its start, its continuation, or few letters away. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > WORD_MAX) return undefined;
  const wanted = word.toLowerCase();
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  for (const candidate of candidates) {
    const other = candidate.toLowerCase();
    const distance = wanted.length >= 4 && other.startsWith(wanted) ? 1 : editDistance(wanted, other);
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** Letters added, lost, changed, or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      row[j] = Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        row[j] = Math.min(row[j]!, before[j - 2]! + 1);
    }
    [before, above] = [above, row];
  }
  return above[b.length]!;
}
