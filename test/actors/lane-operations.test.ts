// What operators ask of lanes becomes messages in the inboxes of shards: which lanes, by what name, and what is said of the others.

import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { Inspection } from "../../actors/inspection.ts";
import { Operations } from "../../actors/operations.ts";
import { transferKey } from "../../actors/transfers.ts";
import type { LaneView, OpenPlace } from "../../src/admin/inspector.ts";
import type { LaneResolveRequest } from "../../src/admin/operator.ts";
import { parseWhere, type Where } from "../../src/admin/where.ts";
import { encodeLaneState } from "../../src/codec/lane-codec.ts";
import { type ConversationId, conversationKey, shardOf } from "../../src/domain/ids.ts";
import { LANE_STATES, type LaneState } from "../../src/domain/lane.ts";
import type { LaneControlMessage } from "../../src/domain/message.ts";
import { formatEntryId } from "../../src/domain/position.ts";
import { StoreUnavailableError } from "../../src/errors.ts";
import { MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import type { ShardStore } from "../../src/store/shard-store.ts";
import { RecordingLog } from "../support/recording-log.ts";
import {
  addDeadLetter,
  addDeadReply,
  addLane,
  idOf,
  inboxOf,
  LANE_HALTED,
  laneControlsOf,
  messageTo,
} from "../support/unfinished.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

const SHARDS = 3;
const BY = "127.0.0.1";
const NOW_MS = 1_600_000_600_000;

function rig(over: { append?: ShardStore["append"]; inboxBytesMax?: number } = {}) {
  const data = new MemoryData();
  const store = new MemoryStore(new VirtualEnvironment(3), data);
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
    entryBytesMax: 1_048_576,
    inboxBytesMax: over.inboxBytesMax ?? 64 * 1_048_576,
  });
  return { data, operations, recording };
}

let world: ReturnType<typeof rig>;
beforeEach(() => {
  world = rig();
});

const asked = (over: Partial<LaneResolveRequest>): LaneResolveRequest => ({
  verb: "retry",
  selection: { kind: "where", where: [] },
  limit: 100,
  dryRun: false,
  by: BY,
  ...over,
});

function where(text: string): Where {
  const parsed = parseWhere(text, "lanes");
  if (parsed.kind === "problem") throw new Error(parsed.detail);
  return parsed.where;
}

/** Page by page until the end. */
async function all(request: LaneResolveRequest): Promise<LaneView[]> {
  const done: LaneView[] = [];
  let after: OpenPlace | undefined;
  for (;;) {
    const { selection } = request;
    const report = await world.operations.resolveLanes(
      selection.kind === "where" ? { ...request, selection: { ...selection, after } } : request,
    );
    done.push(...report.done);
    if (report.next === null) return done;
    after = report.next;
  }
}

function put(conversation: string, over: Partial<LaneState> = {}): ConversationId {
  const id = idOf(conversation);
  addLane(world.data, SHARDS, id, { ...LANE_HALTED, ...over });
  return id;
}

const controls = (): LaneControlMessage[] => [0, 1, 2].flatMap((shard) => laneControlsOf(world.data, shard).flat());
const names = (ids: readonly ConversationId[]): string[] => ids.map(({ conversation }) => conversation).sort();

