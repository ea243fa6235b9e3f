/** By name, without the dashes. */
export const EVIDENCE_FLAGS: Readonly<Record<string, { readonly type: "string" | "boolean" }>>;
export const LEDGER_COLUMNS: readonly string[];

/** What is wrong with how it was called. */
export class UsageError extends Error {}

export interface EvidenceOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly json: boolean;
  /** Whether the run is written down. */
  readonly ledger: boolean;
}
/** @throws UsageError */
export function parseEvidence(args: readonly string[], ledger: string): EvidenceOptions;
/** Behind every seed that a line of the ledger names. */
export function nextSeed(ledger: string): number;
/** What a violation is replayed with. */
export function replayCommand(seed: number): string;

export interface Evidence {
  readonly from: number;
  /** The last seed that was judged. */
  readonly to: number;
  readonly seeds: number;
  readonly events: number;
  readonly twice: number;
  readonly violations: number;
  /** Seeds that broke the promise. */
  readonly broken: readonly number[];
  readonly minutes: number;
}
export interface EvidenceWorld {
  readonly run: (seed: number) => Promise<{
    readonly traceHash: string;
    readonly events: number;
    /** Lines. */
    readonly violations: readonly string[];
  }>;
  readonly nowMs: () => number;
  readonly print: (line: string) => void;
  readonly isStopped: () => boolean;
}
/** Runs one seed after the other until the time is up, ten of them broke the promise, or `isStopped`; one at least. */
export function gather(
  world: EvidenceWorld,
  options: { readonly seed: number; readonly minutes: number },
): Promise<Evidence>;
export function ledgerLine(
  sum: Evidence,
  about: { readonly date: string; readonly commit: string; readonly machine: string },
): string;
