// Payments: what the bot knows of a payment provider, whoever that is.

export type TestCard = "visa" | "mastercard" | "flaky" | "declined";

/** A card whose number ends in 0000 is declined. The answer to the first charge of `flaky` is lost on its way. */
export const TEST_CARDS: Readonly<Record<TestCard, { readonly lastFour: string }>> = {
  visa: { lastFour: "4242" },
  mastercard: { lastFour: "4444" },
  flaky: { lastFour: "7777" },
  declined: { lastFour: "0000" },
};

export interface ChargeRequest {
  readonly key: string;
  readonly amountCents: number;
  readonly card: TestCard;
}

export type ChargeOutcome = { readonly kind: "paid"; readonly receipt: string } | { readonly kind: "declined" };

export interface Payments {
  /**
   * Charges once for each key.
   * @throws PaymentUnavailableError  whether it was charged is unknown; ask again with the same key
   * @throws PaymentConflictError  the key was used for another amount; nothing more was charged
   */
  charge(request: ChargeRequest, signal: AbortSignal): Promise<ChargeOutcome>;
}

export class PaymentUnavailableError extends Error {
  override readonly name = "PaymentUnavailableError";
}
export class PaymentConflictError extends Error {
  override readonly name = "PaymentConflictError";
}
