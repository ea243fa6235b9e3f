// What operators ask for becomes messages in the inboxes of shards: which, how many, and what is said of those that cannot be asked.

import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { Inspection } from "../../actors/inspection.ts";
import { Operations } from "../../actors/operations.ts";
import type { OpenPlace } from "../../src/admin/inspector.ts";
import type { HaltedTarget, ResolveRequest } from "../../src/admin/operator.ts";
import { parseWhere, type Where } from "../../src/admin/where.ts";
import type { OpenEntry } from "../../src/codec/open-codec.ts";
import { type ConversationId, conversationKey, shardOf } from "../../src/domain/ids.ts";
import type { InboxMessage } from "../../src/domain/message.ts";
import { StoreUnavailableError } from "../../src/errors.ts";
import { MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import type { ShardStore } from "../../src/store/shard-store.ts";
import { RecordingLog } from "../support/recording-log.ts";
import { addDeadLetter, addOpen, controlsOf, HALTED, idOf, inboxOf, messageTo } from "../support/unfinished.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const SHARDS = 3;
const BY = "127.0.0.1";
const NOW_MS = 1_600_000_600_000;

function rig(over: { append?: ShardStore["append"]; entryBytesMax?: number; inboxBytesMax?: number } = {}) {
  const data = new MemoryData();
  const environment = new VirtualEnvironment(3);
  const store = new MemoryStore(environment, data);
  const recording = new RecordingLog();
  const inspection = new Inspection({
    store,
    leases: Array.from({ length: SHARDS }, () => ({ kind: "standby", owner: "elsewhere" })),
    owned: new Map(),
    nowMs: () => NOW_MS,
  });
  const operations = new Operations({
    shards: SHARDS,
    store: (shard) => {
      const port = store.shard(shard);
      return {
        append: over.append ?? port.append.bind(port),
        readOpen: port.readOpen.bind(port),
        readDeadLetters: port.readDeadLetters.bind(port),
      };
    },
    inspector: inspection,
    log: recording.log,
    entryBytesMax: over.entryBytesMax ?? 1_048_576,
    inboxBytesMax: over.inboxBytesMax ?? 64 * 1_048_576,
  });
  return { data, operations, inspection, recording };
}

let world: ReturnType<typeof rig>;
beforeEach(() => {
  world = rig();
});

/** Unfinished, and no halt. */
function putOther(conversation: string, state: OpenEntry["state"], over: Partial<OpenEntry> = {}): ConversationId {
  const id = idOf(conversation);
  const { halt: _, reason: __, ...rest } = { ...HALTED, ...over };
  addOpen(world.data, SHARDS, id, { ...rest, state });
  return id;
}

function where(text: string, of: "conversations" | "dead letters" = "conversations"): Where {
  const parsed = parseWhere(text, of);
  if (parsed.kind === "problem") throw new Error(parsed.detail);
  return parsed.where;
}

const asked = (over: Partial<ResolveRequest>): ResolveRequest => ({
  verb: "retry",
  selection: { kind: "where", where: [] },
  limit: 100,
  dryRun: false,
  by: BY,
  ...over,
});

/** Page by page until the end. */
async function all(request: ResolveRequest): Promise<{ done: HaltedTarget[]; pages: number }> {
  const done: HaltedTarget[] = [];
  let after: OpenPlace | undefined;
  for (let pages = 1; ; pages += 1) {
    const { selection } = request;
    const report = await world.operations.resolve(
      selection.kind === "where" ? { ...request, selection: { ...selection, after } } : request,
    );
    done.push(...report.done);
    if (report.next === null) return { done, pages };
    after = report.next;
  }
}

const put = (conversation: string, over: Partial<OpenEntry> = {}): ConversationId => {
  const id = idOf(conversation);
  addOpen(world.data, SHARDS, id, { ...HALTED, halt: `halt-${conversation}`, ...over });
  return id;
};

describe("retry and skip", () => {
  test("O1: ask each halted conversation that the filter means, by the name of its halt, in the inbox of its shard", async () => {
    const meant = Array.from({ length: 40 }, (_, i) => put(`a${i}`));
    for (let i = 0; i < 10; i += 1) put(`b${i}`, { reason: "gap", why: "gap: 5 to 6 are missing" });
    putOther("held", "held");
    const { done } = await all(
      asked({ verb: "skip", limit: 7, selection: { kind: "where", where: where("reason=poison") } }),
    );
    const names = (ids: readonly ConversationId[]) => ids.map(({ conversation }) => conversation).sort();
    expect(names(done.map(({ id }) => id))).toEqual(names(meant));
    const controls = controlsOf(world.data, SHARDS);
    expect(controls).toHaveLength(40);
    for (const { key, control } of controls) {
      const { id, halt } = done.find((each) => conversationKey(each.id) === key)!;
      expect(control).toEqual({ verb: "skip", halt: `halt-${id.conversation}`, by: BY });
      expect(halt).toBe(control.halt);
      expect(inboxOf(world.data, shardOf(key, SHARDS)).flat()).toContainEqual(expect.objectContaining({ key }));
    }
  });

  test("an empty filter means all that are halted, and nothing else", async () => {
    put("one");
    put("two", { reason: "gap" });
    putOther("held", "held");
    putOther("rotten", "quarantined");
    expect((await all(asked({}))).done.map(({ id }) => id.conversation).sort()).toEqual(["one", "two"]);
  });

  test("many go in few entries of at most 500", async () => {
    for (let i = 0; i < 1_700; i += 1) put(`c${i}`);
    expect((await all(asked({ limit: 10_000 }))).done).toHaveLength(1_700);
    const entries = [0, 1, 2].flatMap((shard) => inboxOf(world.data, shard));
    expect(Math.max(...entries.map(({ length }) => length))).toBeLessThanOrEqual(500);
    expect(entries.length).toBeLessThanOrEqual(6);
    expect(entries.flat()).toHaveLength(1_700);
  });

  test("a dry run says the same and changes nothing", async () => {
    for (let i = 0; i < 20; i += 1) put(`c${i}`);
    const dry = await all(asked({ dryRun: true, limit: 6 }));
    expect(controlsOf(world.data, SHARDS)).toEqual([]);
    const real = await all(asked({ limit: 6 }));
    expect(real).toEqual(dry);
    expect(world.recording.at("debug", "asked what a verb would do")).toHaveLength(dry.pages);
  });

  test("named ones that are not halted are refused with what they do instead; the others are asked", async () => {
    const ids = [put("halted"), putOther("held", "held"), idOf("nobody")];
    const unreadable = idOf("unreadable");
    world.data
      .shard(shardOf(conversationKey(unreadable), SHARDS))
      .open.set(conversationKey(unreadable), Uint8Array.of(1, 2));
    const report = await world.operations.resolve(
      asked({ selection: { kind: "targets", targets: [...ids, unreadable, ids[0]!] } }),
    );
    expect(report.done.map(({ id }) => id)).toEqual([ids[0]]); // named twice, asked once
    expect(report.refused).toEqual(
      expect.arrayContaining([
        { target: ids[1], why: "it is held, not halted" },
        { target: ids[2], why: "it is not halted: nothing of it is unfinished" },
        { target: unreadable, why: "its entry in the index of the unfinished cannot be read" },
      ]),
    );
    expect(report.refused).toHaveLength(3);
    expect(controlsOf(world.data, SHARDS)).toHaveLength(1);
  });

  test("O5: a full inbox keeps no verb out", async () => {
    world = rig({ inboxBytesMax: 1 });
    put("c1");
    expect((await all(asked({}))).done).toHaveLength(1);
    expect(controlsOf(world.data, SHARDS)).toHaveLength(1);
  });

  test("O4: each request is a line with who, what and how many, also one that failed half-way", async () => {
    for (let i = 0; i < 9; i += 1) put(`c${i}`);
    await all(asked({ selection: { kind: "where", where: where("error~typeerror, since>1m") } }));
    const [line, ...more] = world.recording.at("info", "an operator's verb").map((text) => JSON.parse(text));
    expect(more).toEqual([]);
    expect(line).toMatchObject({
      verb: "retry",
      by: BY,
      where: "error~typeerror,since>60000ms",
      dryRun: false,
      asked: 9,
      refused: 0,
      hasMore: false,
    });
    world = rig({ append: () => Promise.reject(new StoreUnavailableError("no answer")) });
    put("c1");
    await expect(world.operations.resolve(asked({}))).rejects.toThrow(StoreUnavailableError);
    const [warning] = world.recording.at("warn").map((text) => JSON.parse(text));
    expect(warning).toMatchObject({ verb: "retry", by: BY, where: "all", error: { name: "StoreUnavailableError" } });
    expect(warning.message).toContain("twice changes nothing");
  });

  test("any index and any filter: who is asked is who is halted and meant, once each, whatever the pages", () => {
    const state = fc.constantFrom("active", "held", "halted", "quarantined");
    const entry = fc.record({
      name: fc.stringMatching(/^[a-c]\d{0,2}$/),
      state,
      reason: fc.constantFrom("poison", "gap"),
      attempts: fc.nat(4),
      waiting: fc.nat(4),
    });
    const filter = fc.constantFrom(
      "reason=gap",
      "attempts>=2",
      "waiting<3,reason!=gap",
      "conversation^=b",
      "state=halted",
    );
    return fc.assert(
      fc.asyncProperty(
        fc.array(entry, { maxLength: 60 }),
        filter,
        fc.integer({ min: 1, max: 9 }),
        async (entries, text, limit) => {
          world = rig();
          for (const { name, ...rest } of entries) {
            if (rest.state === "halted") put(name, rest);
            else putOther(name, rest.state, rest);
          }
          const last = new Map(entries.map((each) => [each.name, each]));
          const isMeant = ({ reason, attempts, waiting, name }: (typeof entries)[number]): boolean =>
            ({
              "reason=gap": reason === "gap",
              "attempts>=2": attempts >= 2,
              "waiting<3,reason!=gap": waiting < 3 && reason !== "gap",
              "conversation^=b": name.startsWith("b"),
              "state=halted": true,
            })[text]!;
          const expected = [...last.values()].filter((each) => each.state === "halted" && isMeant(each));
          await all(asked({ limit, selection: { kind: "where", where: where(text) } }));
          const controls = controlsOf(world.data, SHARDS).map(({ key }) => key);
          expect([...controls].sort()).toEqual(expected.map(({ name }) => conversationKey(idOf(name))).sort());
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe("redrive", () => {
  const redrive = (selection: Parameters<Operations["redrive"]>[0]["selection"], dryRun = false) =>
    world.operations.redrive({ selection, limit: 100, dryRun, by: BY });
  const letter = (
    conversation: string,
    fields: Readonly<Record<string, unknown>> = {},
    over: Partial<InboxMessage> = {},
  ) => {
    const id = idOf(conversation);
    return addDeadLetter(world.data, SHARDS, messageTo(id, over), id, fields);
  };
  const messages = (): InboxMessage[] =>
    [0, 1, 2].flatMap((shard) => inboxOf(world.data, shard).flat()).filter((each) => each.kind === "message");

  test("O3: the message comes back whole, under the name of its dead letter", async () => {
    const place = letter("c1", {}, { extra: { about: "m0", kind: "edit" } });
    const { done, refused } = await redrive({ kind: "targets", targets: [place] });
    expect(refused).toEqual([]);
    expect(done.map(({ id }) => id)).toEqual(["m1"]);
    const [message] = messages();
    expect(message).toMatchObject({
      key: conversationKey(idOf("c1")),
      id: "m1",
      text: "hello",
      dataJson: '{"n":1}',
      sentAtMs: 5,
      sequence: 7,
    });
    expect(message!.extra).toEqual({ about: "m0", kind: "edit", redrives: place.name.slice(3) });
    expect(world.data.shard(place.shard).dead.entries).toHaveLength(1); // it leaves with the commit that decides it
  });

  test("what cannot come back stays where it is, and why is said", async () => {
    const out = letter("c1", { direction: "out", born: null, outSeq: 1 });
    const raw = letter("c2", { body: Buffer.from("rotten").toString("base64"), reason: "checksum" });
    const foreign = letter("c3", { body: Buffer.alloc(100, 7).toString("base64") });
    const gone = { shard: 0, entry: { ms: 5, seq: 0 } };
    const none = { shard: 77, entry: { ms: 5, seq: 3 } };
    const { done, refused } = await redrive({ kind: "targets", targets: [out, raw, foreign, gone, none] });
    expect(done).toEqual([]);
    const why = (place: { shard: number; entry: { ms: number; seq: number } }) =>
      refused.find(({ target }) => target.shard === place.shard && target.entry === place.entry)?.why;
    expect(why(out)).toContain("no reply that could be sent");
    expect(why(raw)).toContain("no message that could run");
    expect(why(foreign)).toContain("no message that could run");
    expect(why(gone)).toContain("no such dead letter");
    expect(why(none)).toContain("no such dead letter");
    expect(messages()).toEqual([]);
  });

  test("a filter takes them by reason, age and error, what cannot be read is none of them, and a dry run takes none", async () => {
    letter("c1", { reason: "late" });
    letter("c2", { direction: "sideways", reason: "late" });
    letter("c3", { reason: "poison", error: "Timeout of the CRM" });
    const selection = { kind: "where", where: where("reason=late,age>1m", "dead letters") } as const;
    expect((await redrive(selection, true)).done.map(({ conversation }) => conversation)).toEqual(["c1"]);
    expect(messages()).toEqual([]);
    expect((await redrive(selection)).done.map(({ conversation }) => conversation)).toEqual(["c1"]);
    await redrive({ kind: "where", where: where("error~crm", "dead letters") });
    expect(
      messages()
        .map(({ key }) => key)
        .sort(),
    ).toEqual(["c1", "c3"].map((name) => conversationKey(idOf(name))));
    const lines = world.recording.at("info", '"verb":"redrive"').map((text) => JSON.parse(text));
    expect(lines.map(({ where: text, asked: count }) => [text, count])).toEqual([
      ["reason=late,age>60000ms", 1],
      ["error~crm", 1],
    ]);
  });

  test("O5: a conversation that is full keeps its dead letters, the others come back; so does a full inbox", async () => {
    const id = idOf("full");
    const full = letter("full");
    world.data.shard(full.shard).full.add(conversationKey(id));
    const others = Array.from({ length: 12 }, (_, i) => letter(`c${i}`));
    const { done, refused } = await redrive({ kind: "targets", targets: [full, ...others] });
    expect(done).toHaveLength(12);
    expect(refused).toEqual([{ target: full, why: expect.stringContaining("bound of its waiting list") }]);
    expect(messages()).toHaveLength(12);

    world = rig({ inboxBytesMax: 1 });
    const place = letter("c1");
    const over = await redrive({ kind: "targets", targets: [place] });
    expect(over.refused).toEqual([{ target: place, why: expect.stringContaining("inbox of its shard is full") }]);
    expect(messages()).toEqual([]);
  });

  test("entries keep to their size, and messages of one conversation to their order", async () => {
    world = rig({ entryBytesMax: 1_000 });
    const places = Array.from({ length: 30 }, (_, i) => letter("c1", {}, { id: `m${i}` }));
    await redrive({ kind: "targets", targets: [...places, places[3]!] }); // named twice
    expect(messages().map(({ id }) => id)).toEqual(places.map((_, i) => `m${i}`));
    const { shard } = places[0]!;
    expect(world.data.shard(shard).inbox.entries.length).toBeGreaterThan(5);
    for (const { bytes } of world.data.shard(shard).inbox.entries) expect(bytes.length).toBeLessThanOrEqual(1_100);
  });
});
