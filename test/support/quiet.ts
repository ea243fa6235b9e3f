// Quiet: lets everything run that is ready and all that follows from it, while no virtual time passes.

const ROUNDS = 24;

/** Resolves after enough rounds of the event loop for what is ready to have run; nothing here waits for a clock. */
export async function quiet(): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) await new Promise<void>((resolve) => setImmediate(resolve));
}

/** A promise with its ends in hand. */
export interface Gate<Value> {
  readonly promise: Promise<Value>;
  open(value: Value): void;
  fail(error: unknown): void;
}

export function gate<Value = void>(): Gate<Value> {
  let open: (value: Value) => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  const promise = new Promise<Value>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}
