// M1 to M5 of src/intake/admission.ts, on a store whose answers the test gives by hand.

import { describe, expect, test } from "vitest";
import type { AdmitOutcome } from "../../src/channels/channel.ts";
import { decodeInboxEntry, inboxBytesMax } from "../../src/codec/inbox-codec.ts";
import { type ConversationKey, conversationKey, parseConversationKey, shardOf } from "../../src/domain/ids.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { StoreNotReadyError, StoreUnavailableError } from "../../src/errors.ts";
import { Admission, type AdmissionOptions } from "../../src/intake/admission.ts";
import { newCounters } from "../../src/metrics.ts";
import type { AppendOptions, AppendReply } from "../../src/store/shard-store.ts";
import { type Gate, gate, quiet } from "../support/quiet.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

interface Append {
  readonly shard: number;
  readonly bytes: number;
  /** `<conversation>/<id>` of each message. */
  readonly messages: readonly string[];
  /** The conversations that it asked about; undefined if it did not ask. */
  readonly asked: readonly string[] | undefined;
  readonly answer: Gate<AppendReply>;
}

const appended = (full: number): AppendReply => ({ kind: "appended", id: { ms: 1, seq: 0 }, inboxBytes: 1, full });
const APPENDED = appended(0);
const keyOf = (conversation: string) => conversationKey(inbound(conversation, "").to);
const isFull = (...conversations: string[]): AppendReply => ({ kind: "full", conversations: conversations.map(keyOf) });

class Rig {
  readonly environment: VirtualEnvironment = new VirtualEnvironment(3);
  readonly log: RecordingLog = new RecordingLog();
  readonly counters = newCounters();
  readonly appends: Append[] = [];
  readonly inFlight: Map<number, number> = new Map();
  inFlightMax = 0;
  memoryIsFull = false;
  readonly closed: Map<number, string> = new Map();
  readonly failures: unknown[] = [];
  readonly admission: Admission;

