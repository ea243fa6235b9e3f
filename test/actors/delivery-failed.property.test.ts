// Whatever comes twice and wherever the process ends: each marker gives one turn, in the order in which the first of them came.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { Committable } from "../../actors/committer.ts";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import type { InboxMessage } from "../../src/domain/message.ts";
import { comparePositions } from "../../src/domain/position.ts";
import { TerminalError } from "../../src/errors.ts";
import { quiet } from "../support/quiet.ts";
import { collector, type Seen } from "./support/bots.ts";
import { ConversationRig } from "./support/conversation-rig.ts";

const MARKERS = 4;

type Event =
  | { readonly kind: "marker" | "message"; readonly number: number }
  | { readonly kind: "commit" | "take" | "landed" | "crash" | "spill" | "time" };

/** What becomes of each marker's turn. */
type Fate = "well" | "once-not" | "never" | "in-steps";

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("marker" as const), number: fc.nat(MARKERS - 1) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("message" as const), number: fc.nat(3) }) },
  ...(["commit", "take", "landed", "crash", "spill", "time"] as const).map((kind) => ({
    weight: 1,
    arbitrary: fc.constant({ kind }),
  })),
);
const fate = fc.constantFrom<Fate>("well", "well", "once-not", "never", "in-steps");

class World {
  readonly #failed = new Set<number>();
  readonly #inbox: InboxMessage[] = [];
  readonly rig: ConversationRig;
  #actor: ConversationActor;
  #flying: Committable[] = [];

  constructor(fates: readonly Fate[], isTold: boolean) {
    const deliveryFailed = async (state: Seen, { outSeq }: { readonly outSeq: number }, ctx: Ctx): Promise<Seen> => {
      const its = fates[outSeq]!;
      if (its === "never") throw new TerminalError("never");
      if (its === "in-steps") await ctx.step("a", () => undefined);
      if (its === "once-not" && !this.#failed.has(outSeq)) {
        this.#failed.add(outSeq);
        throw new Error("not yet");
      }
      return [...state, `failed:${outSeq}`];
    };
    const onNotice = isTold ? { deliveryFailed } : {};
    this.rig = new ConversationRig(collector(undefined, { ordering: "available", onNotice }), { commits: "by hand" });
    this.#actor = this.rig.conversation();
  }

  async happen(event: Event): Promise<void> {
    switch (event.kind) {
      case "marker": {
        const extra = { deliveryFailed: { outSeq: event.number, reason: "terminal" } };
        this.#admit({ id: `delivery-failed:k1-0-0.${event.number}` }, extra);
        break;
      }
      case "message":
        this.#admit({ id: `m${event.number}` }, null);
        break;
      case "take":
        if (this.#flying.length === 0) this.#flying = this.rig.take();
        break;
      case "landed":
        this.#landed();
        break;
      case "commit":
        this.#landed();
        this.rig.commit();
        break;
      case "spill":
        this.#actor.moveToList();
        break;
      case "time":
        await this.rig.environment.pass(2_000);
        break;
      case "crash":
        this.#crash();
        break;
    }
    await quiet();
  }

  /** Until nothing is left to do. */
  async end(): Promise<void> {
    for (let i = 0; i < 60; i += 1) {
      await this.happen({ kind: "commit" });
      if (i % 5 === 0) await this.happen({ kind: "time" });
    }
    expect([this.#actor.settled, this.rig.lists.size, this.rig.open.size]).toEqual([true, 0, 0]);
  }

  get seen(): unknown {
    const stored = this.rig.stored.get(this.#actor.key);
    return stored === undefined ? [] : this.rig.state(this.#actor);
  }

  #admit(inbound: { readonly id: string }, extra: InboxMessage["extra"]): void {
    const [message] = this.rig.messages(this.#actor, [inbound], extra);
    this.#inbox.push(message!);
    this.#actor.deliver(message!);
  }

  #landed(): void {
    for (const each of this.#flying.splice(0)) each.committed();
  }

  /** What was taken is stored; what was not is nowhere, and its messages are read again, as are those that a commit had decided. */
  #crash(): void {
    this.#actor.stop();
    this.#flying = [];
    this.rig.dirty.clear();
    this.#actor = this.rig.conversation();
    for (const message of this.#inbox) this.#actor.deliver(message);
    this.#actor.wake();
  }

  /** In the order of their first admission, each once. */
  expected(fates: readonly Fate[], isTold: boolean): string[] {
    const inOrder = this.#inbox.toSorted((a, b) => comparePositions(a.position, b.position));
    const names = inOrder.flatMap(({ id, extra }) => {
      if (extra?.deliveryFailed === undefined) return [id];
      const { outSeq } = extra.deliveryFailed;
      return isTold && fates[outSeq] !== "never" ? [`failed:${outSeq}`] : [];
    });
    return [...new Set(names)];
  }

  neverIn(fates: readonly Fate[]): number {
    const numbers = this.#inbox.flatMap(({ extra }) => (extra?.deliveryFailed ? [extra.deliveryFailed.outSeq] : []));
    return new Set(numbers.filter((number) => fates[number] === "never")).size;
  }
}

interface Ctx {
  step(name: string, run: () => undefined): Promise<undefined>;
}

test("duplicates of markers and crashes between give one turn for each, or one dead letter, or none", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { minLength: 4, maxLength: 40 }),
      fc.array(fate, { minLength: MARKERS, maxLength: MARKERS }),
      fc.boolean(),
      async (events, fates, isTold) => {
        const world = new World(fates, isTold);
        for (const each of events) await world.happen(each);
        await world.end();
        expect(world.seen).toEqual(world.expected(fates, isTold));
        expect(world.rig.dead.map(({ reason }) => reason)).toEqual(
          Array.from({ length: isTold ? world.neverIn(fates) : 0 }, () => "notice"),
        );
        world.rig.dispose();
      },
    ),
    { numRuns: 150 },
  );
});
