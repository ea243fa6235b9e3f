// Admin world: a port with the admin API over a memory store, and an owner that does what it is asked, when it is told to.

import { Inspection } from "../../actors/inspection.ts";
import { Operations } from "../../actors/operations.ts";
import { type AdminSources, adminRoutes } from "../../src/admin/admin-api.ts";
import type { ConversationView } from "../../src/admin/inspector.ts";
import { decodeLaneState, encodeLaneState } from "../../src/codec/lane-codec.ts";
import { decodeOpenEntry, encodeOpenEntry, type OpenEntry } from "../../src/codec/open-codec.ts";
import { encodeRecord } from "../../src/codec/record-codec.ts";
import { type ConversationId, conversationKey } from "../../src/domain/ids.ts";
import { type LaneState, replyName } from "../../src/domain/lane.ts";
import { newRecord, type RecordExtra } from "../../src/domain/record.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { createServer, type Server } from "../../src/ingress/server.ts";
import { silentLog } from "../../src/log.ts";
import { newCounters } from "../../src/metrics.ts";
import { MemoryData, MemoryStore } from "../../src/store/memory-store.ts";
import { RecordingLog } from "./recording-log.ts";
import {
  addDeadLetter,
  addDeadReply,
  addLane,
  addOpen,
  controlsOf,
  HALTED,
  idOf,
  inboxOf,
  LANE_HALTED,
  laneControlsOf,
  messageTo,
  shardIn,
} from "./unfinished.ts";

const SHARDS = 2;

/** One that stands in memory alone, by an error of the runtime's own. */
const crashed = (conversation: string): ConversationView => ({
  id: idOf(conversation),
  shard: 0,
  isResident: true,
  state: "halted",
  sinceMs: null,
  why: "crashing: the runtime's own code failed on it",
  attempts: 0,
  waiting: 0,
  waitingBytes: 0,
  halt: null,
  suspect: null,
  mailboxDepth: 4,
  undelivered: { replies: 0, bytes: 0 },
  lane: null,
});

class InspectionWithCrashed extends Inspection {
  readonly crashed: string[] = [];

  override inMemory(...[state]: Parameters<Inspection["inMemory"]>): ReturnType<Inspection["inMemory"]> {
    return { items: state === "halted" ? this.crashed.map(crashed) : [], next: null };
  }

  override resident({ conversation }: ConversationId): ConversationView | null {
    return this.crashed.includes(conversation) ? crashed(conversation) : null;
  }
}

export class AdminWorld {
  readonly data = new MemoryData();
  readonly recording = new RecordingLog();
  readonly #store = new MemoryStore(systemEnvironment, this.data);
  /** Conversations that the runtime's own code failed on. */
  readonly crashed: string[] = [];
  #server: Server | null = null;
  #owner: NodeJS.Timeout | null = null;

