// Fake payments: stands in for a payment provider that takes an idempotency key, as the real ones do. What it has
// charged is in a file of its own, which no crash of the bot can touch: whoever kills the bot in the middle of a
// payment can count there.
//
// The file is <folder>/charges.jsonl, one JSON object a line: key, amountCents, card (last four digits), receipt.
//
// Invariants
//   F1. One key is charged once: asked again with the same amount it gives the first receipt, with another it is an
//       error.
//   F2. A receipt is given only for a line that is on disk, its newline too. What stands behind the last newline is
//       what a crash left of a line: it is no charge, nobody has a receipt for it, and the next charge cuts it off.
//   F3. A file that is not as this module leaves it is never written to.
//
// One process at a time writes to a folder. A real provider is a process of its own.

import { createHash } from "node:crypto";
import { type FileHandle, mkdir, open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type ChargeOutcome,
  type ChargeRequest,
  PaymentConflictError,
  type Payments,
  PaymentUnavailableError,
  TEST_CARDS,
} from "./payments.ts";

export class LedgerError extends Error {
  override readonly name = "LedgerError";
}

export interface Charge {
  readonly key: string;
  readonly amountCents: number;
  /** Last four digits. */
  readonly card: string;
  readonly receipt: string;
}

export interface FakePaymentsOptions {
  /** Made when first needed; relative to the working folder. */
  readonly folder: string;
  /** How long a charge takes, 0 to 20,000; half of it before the ledger is written and half after. */
  readonly delayMs: number;
}

const DELAY_MS_MAX = 20_000;
export const LEDGER_FILE = "charges.jsonl";

export class FakePayments implements Payments {
  readonly #folder: string;
  readonly #delayMs: number;
  /** Ends when all charges so far are through: the ledger is read and written by one of them at a time. */
  #last: Promise<unknown> = Promise.resolve();

  /** @throws RangeError if `delayMs` is out of bounds; a turn has 30 s, and a charge has to fit into it */
  constructor({ folder, delayMs }: FakePaymentsOptions) {
    if (!(delayMs >= 0 && delayMs <= DELAY_MS_MAX))
      throw new RangeError(`a charge may take 0 to ${DELAY_MS_MAX} ms; set FAKE_PAYMENTS_DELAY_MS to a number of them`);
    this.#folder = resolve(folder);
    this.#delayMs = delayMs;
  }

  async charge(request: ChargeRequest, signal: AbortSignal): Promise<ChargeOutcome> {
    await sleep(this.#delayMs / 2, undefined, { signal });
    const charged = this.#last.then(() => this.#book(request));
    this.#last = charged.catch(() => undefined);
    const decision = await charged;
    await sleep(this.#delayMs / 2, undefined, { signal });
    switch (decision.kind) {
      case "declined":
        return { kind: "declined" };
      case "conflict":
        throw new PaymentConflictError(
          "this key has paid another amount, which stands; nothing more was charged. Give each payment its own key",
        );
      case "repeat":
        return { kind: "paid", receipt: decision.charge.receipt };
      case "new":
        if (request.card === "flaky")
          throw new PaymentUnavailableError("the provider's answer was lost; ask again with the same key");
        return { kind: "paid", receipt: decision.charge.receipt };
    }
  }

  async #book(request: ChargeRequest): Promise<Decision> {
    await mkdir(this.#folder, { recursive: true });
    const path = join(this.#folder, LEDGER_FILE);
    const file = await open(path, "a+");
    try {
      const { charges, wholeBytes } = readLedger(await file.readFile(), path);
      const decision = decide(charges, request);
      if (decision.kind === "new") await append(file, wholeBytes, decision.charge);
      if (decision.kind === "new" && wholeBytes === 0) await syncFolder(this.#folder);
      return decision;
    } finally {
      await file.close();
    }
  }
}

/** F2 */
async function append(file: FileHandle, wholeBytes: number, charge: Charge): Promise<void> {
  await file.truncate(wholeBytes);
  await file.appendFile(`${JSON.stringify(charge)}\n`);
  await file.sync();
}

/** A new file is safe only when its name is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

// --- rules ----------------------------------------------------------------------------------------------------------

export type Decision =
  | { readonly kind: "new" | "repeat"; readonly charge: Charge }
  | { readonly kind: "conflict" }
  | { readonly kind: "declined" };

/** F1 */
export function decide(charges: readonly Charge[], { key, amountCents, card }: ChargeRequest): Decision {
  const earlier = charges.find((charge) => charge.key === key);
  if (earlier) return earlier.amountCents === amountCents ? { kind: "repeat", charge: earlier } : { kind: "conflict" };
  const { lastFour } = TEST_CARDS[card];
  if (lastFour === "0000") return { kind: "declined" };
  return { kind: "new", charge: { key, amountCents, card: lastFour, receipt: receiptOf(key) } };
}

const receiptOf = (key: string): string =>
  `R${createHash("sha256").update(key).digest("hex").slice(0, 8).toUpperCase()}`;

export interface Ledger {
  readonly charges: readonly Charge[];
  /** Length of what ends with a newline (F2). */
  readonly wholeBytes: number;
}

/**
 * @param path for the error
 * @throws LedgerError a whole line is no charge, or a key stands twice (F3)
 */
export function readLedger(bytes: Buffer, path: string): Ledger {
  const wholeBytes = bytes.lastIndexOf("\n") + 1;
  const lines = bytes.toString("utf8", 0, wholeBytes).split("\n").slice(0, -1);
  const charges = lines.map((line, i) => {
    const charge = chargeOf(line);
    if (charge) return charge;
    throw new LedgerError(
      `line ${i + 1} of ${path} is not a charge; nothing was charged now, the file is untouched. ` +
        "Mend the line, or move the file away",
    );
  });
  if (new Set(charges.map(({ key }) => key)).size === charges.length) return { charges, wholeBytes };
  throw new LedgerError(
    `${path} has a key twice; nothing was charged now, the file is untouched. Let one process at a time write there`,
  );
}

function chargeOf(line: string): Charge | undefined {
  try {
    const { key, amountCents, card, receipt } = JSON.parse(line) as Record<string, unknown>;
    if (typeof key !== "string" || typeof card !== "string" || typeof receipt !== "string") return undefined;
    if (typeof amountCents !== "number" || !Number.isSafeInteger(amountCents)) return undefined;
    return { key, amountCents, card, receipt };
  } catch {
    return undefined;
  }
}
