// Exit reason: why a child or a supervisor is no longer there. Erlang's words, and they decide what is restarted.

export type ExitReason =
  /** It was done. */
  | { readonly kind: "normal" }
  /** It was asked to end, or asked itself; `term` says more and decides nothing. */
  | { readonly kind: "shutdown"; readonly term?: unknown }
  /** It was ended by force. */
  | { readonly kind: "killed" }
  /** It threw, hung or lost what it lives on. */
  | { readonly kind: "error"; readonly error: unknown };

/** What a monitor hears of something that was not there to begin with, or what a call to an ended supervisor is told. */
export type DownReason = ExitReason | { readonly kind: "noproc" };

export const NORMAL: ExitReason = { kind: "normal" };
export const SHUTDOWN: ExitReason = { kind: "shutdown" };
export const KILLED: ExitReason = { kind: "killed" };
export const NOPROC: DownReason = { kind: "noproc" };

export const failedWith = (error: unknown): ExitReason => ({ kind: "error", error });

/** True for an end that a transient child is not restarted after. */
export function isOrderly(reason: ExitReason): boolean {
  return reason.kind === "normal" || reason.kind === "shutdown";
}

const KINDS: ReadonlySet<unknown> = new Set(["normal", "shutdown", "killed", "error"]);

/** A reason that came from outside: what is none is what it failed with. */
export function exitReasonOf(told: unknown): ExitReason {
  const isReason = typeof told === "object" && told !== null && KINDS.has((told as { kind?: unknown }).kind);
  return isReason ? (told as ExitReason) : failedWith(told);
}