  async start(over: Partial<AdminSources> = {}): Promise<string> {
    const inspection = new InspectionWithCrashed({
      store: this.#store,
      leases: Array.from({ length: SHARDS }, () => ({ kind: "standby", owner: "elsewhere" })),
      owned: new Map(),
      nowMs: systemEnvironment.nowMs,
    });
    inspection.crashed.push(...this.crashed);
    const operations = new Operations({
      shards: SHARDS,
      store: (shard) => this.#store.shard(shard),
      inspector: inspection,
      log: this.recording.log,
      entryBytesMax: 1_048_576,
      inboxBytesMax: 1_048_576,
    });
    const sources: AdminSources = {
      version: "1.0.0",
      pid: 1,
      node: () => "n1",
      uptimeMs: () => 1,
      readiness: () => ({ ready: true }),
      durability: "always",
      counters: newCounters(),
      redis: () => ({ embedded: true, address: null, isReady: true, facts: null }),
      tree: () => {
        throw new Error("not asked for");
      },
      inspector: () => inspection,
      operator: () => operations,
      ...over,
    };
    this.#server = createServer({
      environment: systemEnvironment,
      log: silentLog,
      host: "127.0.0.1",
      port: 0,
      readiness: () => ({ ready: true }),
      metrics: { contentType: "text/plain", text: async () => "" },
      routes: { webhook: () => undefined, transcript: () => undefined, admin: adminRoutes(sources) },
    });
    await this.#server.start();
    return this.#server.url;
  }

  async stop(): Promise<void> {
    if (this.#owner !== null) clearInterval(this.#owner);
    await this.#server?.stop();
  }

  halt(conversation: string, over: Partial<OpenEntry> = {}): void {
    addOpen(this.data, SHARDS, idOf(conversation), { ...HALTED, halt: `halt-${conversation}`, ...over });
  }

  hold(conversation: string): void {
    const { halt: _, reason: __, ...rest } = HALTED;
    addOpen(this.data, SHARDS, idOf(conversation), { ...rest, state: "held", why: "gap: 5 is missing" });
  }

  record(conversation: string, extra: RecordExtra | null, state: unknown = {}): void {
    const id = idOf(conversation);
    const record = { ...newRecord({ entry: { ms: 1, seq: 0 }, index: 0 }), seq: 4, outSeq: 6, extra };
    shardIn(this.data, id, SHARDS).data.records.set(
      conversationKey(id),
      encodeRecord(record, 3, JSON.stringify(state)),
    );
  }

  /** @returns its name */
  letter(conversation: string, fields: Readonly<Record<string, unknown>> = {}): string {
    return addDeadLetter(this.data, SHARDS, messageTo(idOf(conversation)), idOf(conversation), fields).name;
  }

  lane(conversation: string, over: Partial<LaneState> = {}): void {
    addLane(this.data, SHARDS, idOf(conversation), { ...LANE_HALTED, ...over });
  }

  /** @returns its name */
  deadReply(conversation: string, fields: Readonly<Record<string, unknown>> = {}): string {
    return addDeadReply(this.data, SHARDS, idOf(conversation), fields).name;
  }

  /** Names of the lanes that were asked, each with its verb and what that names. */
  get lanesAsked(): readonly string[] {
    const controls = [0, 1].flatMap((shard) => laneControlsOf(this.data, shard).flat());
    return controls
      .map(({ key, control }) => {
        const named = control.verb === "lane-redrive" ? control.letter : control.at;
        return `${control.verb} ${key.slice(conversationKey(idOf("")).length)} ${named}`;
      })
      .sort();
  }

  /** Names of the conversations that were asked, each with its verb. */
  get asked(): readonly string[] {
    return controlsOf(this.data, SHARDS)
      .map(({ key, control }) => `${control.verb} ${key.slice(conversationKey(idOf("")).length)}`)
      .sort();
  }

  get redriven(): readonly string[] {
    const messages = [0, 1].flatMap((shard) => inboxOf(this.data, shard).flat());
    return messages.flatMap((each) => (each.kind === "message" ? [each.extra?.redrives ?? ""] : []));
  }

  /**
   * From now on the owner works off what stands in the inboxes.
   * @param haltsAgain those that halt a second time, their lanes too
   * @param isStuck those that decide no message
   */
  work(haltsAgain: readonly string[] = [], isStuck: readonly string[] = []): void {
    this.#owner = setInterval(() => {
      for (const shard of [0, 1]) {
        const of = this.data.shard(shard);
        for (const message of inboxOf(this.data, shard).flat()) {
          if (message.kind === "control") {
            const entry = of.open.get(message.key);
            if (entry === undefined) continue;
            const decoded = decodeOpenEntry(entry);
            if (decoded.halt !== message.control.halt) continue;
            const again = haltsAgain.some((name) => message.key === conversationKey(idOf(name)));
            if (again) of.open.set(message.key, encodeOpenEntry({ ...decoded, sinceMs: decoded.sinceMs + 1 }));
            else of.open.delete(message.key);
          } else if (message.kind === "message") {
            if (isStuck.some((name) => message.key === conversationKey(idOf(name)))) continue;
            const gone = of.dead.entries.filter(({ id }) => `${id.ms}-${id.seq}` === message.extra?.redrives);
            of.dead.delete(gone.map(({ id }) => id));
          }
        }
        for (const { key, control } of laneControlsOf(this.data, shard).flat()) {
          if (control.verb === "lane-redrive") {
            of.dead.delete(of.dead.entries.map(({ id }) => id).filter((id) => `${id.ms}-${id.seq}` === control.letter));
            continue;
          }
          const stored = of.lanes.get(key);
          if (stored === undefined) continue;
          const state = decodeLaneState(stored);
          if (replyName(state) !== control.at) continue;
          const again = haltsAgain.some((name) => key === conversationKey(idOf(name)));
          if (again) of.lanes.set(key, encodeLaneState({ ...state, firstFailedAtMs: state.firstFailedAtMs + 1 }));
          else of.lanes.delete(key);
        }
        of.inbox.entries = [];
      }
    }, 20);
  }
}