describe("retry and skip", () => {
  test("Q1: ask each lane that the filter means, by the name of the reply at its head, in the inbox of its shard", async () => {
    const meant = Array.from({ length: 40 }, (_, i) =>
      put(`a${i}`, { outSeq: i + 1, ...(i % 2 === 0 && { part: 3 }) }),
    );
    for (let i = 0; i < 10; i += 1) put(`b${i}`, { reason: "HTTP 500", halt: "exhausted" });
    const done = await all(
      asked({ verb: "skip", limit: 7, selection: { kind: "where", where: where("reason=terminal") } }),
    );
    expect(names(done.map(({ id }) => id))).toEqual(names(meant));
    const found = controls();
    expect(found).toHaveLength(40);
    for (const { key, control } of found) {
      const i = meant.findIndex((id) => conversationKey(id) === key);
      expect(control).toEqual({ verb: "lane-skip", at: `k0-0-0.${i + 1}${i % 2 === 0 ? ".3" : ""}`, by: BY });
      expect(laneControlsOf(world.data, shardOf(key, SHARDS)).flat()).toContainEqual(expect.objectContaining({ key }));
    }
  });

  test("retry means what is halted, closed or retrying, skip what is halted", async () => {
    for (const state of LANE_STATES) put(state, { state });
    put("untried", { state: "retrying", born: "", outSeq: 0, attempts: 0, reason: "" });
    expect(names((await all(asked({ dryRun: true }))).map(({ id }) => id))).toEqual(["closed", "halted", "retrying"]);
    const skipped = await all(asked({ verb: "skip", dryRun: true }));
    expect(names(skipped.map(({ id }) => id))).toEqual(["halted"]);
    expect(controls()).toEqual([]);
  });

  test("named ones that are nothing for the verb are refused with what they do instead; the others are asked", async () => {
    const [halted, flowing, retrying] = [put("halted"), put("flowing", { state: "flowing" }), idOf("retrying")];
    put("retrying", { state: "retrying", nextAtMs: NOW_MS });
    put("untried", { state: "retrying", born: "" });
    const closed = put("closed", { state: "closed" });
    const rotten = idOf("rotten");
    world.data.shard(shardOf(conversationKey(rotten), SHARDS)).lanes.set(conversationKey(rotten), Uint8Array.of(1));
    const targets = [halted, flowing, retrying, closed, rotten, idOf("nobody"), halted];
    const report = await world.operations.resolveLanes(
      asked({ verb: "skip", selection: { kind: "targets", targets } }),
    );
    expect(report.done.map(({ id }) => id)).toEqual([halted]); // named twice, asked once
    expect(report.refused).toEqual([
      { target: flowing, why: "its lane flows; nothing of it stands still" },
      {
        target: retrying,
        why: "its lane is retrying, not halted; it goes on by itself, next at 2020-09-13T12:36:40.000Z",
      },
      { target: closed, why: expect.stringContaining("retry opens it") },
      { target: rotten, why: "what is stored of its lane cannot be read; it is left untouched" },
      { target: idOf("nobody"), why: "its lane flows; nothing of it stands still" },
    ]);
    expect(controls()).toHaveLength(1);
    const untried = await world.operations.resolveLanes(
      asked({ selection: { kind: "targets", targets: [idOf("untried")] } }),
    );
    expect(untried.refused[0]!.why).toContain("waits for its account");
  });

  test("Q3: what one shard sends to another may be retried, in the shard that sends it, and never skipped", async () => {
    const key = transferKey(2);
    for (const shard of [0, 1])
      world.data.shard(shard).lanes.set(key, encodeLaneState({ ...LANE_HALTED, outSeq: shard }));
    const skipped = await world.operations.resolveLanes(asked({ verb: "skip" }));
    expect(skipped.done).toEqual([]);
    expect(skipped.refused.map(({ why }) => why)).toEqual([
      expect.stringContaining("not given up"),
      expect.stringContaining("not given up"),
    ]);
    expect(controls()).toEqual([]);
    expect(await all(asked({}))).toHaveLength(2);
    for (const shard of [0, 1])
      expect(laneControlsOf(world.data, shard).flat()).toMatchObject([{ key, control: { at: `k0-0-0.${shard}` } }]);
  });

  test("many go in few entries of at most 500, also into an inbox that is full", async () => {
    world = rig({ inboxBytesMax: 1 });
    for (let i = 0; i < 1_700; i += 1) put(`c${i}`);
    expect(await all(asked({ limit: 10_000 }))).toHaveLength(1_700);
    const entries = [0, 1, 2].flatMap((shard) => laneControlsOf(world.data, shard));
    expect(Math.max(...entries.map(({ length }) => length))).toBeLessThanOrEqual(500);
    expect(entries.length).toBeLessThanOrEqual(6);
    expect(entries.flat()).toHaveLength(1_700);
  });

  test("asked twice it is the same message twice: the lane sees that the second names what is over", async () => {
    put("c1");
    await all(asked({}));
    await all(asked({}));
    const [first, second, ...more] = controls();
    expect(more).toEqual([]);
    expect(second!.control).toEqual(first!.control);
  });

  test("O4: each request is a line with who, what and how many, also one that failed half-way", async () => {
    for (let i = 0; i < 9; i += 1) put(`c${i}`);
    await all(asked({ dryRun: true }));
    expect(world.recording.at("info")).toEqual([]);
    await all(asked({ selection: { kind: "where", where: where("error~http, since>1m") } }));
    const [line, ...more] = world.recording.at("info", "an operator's verb").map((text) => JSON.parse(text));
    expect(more).toEqual([]);
    expect(line).toMatchObject({ verb: "lane-retry", by: BY, where: "error~http,since>60000ms", asked: 9, refused: 0 });
    world = rig({ append: () => Promise.reject(new StoreUnavailableError("no answer")) });
    put("c1");
    await expect(world.operations.resolveLanes(asked({ verb: "skip" }))).rejects.toThrow(StoreUnavailableError);
    const [warning] = world.recording.at("warn").map((text) => JSON.parse(text));
    expect(warning).toMatchObject({ verb: "lane-skip", where: "all", error: { name: "StoreUnavailableError" } });
  });

  test("any lanes and any filter: who is asked is who stands and is meant, once each, whatever the pages", () => {
    const lane = fc.record({
      name: fc.stringMatching(/^[a-c]\d{0,2}$/),
      state: fc.constantFrom(...LANE_STATES),
      attempts: fc.nat(4),
      born: fc.constantFrom("", "k0-0-0", "k1-0-0"),
    });
    const filters: Readonly<Record<string, (each: { attempts: number; born: string; name: string }) => boolean>> = {
      "attempts>=2": ({ attempts }) => attempts >= 2,
      "born=k1-0-0": ({ born }) => born === "k1-0-0",
      "conversation^=b": ({ name }) => name.startsWith("b"),
      "since>1ms": () => true,
    };
    return fc.assert(
      fc.asyncProperty(
        fc.array(lane, { maxLength: 60 }),
        fc.constantFrom(...Object.keys(filters)),
        fc.constantFrom("retry", "skip"),
        fc.integer({ min: 1, max: 9 }),
        async (lanes, text, verb, limit) => {
          world = rig();
          for (const { name, ...rest } of lanes) put(name, rest);
          const last = [...new Map(lanes.map((each) => [each.name, each])).values()];
          const states = verb === "retry" ? ["halted", "closed", "retrying"] : ["halted"];
          const expected = last.filter(
            (each) => states.includes(each.state) && each.born !== "" && filters[text]!(each),
          );
          await all(asked({ verb, limit, selection: { kind: "where", where: where(text) } }));
          expect(
            controls()
              .map(({ key }) => key)
              .sort(),
          ).toEqual(expected.map(({ name }) => conversationKey(idOf(name))).sort());
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe("redrive of replies", () => {
  const redrive = (selection: Parameters<Operations["redrive"]>[0]["selection"], dryRun = false) =>
    world.operations.redrive({ selection, limit: 100, dryRun, by: BY });
  const reply = (conversation: string, fields: Readonly<Record<string, unknown>> = {}) =>
    addDeadReply(world.data, SHARDS, idOf(conversation), fields);
  const message = (conversation: string) =>
    addDeadLetter(world.data, SHARDS, messageTo(idOf(conversation)), idOf(conversation));

  test("O3, Q2: the lane is asked by the name of the letter, which stays until its commit; nothing is copied", async () => {
    const place = reply("c1", { part: 2, parts: 3 });
    const { done, refused } = await redrive({ kind: "targets", targets: [place, place] });
    expect(refused).toEqual([]);
    expect(done).toMatchObject([{ direction: "out", conversation: "c1", outSeq: 4, part: 2, parts: 3 }]);
    expect(controls()).toMatchObject([
      {
        key: conversationKey(idOf("c1")),
        control: { verb: "lane-redrive", letter: formatEntryId(place.entry), by: BY },
      },
    ]);
    expect(world.data.shard(place.shard).dead.entries).toHaveLength(1);
  });

  test("messages and replies mixed: each goes its way, replies of one lane in their order", async () => {
    const first = reply("c1", { outSeq: 1 });
    const between = message("c1");
    const second = reply("c1", { outSeq: 2 });
    const dry = await redrive({ kind: "where", where: [] }, true);
    expect(dry.done).toHaveLength(3);
    expect(inboxOf(world.data, first.shard)).toEqual([]);
    const { done, refused } = await redrive({ kind: "where", where: [] });
    expect(refused).toEqual([]);
    expect(new Set(done.map(({ place }) => formatEntryId(place.entry)))).toEqual(
      new Set([first, between, second].map(({ entry }) => formatEntryId(entry))),
    );
    expect(controls().map(({ control }) => "letter" in control && control.letter)).toEqual(
      [first, second].map(({ entry }) => formatEntryId(entry)),
    );
    expect(inboxOf(world.data, first.shard).flat()).toMatchObject([{ kind: "message", id: "m1" }]);
  });

  test("a filter tells them apart: direction and reason", async () => {
    reply("c1", { reason: "expired" });
    reply("c2", { reason: "terminal" });
    message("c3");
    const filter = parseWhere("direction=out,reason=expired", "dead letters");
    if (filter.kind === "problem") throw new Error(filter.detail);
    const { done } = await redrive({ kind: "where", where: filter.where });
    expect(done.map(({ conversation }) => conversation)).toEqual(["c1"]);
    expect(controls()).toHaveLength(1);
  });

  test("O5: they pass a full inbox and a full conversation, since they only name what is stored", async () => {
    world = rig({ inboxBytesMax: 1 });
    const place = reply("c1");
    world.data.shard(place.shard).full.add(conversationKey(idOf("c1")));
    expect((await redrive({ kind: "targets", targets: [place] })).refused).toEqual([]);
    expect(controls()).toHaveLength(1);
  });

  test.each<[string, Readonly<Record<string, unknown>>]>([
    ["without a place", { outSeq: undefined }],
    ["without a conversation", { conversation: undefined }],
    ["of one shard to another", { bot: "!transfer", channel: "!transfer", conversation: "1" }],
  ])("a letter %s stays where it is, and why is said", async (_, fields) => {
    const place = reply("c1", fields);
    const { done, refused } = await redrive({ kind: "targets", targets: [place] });
    expect(done).toEqual([]);
    expect(refused).toEqual([{ target: place, why: expect.stringContaining("stays where it is") }]);
    expect(controls()).toEqual([]);
  });
});