  constructor(options: Partial<AdmissionOptions> = {}) {
    this.admission = new Admission({
      environment: this.environment,
      log: this.log.log,
      counters: this.counters,
      shards: 1,
      store: (shard) => ({ append: (entry, _bytesMax, options) => this.#append(shard, entry, options) }),
      entryBytesMax: 1_048_576,
      inboxBytesMax: 64 * 1_048_576,
      admissionBytesMax: 16 * 1_048_576,
      memoryIsFull: () => this.memoryIsFull,
      failed: (error) => this.failures.push(error),
      shardClosedBecause: (shard) => this.closed.get(shard),
      ...options,
    });
    this.admission.open();
  }

  async #append(shard: number, bytes: Uint8Array, options?: AppendOptions): Promise<AppendReply> {
    const entry = { id: { ms: 1, seq: 0 }, bytes: bytes.length, undecided: 0 };
    const { messages, rotten } = decodeInboxEntry(Buffer.from(bytes), entry, { lo: 1, hi: 2 });
    expect(rotten).toEqual([]);
    const answer = gate<AppendReply>();
    const names = messages.map((message) =>
      message.kind === "message" ? `${nameOf(message.key)}/${message.id}` : message.kind,
    );
    const asked = options?.conversations?.map(nameOf);
    this.appends.push({ shard, bytes: bytes.length, messages: names, asked, answer });
    const flying = (this.inFlight.get(shard) ?? 0) + 1;
    this.inFlight.set(shard, flying);
    this.inFlightMax = Math.max(this.inFlightMax, flying);
    try {
      return await answer.promise;
    } finally {
      this.inFlight.set(shard, this.inFlight.get(shard)! - 1);
    }
  }

  /** Sends a request; `said` holds its answer once there is one. */
  request(...messages: Inbound[]): { said: AdmitOutcome | undefined } {
    const request: { said: AdmitOutcome | undefined } = { said: undefined };
    void this.admission.admit(messages).then((outcome) => {
      request.said = outcome;
    });
    return request;
  }

  async answer(index: number, reply: AppendReply = APPENDED): Promise<void> {
    this.appends[index]!.answer.open(reply);
    await quiet();
  }

  async fail(index: number, error: Error): Promise<void> {
    this.appends[index]!.answer.fail(error);
    await quiet();
  }
}

const nameOf = (key: ConversationKey): string => parseConversationKey(key).conversation;

const inbound = (conversation: string, id: string, text = ""): Inbound => ({
  to: { bot: "b", channel: "test", conversation },
  id,
  text,
});

describe("2xx means durable (M1)", () => {
  test("admitted is said after Redis answered the append, and not before", async () => {
    const rig = new Rig();
    const request = rig.request(inbound("c", "m1"), inbound("c", "m2"));
    await quiet();
    await rig.environment.pass(600_000);
    expect(request.said).toBeUndefined();
    await rig.answer(0);
    expect(request.said).toEqual({ kind: "admitted", count: 2 });
    expect(rig.counters.admitted).toBe(2);
  });

  for (const error of [new StoreUnavailableError("answer lost"), new StoreNotReadyError("LOADING")]) {
    test(`${error.name} is said as unavailable to all whose messages were in it, and is never sent again (M3, attack A11)`, async () => {
      const rig = new Rig();
      const requests = [rig.request(inbound("a", "m1")), rig.request(inbound("b", "m1"))];
      await quiet();
      const next = rig.request(inbound("a", "m2"));
      await rig.fail(0, error);
      for (const { said } of requests) expect(said).toMatchObject({ kind: "unavailable", retryAfterMs: 1_000 });
      expect(rig.appends.map(({ messages }) => messages)).toEqual([["a/m1", "b/m1"], ["a/m2"]]);
      await rig.answer(1);
      expect(next.said).toEqual({ kind: "admitted", count: 1 }); // who came later is not the loser's companion
      await rig.environment.pass(600_000);
      expect(rig.appends).toHaveLength(2);
      expect(rig.log.at("warn", "append unanswered")).toHaveLength(1);
      expect(rig.counters.admitted).toBe(1);
    });
  }

  test("an inbox at its bound is said as unavailable; nothing was written", async () => {
    const rig = new Rig();
    const request = rig.request(inbound("c", "m1"));
    await quiet();
    await rig.answer(0, { kind: "over", inboxBytes: 67_108_864 });
    expect(request.said).toMatchObject({ kind: "unavailable" });
    const later = rig.request(inbound("c", "m1"));
    await quiet();
    await rig.answer(1);
    expect(later.said).toMatchObject({ kind: "admitted" });
  });
});

describe("one append of a shard flies (M2)", () => {
  test("requests that arrive together are one entry, in the order of arrival and in their own order", async () => {
    const rig = new Rig();
    rig.request(inbound("a", "m1"), inbound("b", "m1"), inbound("a", "m2"));
    rig.request(inbound("b", "m2"));
    rig.request(inbound("a", "m3"));
    await quiet();
    expect(rig.appends.map(({ messages }) => messages)).toEqual([["a/m1", "b/m1", "a/m2", "b/m2", "a/m3"]]);
  });

  test("what arrives while an append flies waits for its answer and then goes as one", async () => {
    const rig = new Rig();
    rig.request(inbound("c", "m1"));
    await quiet();
    for (let n = 2; n <= 50; n += 1) {
      rig.request(inbound("c", `m${n}`));
      await quiet();
    }
    expect(rig.appends).toHaveLength(1);
    await rig.answer(0);
    expect(rig.appends).toHaveLength(2);
    expect(rig.appends[1]!.messages).toEqual(Array.from({ length: 49 }, (_, i) => `c/m${i + 2}`));
    expect(rig.inFlightMax).toBe(1);
  });

  test("shards wait for nobody but themselves, and a request over several is admitted when all have answered", async () => {
    const rig = new Rig({ shards: 4 });
    const messages = Array.from({ length: 40 }, (_, i) => inbound(`c${i}`, "m1"));
    const request = rig.request(...messages, ...messages.map(({ to }) => ({ ...inbound("", "m2"), to })));
    await quiet();
    expect(rig.appends.map(({ shard }) => shard).sort()).toEqual([0, 1, 2, 3]);
    for (const { shard, messages: named } of rig.appends) {
      const mine = messages.filter(({ to }) => shardOf(conversationKey(to), 4) === shard).map((m) => m.to.conversation);
      expect(named).toEqual([...mine.map((c) => `${c}/m1`), ...mine.map((c) => `${c}/m2`)]);
    }
    for (let i = 0; i < 4; i += 1) {
      expect(request.said).toBeUndefined();
      await rig.answer(i);
    }
    expect(request.said).toEqual({ kind: "admitted", count: 80 });
    expect(rig.inFlightMax).toBe(1);
  });

  test("of a request over several shards one of which is away, unavailable is said; the others' part is in and a duplicate later", async () => {
    const rig = new Rig({ shards: 2 });
    const request = rig.request(...Array.from({ length: 20 }, (_, i) => inbound(`c${i}`, "m1")));
    await quiet();
    await rig.answer(0);
    await rig.fail(1, new StoreUnavailableError("gone"));
    expect(request.said).toMatchObject({ kind: "unavailable" });
  });

  test("a closed shard takes nothing while others do", async () => {
    const rig = new Rig({ shards: 2 });
    const names = Array.from({ length: 20 }, (_, i) => `c${i}`);
    const on = (shard: number): string =>
      names.find((name) => shardOf(conversationKey(inbound(name, "").to), 2) === shard)!;
    rig.closed.set(1, "shard-01 is halted");
    const [open, closed] = [rig.request(inbound(on(0), "m1")), rig.request(inbound(on(1), "m1"))];
    await quiet();
    expect(closed.said).toMatchObject({ kind: "unavailable", reason: "shard-01 is halted" });
    await rig.answer(0);
    expect(open.said).toMatchObject({ kind: "admitted" });
    expect(rig.appends).toHaveLength(1);
  });
});

describe("entries and memory are bounded (M4, P7)", () => {
  const sized = (id: string, units: number, conversation = "c"): Inbound =>
    inbound(conversation, id, "x".repeat(units));

  test("requests beyond `entryBytesMax` go with the next entry, whole", async () => {
    const rig = new Rig({ entryBytesMax: 10_000 });
    for (const id of ["m1", "m2", "m3"]) rig.request(sized(`${id}a`, 700), sized(`${id}b`, 700));
    await quiet();
    for (let i = 0; i < 2; i += 1) await rig.answer(i);
    expect(rig.appends.map(({ messages }) => messages)).toEqual([
      ["c/m1a", "c/m1b", "c/m2a", "c/m2b"],
      ["c/m3a", "c/m3b"],
    ]);
  });

  test("a request larger than an entry is split in its order, admitted after the last part, and nobody gets in between", async () => {
    const rig = new Rig({ entryBytesMax: 9_000 });
    const request = rig.request(...Array.from({ length: 20 }, (_, i) => sized(`m${i}`, 900)));
    const next = rig.request(inbound("c", "after"));
    await quiet();
    for (let i = 0; request.said === undefined; i += 1) await rig.answer(i);
    await rig.answer(rig.appends.length - 1);
    expect(request.said).toEqual({ kind: "admitted", count: 20 });
    expect(next.said).toEqual({ kind: "admitted", count: 1 });
    expect(rig.appends.length).toBeGreaterThan(3);
    expect(rig.appends.flatMap(({ messages }) => messages)).toEqual([
      ...Array.from({ length: 20 }, (_, i) => `c/m${i}`),
      "c/after",
    ]);
    for (const { bytes } of rig.appends) expect(bytes).toBeLessThanOrEqual(9_000);
    expect(rig.inFlightMax).toBe(1);
  });

  test("of a split request whose second part is refused nothing further is appended, so that its order has no hole", async () => {
    for (const refuse of [
      (rig: Rig) => rig.fail(1, new StoreUnavailableError("gone")),
      (rig: Rig) => rig.answer(1, { kind: "over", inboxBytes: 1 }),
    ]) {
      const rig = new Rig({ entryBytesMax: 9_000 });
      const request = rig.request(...Array.from({ length: 20 }, (_, i) => sized(`m${i}`, 900)));
      await quiet();
      await rig.answer(0);
      await refuse(rig);
      expect(request.said).toMatchObject({ kind: "unavailable" });
      await rig.environment.pass(60_000);
      expect(rig.appends).toHaveLength(2);
    }
  });

  test("a message larger than an entry travels alone", async () => {
    const rig = new Rig({ entryBytesMax: 1_000 });
    const request = rig.request(sized("m1", 10), sized("m2", 5_000), sized("m3", 10));
    await quiet();
    for (let i = 0; i < 3; i += 1) await rig.answer(i);
    expect(rig.appends.map(({ messages }) => messages)).toEqual([["c/m1"], ["c/m2"], ["c/m3"]]);
    expect(request.said).toMatchObject({ kind: "admitted" });
  });

  test("over `admissionBytesMax` unavailable is said at once; what waits is not touched, and its end makes room", async () => {
    const one = inboxBytesMax(conversationKey(sized("m0", 100).to), sized("m0", 100));
    const rig = new Rig({ admissionBytesMax: 10 * one });
    rig.request(sized("m0", 100));
    await quiet(); // flies
    const waiting = Array.from({ length: 10 }, (_, i) => rig.request(sized(`w${i}`, 100)));
    const refused = rig.request(sized("no", 100));
    await quiet();
    expect(refused.said).toMatchObject({ kind: "unavailable" });
    expect(waiting.every(({ said }) => said === undefined)).toBe(true);
    await rig.answer(0);
    const later = rig.request(sized("yes", 100));
    for (let i = 1; i < 3; i += 1) await rig.answer(i);
    expect([...waiting, later].every(({ said }) => said?.kind === "admitted")).toBe(true);
    expect(rig.appends.flatMap(({ messages }) => messages)).not.toContain("c/no");
  });

  test("one flooded shard refuses nothing of another", async () => {
    const rig = new Rig({ shards: 2, admissionBytesMax: 20_000 });
    const on = (shard: number): string =>
      ["a", "b", "c", "d", "e", "f"].find((name) => shardOf(conversationKey(inbound(name, "").to), 2) === shard)!;
    rig.request(sized("m0", 10, on(0)));
    await quiet();
    const flood = Array.from({ length: 20 }, (_, i) => rig.request(sized(`m${i}`, 1_000, on(0))));
    const other = rig.request(sized("m1", 1_000, on(1)));
    await quiet();
    expect(flood.filter(({ said }) => said?.kind === "unavailable").length).toBeGreaterThan(10);
    await rig.answer(1);
    expect(other.said).toMatchObject({ kind: "admitted" });
  });

  test("while Redis' memory is nearly full nothing is taken, and again when it is not (attack B15)", async () => {
    const rig = new Rig();
    rig.memoryIsFull = true;
    const refused = rig.request(inbound("c", "m1"));
    await quiet();
    expect(refused.said).toMatchObject({ kind: "unavailable", reason: expect.stringContaining("memory") });
    rig.memoryIsFull = false;
    const taken = rig.request(inbound("c", "m1"));
    await quiet();
    await rig.answer(0);
    expect(taken.said).toMatchObject({ kind: "admitted" });
  });
});

describe("a full conversation is refused by name, and nobody else (M5, attack A10)", () => {
  /** A shard that has said how many conversations are full. */
  async function told(full: number, options: Partial<AdmissionOptions> = {}): Promise<Rig> {
    const rig = new Rig(options);
    rig.request(inbound("first", "m1"));
    await quiet();
    await rig.answer(0, appended(full));
    return rig;
  }

  test("the first append of a shard asks, since nobody knows; then as long as some conversation is full, and no longer", async () => {
    const rig = new Rig();
    const asked: (readonly string[] | undefined)[] = [];
    for (const full of [0, 0, 2, 1, 0, 0]) {
      rig.request(inbound("a", "m1"), inbound("b", "m1"), inbound("a", "m2"));
      await quiet();
      asked.push(rig.appends.at(-1)!.asked);
      await rig.answer(rig.appends.length - 1, appended(full));
    }
    const both = ["a", "b"]; // each once
    expect(asked).toEqual([both, undefined, undefined, both, both, undefined]);
  });

  test("429 for the request that brings for it, naming it; the others of the flush go again at once, in their order", async () => {
    const rig = await told(1);
    const before = rig.request(inbound("a", "m1"));
    const concerned = rig.request(inbound("b", "m1"), inbound("c", "m1"), inbound("d", "m1"));
    const after = rig.request(inbound("a", "m2"), inbound("b", "m2"));
    await quiet();
    const later = rig.request(inbound("a", "m3"));
    await rig.answer(1, isFull("c"));
    expect(concerned.said).toEqual({ kind: "full", conversation: "c", retryAfterMs: 1_000 });
    expect([before.said, after.said]).toEqual([undefined, undefined]);
    expect(rig.appends[2]).toMatchObject({ messages: ["a/m1", "a/m2", "b/m2"], asked: ["a", "b"] });
    await rig.answer(2, appended(1));
    expect([before.said, after.said]).toEqual([
      { kind: "admitted", count: 1 },
      { kind: "admitted", count: 2 },
    ]);
    expect(rig.appends[3]!.messages).toEqual(["a/m3"]);
    await rig.answer(3, appended(1));
    expect(later.said).toEqual({ kind: "admitted", count: 1 });
    expect(rig.inFlightMax).toBe(1);
    expect(rig.counters).toMatchObject({ admitted: 5, refused: 3 });
  });

  test("one after the other may turn out to be full; when none is left nothing is appended", async () => {
    const rig = await told(1);
    const requests = ["a", "b", "c"].map((name) => rig.request(inbound(name, "m1")));
    await quiet();
    await rig.answer(1, isFull("b"));
    await rig.answer(2, isFull("a", "c"));
    expect(requests.map(({ said }) => said)).toEqual(
      ["a", "b", "c"].map((conversation) => ({ kind: "full", conversation, retryAfterMs: 1_000 })),
    );
    await rig.environment.pass(60_000);
    expect(rig.appends).toHaveLength(3);
    await rig.admission.drained();
  });

  test("an unknown outcome of what goes again is said to those in it only, and is never sent again (M3)", async () => {
    const rig = await told(1);
    const [full, other] = [rig.request(inbound("a", "m1")), rig.request(inbound("b", "m1"))];
    await quiet();
    await rig.answer(1, isFull("a"));
    await rig.fail(2, new StoreUnavailableError("answer lost"));
    expect(full.said).toMatchObject({ kind: "full" });
    expect(other.said).toMatchObject({ kind: "unavailable" });
    await rig.environment.pass(60_000);
    expect(rig.appends).toHaveLength(3);
  });

  test("a request that is split asks for all of its conversations before its first part is written", async () => {
    const rig = await told(1, { entryBytesMax: 9_000 });
    const big = (conversation: string, id: string) => inbound(conversation, id, "x".repeat(4_000));
    const request = rig.request(big("a", "m1"), big("a", "m2"), big("b", "m1"));
    await quiet();
    expect(rig.appends[1]).toMatchObject({ messages: ["a/m1"], asked: ["a", "b"] });
    await rig.answer(1, isFull("b"));
    expect(request.said).toEqual({ kind: "full", conversation: "b", retryAfterMs: 1_000 });
    expect(rig.appends).toHaveLength(2);
  });

  test("of a split request whose conversation becomes full amid it nothing further is appended", async () => {
    const rig = await told(0, { entryBytesMax: 9_000 });
    const request = rig.request(...["m1", "m2", "m3"].map((id) => inbound("a", id, "x".repeat(4_000))));
    await quiet();
    await rig.answer(1, appended(1));
    expect(rig.appends[2]).toMatchObject({ messages: ["a/m2"], asked: ["a"] });
    await rig.answer(2, isFull("a"));
    expect(request.said).toMatchObject({ kind: "full", conversation: "a" });
    await rig.environment.pass(60_000);
    expect(rig.appends).toHaveLength(3);
  });

  test("full is said rather than unavailable where a request meets both: the sender can leave the conversation out", async () => {
    const rig = new Rig({ shards: 2 });
    const names = Array.from({ length: 20 }, (_, i) => `c${i}`);
    const [one, other] = [0, 1].map((shard) => names.find((name) => shardOf(keyOf(name), 2) === shard)!);
    for (const order of [
      [one!, other!],
      [other!, one!],
    ]) {
      const request = rig.request(...order.map((name) => inbound(name, "m1")));
      await quiet();
      for (const append of rig.appends.slice(-2)) {
        if (append.shard === 0) append.answer.fail(new StoreUnavailableError("gone"));
        else append.answer.open(isFull(other!));
      }
      await quiet();
      expect(request.said).toEqual({ kind: "full", conversation: other, retryAfterMs: 1_000 });
    }
  });

  test("a store that names conversations of nobody is a mistake that is told, once, and ends nobody's waiting in a loop", async () => {
    const rig = await told(1);
    const request = rig.request(inbound("a", "m1"));
    await quiet();
    await rig.answer(1, isFull("somebody-else"));
    expect(request.said).toMatchObject({ kind: "unavailable" });
    expect(rig.failures).toHaveLength(1);
    expect(rig.appends).toHaveLength(2);
  });
});

describe("open and closed", () => {
  test("nothing is taken before open or after close; the reason is said; what was taken before is still appended", async () => {
    const rig = new Rig();
    const taken = rig.request(inbound("c", "m1"));
    rig.admission.close("draining");
    const refused = rig.request(inbound("c", "m2"));
    await quiet();
    expect(refused.said).toEqual({ kind: "unavailable", reason: "draining", retryAfterMs: 1_000 });
    let isDrained = false;
    void rig.admission.drained().then(() => {
      isDrained = true;
    });
    await quiet();
    expect(isDrained).toBe(false);
    await rig.answer(0);
    expect(taken.said).toMatchObject({ kind: "admitted" });
    expect(isDrained).toBe(true);
    rig.admission.open();
    const again = rig.request(inbound("c", "m2"));
    await quiet();
    await rig.answer(1);
    expect(again.said).toMatchObject({ kind: "admitted" });
  });

  test("a request without messages is admitted and appends nothing", async () => {
    const rig = new Rig();
    const request = rig.request();
    await quiet();
    expect(request.said).toEqual({ kind: "admitted", count: 0 });
    expect(rig.appends).toEqual([]);
  });
});
