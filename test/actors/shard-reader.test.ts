// D4 of actors/shard-reader.ts. What else it promises is attacked with the rest of a shard around it.

import { expect, test } from "vitest";
import { ShardReader } from "../../actors/shard-reader.ts";
import { InboxBatch } from "../../src/codec/inbox-codec.ts";
import { conversationKey } from "../../src/domain/ids.ts";
import { newCounters } from "../../src/metrics.ts";
import type { StoredEntry } from "../../src/store/shard-store.ts";
import { quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const MESSAGES = 1_000;

/** A reader of one entry, on a clock that goes on by a millisecond at each look. */
function reading({ readAheadBytesMax = 1_000_000, rotten = false, hasDeadLetterRoom = true } = {}) {
  const environment = new VirtualEnvironment(3);
  const log = new RecordingLog();
  let nowMs = 0;
  environment.monotonicMs = () => ++nowMs;
  const batch = new InboxBatch();
  for (let i = 0; i < MESSAGES; i += 1) {
    const to = { bot: "b", channel: "test", conversation: `c${i}` };
    batch.add(conversationKey(to), { to, id: "m", text: "" });
  }
  const bytes = batch.finish();
  if (rotten) bytes[bytes.length - 1]! ^= 1;
  const inbox: StoredEntry[] = [{ id: { ms: 1, seq: 0 }, bytes }];
  const delivered: string[] = [];
  const finished: number[] = [];
  const reader = new ShardReader({
    environment,
    log: log.log,
    counters: newCounters(),
    store: {
      readInbox: () => (inbox.length > 0 ? Promise.resolve(inbox.splice(0)) : new Promise((read) => ended.push(read))),
    },
    hashKey: { lo: 1, hi: 2 },
    committer: { addDeadLetter: () => hasDeadLetterRoom, finish: (entry) => finished.push(entry.undecided) },
    deliver: (message) => delivered.push(message.key),
    readAheadBytesMax,
    outboxBytes: () => 0,
    outboxBytesMax: 1,
    onCorrupt: () => undefined,
  });
  const ended: ((page: StoredEntry[]) => void)[] = [];
  return {
    environment,
    log,
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
  const { environment, log, reader, stop } = reading({ readAheadBytesMax: 100 });
  reader.start();
  await quiet();
  const held = reader.undecidedBytes;
  expect(held).toBeGreaterThan(100);
  await environment.pass(9_000);
  expect(log.lines).toEqual([]);
  await environment.pass(60_000);
  expect(log.lines.map((line) => JSON.parse(line))).toMatchObject([{ level: "error", undecidedBytes: held }]);
  reader.decided(held);
  await quiet();
  expect(reader.undecidedBytes).toBe(0);
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
