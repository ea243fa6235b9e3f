// D2 to D5 of actors/shard-reader.ts. What else it promises is attacked with the rest of a shard around it.

import { expect, test } from "vitest";
import { ReadProgress, ShardReader } from "../../actors/shard-reader.ts";
import { InboxBatch } from "../../src/codec/inbox-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import { PartEnvironment } from "../../src/environment.ts";
import { newCounters } from "../../src/metrics.ts";
import type { StoredEntry } from "../../src/store/shard-store.ts";
import { quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const MESSAGES = 1_000;

/** A reader of one entry, on a clock that goes on by a millisecond at each look. */
function reading({ readAheadBytesMax = 1_000_000, rotten = false, hasDeadLetterRoom = true, crashAtLook = 0 } = {}) {
  const environment = new VirtualEnvironment(3);
  const log = new RecordingLog();
  let nowMs = 0;
  environment.monotonicMs = () => {
    nowMs += 1;
    if (nowMs === crashAtLook) throw new Error("a crash of its own");
    return nowMs;
  };
  const batch = new InboxBatch();
  for (let i = 0; i < MESSAGES; i += 1) {
    const to = { bot: "b", channel: "test", conversation: `c${i}` };
    batch.add(conversationKey(to), { to, id: "m", text: "" });
  }
  const bytes = batch.finish();
  if (rotten) bytes[bytes.length - 1]! ^= 1;
  const inbox: StoredEntry[] = [{ id: { ms: 1, seq: 0 }, bytes }];
  const isAfter = (a: StoredEntry, after: StoredEntry["id"]): boolean => a.id.ms > after.ms;
  let deadLetters = 0;
  const delivered: string[] = [];
  const finished: number[] = [];
  const progress = new ReadProgress();
  const failures: unknown[] = [];
  const newReader = () =>
    new ShardReader({
      environment: new PartEnvironment(environment, (error) => failures.push(error)),
      progress,
      log: log.log,
      counters: newCounters(),
      store: {
        readInbox: ({ after }) => {
          const page = inbox.filter((entry) => isAfter(entry, after));
          return page.length > 0 ? Promise.resolve(page) : new Promise((read) => ended.push(read));
        },
      },
      hashKey: { lo: 1, hi: 2 },
      onProgress: () => undefined,
      committer: {
        addDeadLetter: () => {
          deadLetters += 1;
          return hasDeadLetterRoom;
        },
        finish: (entry) => finished.push(entry.undecided),
      },
      control: () => {
        throw new Error("no operator here");
      },
      deliver: (message) => delivered.push(message.key),
      readAheadBytesMax,
      outboxBytes: () => 0,
      outboxBytesMax: 1,
      onCorrupt: () => undefined,
    });
  const reader = newReader();
  const ended: ((page: StoredEntry[]) => void)[] = [];
  return {
    environment,
    log,
    progress,
    failures,
    deadLetters: () => deadLetters,
    newReader,
    reader,
    delivered,
    finished,
    stop: () => [reader.stop(), ...ended.map((end) => end([]))][0],
  };
}

test("a large entry is handed on in slices, and others have their turn in between (D4)", async () => {
  const { reader, delivered, finished, stop } = reading();
  reader.start();
  const seen = new Set<number>();
  for (let round = 0; round < 100; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    seen.add(delivered.length);
  }
  expect(seen.size).toBeGreaterThan(5);
  expect(new Set(delivered).size).toBe(MESSAGES);
  expect(finished).toEqual([MESSAGES + 1]); // its own share, once and after all others
  await stop();
});

test("a stop in the middle of an entry leaves the rest of it to the next owner", async () => {
  const { reader, delivered, finished, stop } = reading();
  reader.start();
  await new Promise((resolve) => setImmediate(resolve));
  await stop();
  await quiet();
  expect(delivered.length).toBeGreaterThan(0);
  expect(delivered.length).toBeLessThan(MESSAGES);
  expect(finished).toEqual([]);
});

test("a reader without room waits, says so in the log after ten seconds, once, and reads on when there is room (D2)", async () => {
  const { environment, log, progress, reader, stop } = reading({ readAheadBytesMax: 100 });
  reader.start();
  await quiet();
  const held = progress.undecidedBytes;
  expect(held).toBeGreaterThan(100);
  await environment.pass(9_000);
  expect(log.lines).toEqual([]);
  await environment.pass(60_000);
  expect(log.lines.map((line) => JSON.parse(line))).toMatchObject([{ level: "error", undecidedBytes: held }]);
  progress.undecidedBytes -= held;
  reader.checkRoom();
  await quiet();
  expect(progress.undecidedBytes).toBe(0);
  await stop();
});

test.each([true, false])(
  "a rotten message that finds room among the dead letters (%s) lets its entry go, else keeps it (D3, R6)",
  async (hasDeadLetterRoom) => {
    const { reader, delivered, finished, stop } = reading({ rotten: true, hasDeadLetterRoom });
    reader.start();
    for (let round = 0; round < 100; round += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(delivered).toHaveLength(MESSAGES - 1);
    expect(finished).toHaveLength(hasDeadLetterRoom ? 1 : 0);
    await stop();
  },
);

test.each([1, 2, 7, 30])(
  "one that crashed at its look %i at the clock is followed by one that goes on there and hands nothing on twice (D5)",
  async (crashAtLook) => {
    const world = reading({ crashAtLook, rotten: true });
    world.reader.start();
    for (let round = 0; round < 100; round += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(world.failures).toHaveLength(1);
    expect(world.delivered.length).toBeLessThan(MESSAGES - 1);
    world.newReader().start();
    for (let round = 0; round < 100; round += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(new Set(world.delivered).size).toBe(MESSAGES - 1);
    expect(world.delivered).toHaveLength(MESSAGES - 1);
    expect(world.finished).toEqual([MESSAGES]);
    expect(world.deadLetters()).toBe(1);
    await world.stop();
  },
);
