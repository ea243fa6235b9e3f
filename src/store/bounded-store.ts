// Bounded store: a store whose every call settles. The store's own time-outs come first; a call that outlives this one as well
// would hold up whoever waits for it for ever, and is a fault of this code: who waits fails, and is started again.

import type { Environment } from "../environment.ts";
import { StoreHangError } from "../errors.ts";
import type { ShardStore } from "./shard-store.ts";

/** @param hangMs longest that a call may take, ms; well above every time-out of the store itself */
export function boundedStore(store: ShardStore, environment: Environment, hangMs: number): ShardStore {
  const bounded = new Map<PropertyKey, unknown>();
  return new Proxy(store, {
    get(target, name) {
      const member = Reflect.get(target, name, target) as unknown;
      if (typeof member !== "function") return member;
      const known = bounded.get(name);
      if (known !== undefined) return known;
      const call = (...args: unknown[]): Promise<unknown> =>
        settled(Reflect.apply(member, target, args) as Promise<unknown>, environment, hangMs, String(name));
      bounded.set(name, call);
      return call;
    },
  });
}

function settled<Result>(promise: Promise<Result>, environment: Environment, hangMs: number, name: string) {
  return new Promise<Result>((resolve, reject) => {
    const timer = environment.after(hangMs, () =>
      reject(
        new StoreHangError(
          `${name} of the store did not end within ${hangMs} ms, in whatever way; it may or may not have run, the part that waits for it is started again`,
        ),
      ),
    );
    promise.then(
      (value) => {
        timer.cancel();
        resolve(value);
      },
      (error: unknown) => {
        timer.cancel();
        reject(error);
      },
    );
  });
}
