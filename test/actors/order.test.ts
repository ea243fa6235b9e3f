// What an operator's skip passes of the order of the outside, and what it must not.

import { afterEach, describe, expect, test } from "vitest";
import type { ConversationActor } from "../../actors/conversation-actor.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { haltName } from "../../src/domain/record.ts";
import { defineBot } from "../../src/index.ts";
import { ConversationRig, type RigOptions, testChannel } from "./support/conversation-rig.ts";

const FROM_ONE = { mode: "contiguous", gapTimeoutMs: 3_000, settleMs: 0, maxHeld: 64, firstSequence: 1 } as const;

const collector = defineBot<string[]>({
  name: "collector",
  version: 1,
  initialState: () => [],
  onMessage: (state, { id }) => [...state, id],
});

/** Numbered messages, whose ids tell epoch and number. */
const of = (epoch: number, ...numbers: number[]): Partial<Inbound>[] =>
  numbers.map((sequence) => ({ id: `${epoch}:${sequence}`, sequence, ...(epoch > 0 && { epoch }) }));

let rig: ConversationRig;
afterEach(() => rig.dispose());

function begun(options: RigOptions = {}): ConversationActor {
  rig = new ConversationRig(collector, { channel: testChannel({ order: FROM_ONE }), ...options });
  return rig.conversation();
}

const halt = (conversation: ConversationActor): string | null => haltName(rig.record(conversation).record);

/** Everything goes on as far as it can without time. */
async function rests(): Promise<void> {
  for (let round = 0; round < 4; round += 1) await rig.quiet();
}

async function haltsAt(conversation: ConversationActor, name: string): Promise<void> {
  await rests();
  await rig.environment.until(() => conversation.situation.state === "halted", 4_000, "the gap halts it");
  await rests();
  expect(halt(conversation)).toBe(name);
}

async function skips(conversation: ConversationActor, name: string): Promise<void> {
  rig.control(conversation, "skip", name);
  await rests();
}

describe("an operator's skip of a gap", () => {
  test("passes no number that the halt did not name: a lower epoch may have a gap of its own (Q4)", async () => {
    const c = begun();
    rig.deliver(c, ...of(0, 1), ...of(1, 21));
    await haltsAt(c, "gap-1-1");
    rig.deliver(c, ...of(0, 3));
    await rests();
    await skips(c, "gap-1-1");
    expect([rig.state(c), halt(c)]).toEqual([["0:1"], "gap-0-2"]);
    await skips(c, "gap-1-1"); // names what it meant, and nothing else (C9)
    expect([rig.state(c), halt(c)]).toEqual([["0:1"], "gap-0-2"]);
    rig.deliver(c, ...of(0, 2));
    await haltsAt(c, "gap-1-1");
    expect(rig.state(c)).toEqual(["0:1", "0:2", "0:3"]);
    await skips(c, "gap-1-1");
    expect([rig.state(c), halt(c), rig.dead]).toEqual([["0:1", "0:2", "0:3", "1:21"], null, []]);
  });

  test.each(["in memory", "loaded from the store"] as const)(
    "makes nothing late that had come before it, and was not looked at yet (Q3), %s",
    async (where) => {
      let c = begun();
      rig.deliver(c, ...of(0, 1, 8));
      await haltsAt(c, "gap-0-2");
      if (where === "loaded from the store") {
        c.stop();
        c = rig.conversation();
      }
      rig.deliver(c, ...of(0, 6));
      rig.control(c, "skip", "gap-0-2");
      await haltsAt(c, "gap-0-7");
      expect([rig.state(c), rig.dead]).toEqual([["0:1", "0:6"], []]);
      rig.deliver(c, ...of(0, 7));
      await rests();
      expect([rig.state(c), halt(c)]).toEqual([["0:1", "0:6", "0:7", "0:8"], null]);
    },
  );

  test("passes nothing if what was missing has come just before it", async () => {
    const c = begun();
    rig.deliver(c, ...of(0, 2));
    await haltsAt(c, "gap-0-1");
    rig.deliver(c, ...of(0, 1));
    rig.control(c, "skip", "gap-0-1");
    await rests();
    expect([rig.state(c), halt(c), rig.dead]).toEqual([["0:1", "0:2"], null, []]);
  });

  test("counts what is held, which a halt of this moment has not left on the list yet", async () => {
    const ports = { headIsThrough: () => c.situation.state === "halted" && rig.control(c, "skip", "gap-0-2") };
    const c = begun({ bounds: { drainTurnsMax: 1 }, ports });
    rig.deliver(c, ...of(0, 1, 8));
    await rests();
    await rig.environment.until(() => rig.counters.gaps > 0, 4_000, "the gap halts it");
    await rests();
    expect([rig.state(c), halt(c), rig.counters.gaps]).toEqual([["0:1", "0:8"], null, 1]);
  });

  test("goes past repeats: what is a duplicate does not say what waits (Q2)", async () => {
    const c = begun();
    rig.deliver(c, ...of(0, 1, 8));
    await haltsAt(c, "gap-0-2");
    rig.deliver(c, { id: "0:1", sequence: 4 });
    await skips(c, "gap-0-2");
    expect([rig.state(c), halt(c), rig.counters.duplicates]).toEqual([["0:1", "0:8"], null, 1]);
  });
});
