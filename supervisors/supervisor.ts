// Supervisor: starts its children in order and stops them in reverse.
//
// Invariants
//   V1. A child starts only after all before it have started, and stops only after all behind it have stopped.
//   V2. A failed start stops what had started, in reverse, and is the failure of the supervisor's own start.
//   V3. A child that does not stop within its `shutdownMs` is left behind and named; the others stop all the same.

import { type Environment, pause } from "../src/environment.ts";
import type { Log } from "../src/log.ts";
import type { ChildSpec } from "./child-spec.ts";

export interface SupervisorSpec {
  readonly id: string;
  readonly strategy: "one_for_one" | "rest_for_one";
  readonly children: readonly ChildSpec[];
}

export class Supervisor {
  readonly #spec: SupervisorSpec;
  readonly #environment: Environment;
  readonly #log: Log;
  readonly #started: ChildSpec[] = [];

  constructor(spec: SupervisorSpec, environment: Environment, log: Log) {
    this.#spec = spec;
    this.#environment = environment;
    this.#log = log;
  }

  get id(): string {
    return this.#spec.id;
  }

  /** V1 */
  async start(): Promise<void> {
    for (const child of this.#spec.children) {
      try {
        await child.start();
      } catch (error) {
        await this.stop(); // V2
        throw error;
      }
      this.#started.push(child);
    }
  }

  async stop(): Promise<void> {
    for (let child = this.#started.pop(); child !== undefined; child = this.#started.pop())
      await this.#stopChild(child);
  }

  async #stopChild(child: ChildSpec): Promise<void> {
    const lines = { supervisor: this.#spec.id, child: child.id };
    const inTime = new AbortController();
    const stopped = (async () => child.stop())().then(
      () => true,
      (error: unknown) => {
        this.#log.error({ ...lines, error }, "child failed to stop");
        return true;
      },
    );
    const overdue = pause(this.#environment, child.shutdownMs, inTime.signal).then(() => false);
    if (!(await Promise.race([stopped, overdue]))) {
      this.#log.warn(
        { ...lines, shutdownMs: child.shutdownMs },
        "child did not stop in time and is left behind; what it accepted is in the store",
      ); // V3
    }
    inTime.abort();
  }
}
