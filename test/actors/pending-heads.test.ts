// What is pending at an acquisition stays so until it is decided, wherever its message stands meanwhile.

import { describe, expect, test } from "vitest";
import { type Head, PendingHeads } from "../../actors/pending-heads.ts";
import type { ConversationKey } from "../../src/domain/ids.ts";
import type { InboxEntry } from "../../src/domain/message.ts";
import { silentLog } from "../../src/log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const HORIZON = { ms: 7, seq: 0 };
const POSITION = { entry: HORIZON, index: 0 };

class TestHead implements Head {
  readonly key: ConversationKey;
  wakes = 0;

  constructor(name: string) {
    this.key = name as ConversationKey;
  }

  markSuspect(): Promise<void> {
    return Promise.resolve();
  }

  wake(): void {
    this.wakes += 1;
  }
}

function afterEnds(uncleanEnds: number) {
  const environment = new VirtualEnvironment(1);
  let isThrough = false;
  const heads = new PendingHeads({
    environment,
    log: silentLog,
    uncleanEnds,
    followsAnEnd: true,
    horizon: HORIZON,
    groupMax: 2,
    leaveAlone: (_key, onAlone) => onAlone?.(),
    onThrough: () => {
      isThrough = true;
    },
  });
  heads.recovered([]);
  heads.read(HORIZON);
  /** Every message of the entry was moved to its conversation's list, and the entry is done. */
  const allMoved = (): void => heads.done([{ id: HORIZON, bytes: 1, undecided: 0 } as InboxEntry]);
  return { heads, environment, allMoved, isThrough: () => isThrough };
}

describe("W3: a head whose message was moved to its list", () => {
  test("is pending while it runs, after a first unclean end", () => {
    const { heads, allMoved, isThrough } = afterEnds(1);
    const slow = new TestHead("slow");
    expect(heads.mayRun(slow, POSITION)).toBe(true);
    allMoved();
    expect(isThrough()).toBe(false); // it may end the process yet, and that end has to count
    heads.through(slow.key);
    expect(isThrough()).toBe(true);
  });

  test("has its turn in a group all the same, after the second", async () => {
    const { heads, environment, allMoved, isThrough } = afterEnds(2);
    const all = ["a", "b", "c", "d", "e"].map((name) => new TestHead(name));
    for (const head of all) expect(heads.mayRun(head, POSITION)).toBe(false);
    allMoved();
    await environment.pass(1_000);
    for (let round = 0; round < all.length && !isThrough(); round += 1) {
      const woken = all.filter(({ wakes }) => wakes === 1);
      expect(woken.length).toBeGreaterThan(0);
      expect(woken.length).toBeLessThanOrEqual(2);
      for (const head of woken) {
        expect(heads.mayRun(head, POSITION)).toBe(true);
        head.wakes = 2;
        heads.through(head.key);
      }
      await environment.pass(1_000);
    }
    expect(all.map(({ wakes }) => wakes)).toEqual([2, 2, 2, 2, 2]);
    expect(isThrough()).toBe(true);
  });
});
