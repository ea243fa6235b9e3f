import type { SendOutcome } from "../src/channels/channel.ts";

export interface AccountWaiter {
  admitted(): void;
}

export interface ChannelAccount {
  readonly view: { readonly breaker: "closed" | "open" | "half-open" };
  tryEnter(): boolean;
  wait(waiter: AccountWaiter): void;
  cancel(waiter: AccountWaiter): void;
  leave(ended: SendOutcome["kind"] | "unused"): void;
}
