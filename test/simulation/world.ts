// World: one simulated run. Several processes of the real runtime contend for the shards of one store, senders send and repeat,
// a recipient takes replies, and by the seed processes die, sleep, are replaced, and lose their ways to the store.
//
// Invariants
//   Z1. All that happens is an event of one scheduler; the seed decides all of it (the same seed gives the same trace).
//   Z2. What goes into the history is what the parties outside of the runtime saw, and what the store holds; nothing a process says
//       of itself, but its alarms.
//   Z3. A run ends with the world mended and nothing left to do, or it is stuck, which is a violation.

import type { WakeUps } from "../../actors/retry-worker.ts";
import type { AccountOptions, Channel, ProbeOutcome, RetryBudget, SendOutcome } from "../../src/channels/channel.ts";
import { decodeDeadLetter } from "../../src/codec/dead-letter-codec.ts";
import { decodeInboxEntry, decodeWaiting } from "../../src/codec/inbox-codec.ts";
import { decodeLaneState, type LaneState } from "../../src/codec/lane-codec.ts";
import { decodeOpenEntry } from "../../src/codec/open-codec.ts";
import { decodeOutboxEntry, hasBit } from "../../src/codec/outbox-codec.ts";
import { decodeRecord } from "../../src/codec/record-codec.ts";
import { type Config, type ConfigOptions, resolveConfig } from "../../src/config.ts";
import type { ExternalOrder } from "../../src/domain/external-order.ts";
import { type ConversationId, type ConversationKey, parseConversationKey } from "../../src/domain/ids.ts";
import type { Inbound } from "../../src/domain/message.ts";
import { formatBorn, formatEntryId } from "../../src/domain/position.ts";
import { transcriptBotLine } from "../../src/domain/transcript.ts";
import type { Environment } from "../../src/environment.ts";
import { severityOf } from "../../src/errors.ts";
import { type Log, silentLog } from "../../src/log.ts";
import { MemoryData, type MemoryShard, MemoryStore } from "../../src/store/memory-store.ts";
import type { AcquireReply, AppendReply, Commit, ShardStore, Store } from "../../src/store/shard-store.ts";
import { Scheduler, SimulatedLife } from "../../src/testing/scheduler.ts";
import { SimulatedProcess } from "../../src/testing/simulated-process.ts";
import { SimulatedStore, type StoreCall } from "../../src/testing/simulated-store.ts";
import { Sabotage, Saboteur } from "../support/saboteur.ts";
import type {
  Acquisition,
  AppliedCommit,
  ArrivedSend,
  CommittedRecord,
  CommittedReply,
  Effect,
  ReceivedDelivery,
  SentMessage,
  SentRequest,
  SimulatedHistory,
} from "./history.ts";
import { cellsOf, Injector, type Weather, weatherOf } from "./injector.ts";
import { type FaultKind, type Stage, type Step, stepsOf } from "./steps.ts";
import { StoreRecorder } from "./store-recorder.ts";
import { TrailHandlers } from "./trail-handler.ts";
import { WakeUpQueue } from "./wake-up-queue.ts";

export interface RunReport {
  readonly seed: number;
  /** Of every event with its process and time: equal for equal runs. */
  readonly traceHash: string;
  /** Requests, calls to the store, deliveries, turns, wake-ups and faults; no ticks of clocks. */
  readonly events: number;
  /** All that the scheduler did. */
  readonly steps: number;
  readonly virtualMs: number;
  readonly cellHits: ReadonlyMap<string, number>;
  readonly faultHits: ReadonlyMap<string, number>;
  readonly history: SimulatedHistory;
  /** The last events, for people. */
  readonly tail: readonly string[];
}

const NODES = ["a", "b"];
/** At least; in 4 to 9 conversations. Senders go on as long as the run had fewer events than it should. */
const MESSAGES = 30;
export const EVENTS_MIN = 1_000;
/** Its replies are sent. */
const CHANNEL = "far";
/** Its replies go to the transcript. */
const NEAR_CHANNEL = "near";
/** Their messages have numbers: without holes, and with. */
const COUNTED_CHANNEL = "counted";
const RISING_CHANNEL = "rising";
type NumberedChannel = typeof COUNTED_CHANNEL | typeof RISING_CHANNEL;
const LEASE_TTL_MS = 1_000;
const HANDLER_TIMEOUT_MS = 3_000;
const ANSWER_WITHIN_MS = 2_500;
const FAULTS_UNTIL_MS = 20_000;
const SENT_WITHIN_MS = 15 * 60_000;
const DRAINED_WITHIN_MS = 15 * 60_000;
const TAIL = 60;
const KIB = 1_024;
/** Six messages of a request stay below its bound. */
const PADDING_MAX = 60;
/** Of clocks and turns of the event loop: nothing that a party of the run does. */
const TICKS: ReadonlySet<string> = new Set(["timer", "soon", "actor"]);

export interface WorldOptions {
  /** Stands between the ways to the store and the store: a store that breaks its contract, to see that it is found out. */
  readonly wrapShard?: (shard: ShardStore, data: MemoryShard) => ShardStore;
  /** The same around what concerns no single shard. */
  readonly wrapStore?: (store: Store, process: string) => Store;
  /** The same between the runtime and the recipient. */
  readonly wrapChannel?: (channel: Channel) => Channel;
  /** The same between the runtime and the queue of its wake-ups. */
  readonly wrapWakeUps?: (wakeUps: WakeUps) => WakeUps;
  /** What a process takes for time and chance. */
  readonly wrapEnvironment?: (environment: Environment) => Environment;
}

/** Runs the world of a seed to its end. */
export async function runWorld(seed: number, options: WorldOptions = {}): Promise<RunReport> {
  return new World(seed, options).run();
}

interface Sender {
  readonly to: Inbound["to"];
  readonly name: string;
  /** Not sent yet. */
  left: number;
  sent: number;
  /** Requests under way. */
  flying: number;
  readonly window: number;
  /** What the outside numbers its messages with; null for a channel without numbers. */
  number: { epoch: number; sequence: number } | null;
}

interface OpenRequest {
  readonly conversation: string;
  readonly ids: readonly string[];
  readonly firstSentAt: number;
  ackedAt: number | null;
}

class World {
  readonly #seed: number;
  readonly #options: WorldOptions;
  readonly #scheduler: Scheduler;
  readonly #redis: SimulatedLife;
  readonly #data = new MemoryData();
  readonly #config: Config;
  readonly #weather: Weather;
  readonly #injector: Injector;
  readonly #queues = new Map<number, WakeUpQueue>();
  /** The living, or last, process of each node. */
  readonly #processes = new Map<string, SimulatedProcess>();
  readonly #everyProcess: SimulatedProcess[] = [];
  readonly #saboteurs = new Map<SimulatedProcess, Saboteur>();
  readonly #wantsReleases: boolean;
  readonly #isTight: boolean;
  #events = 0;
  #traceA = 0x811c9dc5;
  #traceB = 0x1b873593;
  #tail: string[] = [];
  #isStoreAway = false;
  #mendedAt = 0;

  readonly #senders: Sender[] = [];
  readonly #messages: SentMessage[] = [];
  readonly #requests: OpenRequest[] = [];
  readonly #deliveries: ReceivedDelivery[] = [];
  readonly #everCommitted = new Set<string>();
  readonly #commits: AppliedCommit[] = [];
  readonly #recorder: StoreRecorder;
  readonly #handlers: TrailHandlers;
  readonly #orders: Readonly<Record<NumberedChannel, ExternalOrder>>;
  readonly #account: AccountOptions;
  /** What the numbered channels say of their lanes. */
  readonly #manners: Readonly<Record<NumberedChannel, Pick<Channel, "onAmbiguous" | "ackFirst" | "retry">>>;
  readonly #effects: Effect[] = [];
  readonly #sends: ArrivedSend[] = [];
  /** An operator resolves what is halted at the end as well. */
  readonly #isResolved: boolean;
  readonly #acquisitions: Acquisition[] = [];
  readonly #alarms: string[] = [];

  constructor(seed: number, options: WorldOptions) {
    this.#seed = seed;
    this.#options = options;
    this.#scheduler = new Scheduler({
      seed,
      hasteShare: [0, 0.05, 0.15, 0.3][seed % 4]!,
      onEvent: (event) => this.#note(event.label, event.process, event.atMs),
    });
    const cells = cellsOf(seed);
    this.#redis = new SimulatedLife(this.#scheduler, "redis");
    this.#weather = weatherOf(this.#random, cells);
    this.#injector = new Injector(this.#scheduler, this.#weather, cells, (kind, life) => this.#strike(kind, life));
    this.#wantsReleases = cells.some(({ step }) => step === "S19 release");
    // A halted lane holds up whoever shares a tight bound with it, until an operator comes, so there are none then.
    this.#isTight = this.#weather.refusal === 0 && this.#random() < 0.4;
    this.#config = resolveConfig({
      shards: this.#pick(1, 2, 3),
      leaseTtlMs: LEASE_TTL_MS,
      ackDelayMs: this.#pick(0, 20, 200),
      drainMs: 4_000,
      dedupeMs: this.#pick(120_000, 600_000), // repeats come within seconds, or when a full list has room again
      residentsMax: this.#pick(2, 1_000),
      drainTurnsMax: this.#pick(1, 64),
      logLevel: "silent",
      repliesMax: 3,
      spillMs: this.#pick(100, 1_000),
      suspectGroupMax: this.#pick(2, 64),
      ...(this.#isTight && this.#tightBounds()),
    });
    this.#isResolved = this.#isTight || this.#random() < 0.6;
    this.#orders = {
      [COUNTED_CHANNEL]: {
        mode: "contiguous",
        gapTimeoutMs: this.#pick(200, 800),
        settleMs: 200,
        maxHeld: this.#pick(2, 64),
        firstSequence: this.#pick(1, null),
      },
      [RISING_CHANNEL]: { mode: "monotonic", settleMs: this.#pick(0, 300), maxHeld: this.#pick(2, 64) },
    };
    this.#account = {
      concurrency: this.#pick(1, 3, 128),
      breakerFailures: this.#pick(2, 5, 20),
      breakerOpenMs: this.#pick(50, 400),
      breakerOpenMsMax: 800,
      ...(this.#random() < 0.2 && { ratePerSecond: this.#pick(20, 200) }),
    };
    // Attempts and time that may be used up, and what halts by itself, only where a halted lane holds up nobody.
    const retry = this.#isTight ? {} : { retry: this.#pick<RetryBudget>({}, { attemptsMax: 4 }, { budgetMs: 1_500 }) };
    this.#manners = {
      [COUNTED_CHANNEL]: { onAmbiguous: this.#isTight ? "probe" : this.#pick("retry", "probe", "halt"), ...retry },
      [RISING_CHANNEL]: { ackFirst: this.#random() < 0.5, ...retry },
    };
    this.#recorder = new StoreRecorder(this.#data, this.#config.shards);
    const poison = { maxAttempts: this.#pick(1, 2, 4), poisonMinMs: this.#pick(0, 300, 600_000) };
    this.#handlers = new TrailHandlers(
      {
        scheduler: this.#scheduler,
        injector: this.#injector,
        weather: this.#weather,
        effects: this.#effects,
        sendsTo: CHANNEL,
        happened: () => {
          this.#events += 1;
        },
        kill: (life) => this.#strike("kill", life, "killed by its handler"),
      },
      HANDLER_TIMEOUT_MS,
      poison,
    );
  }

  /** P7: bounds that even this little traffic reaches. */
  #tightBounds(): ConfigOptions {
    return {
      requestBytesMax: 4 * KIB,
      messageBytesMax: 4 * KIB,
      entryBytesMax: 8 * KIB,
      admissionBytesMax: 16 * KIB,
      inboxBytesMax: this.#pick(8 * KIB, 64 * KIB),
      readAheadBytesMax: 8 * KIB,
      uncommittedTurnsMax: this.#pick(1, 4, 256),
      uncommittedBytesMax: 8 * KIB,
      stateBytesMax: 32 * KIB,
      mailboxMax: this.#pick(1, 4, 1_024),
      mailboxBytesMax: this.#pick(8 * KIB, 64 * KIB),
      waitingMax: this.#pick(4, 20, 1_000),
      waitingBytesMax: this.#pick(8 * KIB, 64 * KIB),
      journalBytesMax: 8 * KIB,
      replyBytesMax: 1 * KIB,
      turnReplyBytesMax: 3 * KIB,
      laneBacklogMax: this.#pick(3, 20, 1_000),
      laneBacklogBytesMax: 3 * KIB,
      commitKeysMax: this.#pick(4, 12, 4_000),
      commitBytesMax: 64 * KIB,
      outboxBytesMax: 64 * KIB,
      runningTurnsMax: this.#pick(1, 2, 1_024),
    };
  }

  async run(): Promise<RunReport> {
    const startMs = this.#scheduler.nowMs;
    this.#start("a");
    this.#scheduler.schedule("start", this.#random() * 300, () => this.#start("b"));
    this.#makeSenders();
    this.#planFaults();
    this.#operateSoon();
    const areSent = await this.#scheduler.until(() => this.#areSent && this.#isPast(startMs), SENT_WITHIN_MS);
    if (!areSent) this.#alarms.push(`not all was acknowledged within ${SENT_WITHIN_MS} ms`);
    this.#mend();
    const isDrained = await this.#scheduler.until(() => this.#isDrained, DRAINED_WITHIN_MS);
    if (!isDrained) this.#alarms.push(`not drained within ${DRAINED_WITHIN_MS} ms: ${this.#told()}`);
    for (const process of this.#everyProcess) {
      for (const crash of process.crashes) this.#alarms.push(`${process.life.name} crashed: ${String(crash)}`);
      process.kill();
    }
    return {
      seed: this.#seed,
      traceHash: `${(this.#traceA >>> 0).toString(16)}${(this.#traceB >>> 0).toString(16)}`,
      events: this.#events,
      steps: this.#scheduler.count,
      virtualMs: this.#scheduler.nowMs - startMs,
      cellHits: this.#injector.cellHits,
      faultHits: this.#faultHits(),
      history: this.#history(),
      tail: this.#tail,
    };
  }

  // --- processes --------------------------------------------------------------------------------------------------------

  #start(node: string): void {
    const before = this.#processes.get(node);
    if (before !== undefined && !before.life.isDead) return;
    this.#processes.set(node, this.#newProcess(node));
  }

  #newProcess(node: string): SimulatedProcess {
    const name = `${node}${this.#everyProcess.length}`;
    let saboteur!: Saboteur;
    const process: SimulatedProcess = new SimulatedProcess({
      scheduler: this.#scheduler,
      node,
      name,
      config: this.#config,
      log: this.#alarmLog(name, () => saboteur.struck.length > 0),
      seen: (life, counters) => {
        saboteur = new Saboteur(this.#options.wrapEnvironment?.(life) ?? life, counters);
        return saboteur;
      },
      onExit: () => this.#exited(process, saboteur),
      bots: (life) => [this.#handlers.bot("strict", life), this.#handlers.bot("available", life)],
      channels: (life) => [...this.#sendingChannels(life), nearChannel],
      wakeUps: (life, shard, ring) => {
        const port = this.#queue(shard).port(life, ring);
        return this.#options.wrapWakeUps?.(port) ?? port;
      },
      store: (life) => {
        if (this.#random() < 0.2) life.skewMs = Math.floor((this.#random() - 0.5) * 10_000);
        const store = new SimulatedStore(this.#scheduler, life, this.#newStore(name), {
          fate: this.#injector.fate,
          delayMs: () => this.#delayMs(),
          reached: (call, stage) => {
            for (const step of stepsOf(call)) this.#injector.reached(step, stage, life);
          },
          executed: (call, result) => this.#executed(call, result, name),
        });
        if (this.#isStoreAway) store.disconnect();
        return store;
      },
    });
    this.#everyProcess.push(process);
    this.#saboteurs.set(process, saboteur);
    return process;
  }

  #newStore(name: string): Store {
    const store = new MemoryStore(this.#redis, this.#data);
    const { wrapShard, wrapStore = (inner: Store) => inner } = this.#options;
    if (wrapShard === undefined) return wrapStore(store, name);
    const shards = new Map<number, ShardStore>();
    const whole: Store = {
      openNamespace: (wanted) => store.openNamespace(wanted),
      facts: () => store.facts(),
      scanConversations: (request) => store.scanConversations(request),
      isReady: () => store.isReady(),
      onReadyChange: (listener) => store.onReadyChange(listener),
      close: () => store.close(),
      shard: (index) => {
        const wrapped = shards.get(index) ?? wrapShard(store.shard(index), this.#data.shard(index));
        shards.set(index, wrapped);
        return wrapped;
      },
    };
    return wrapStore(whole, name);
  }

  #queue(shard: number): WakeUpQueue {
    let queue = this.#queues.get(shard);
    if (queue === undefined) {
      const share = this.#weather.wakeUps;
      const faults = { lost: share / 3, doubled: share / 3, late: share / 3 };
      queue = new WakeUpQueue(this.#scheduler, faults, this.#injector.reached);
      this.#queues.set(shard, queue);
    }
    return queue;
  }

  /** The tree gave up, which only its own code's crashes may bring about. Whoever started the process starts it again. */
  #exited(process: SimulatedProcess, saboteur: Saboteur): void {
    this.#injector.count("own code gave up");
    if (saboteur.struck.length === 0) this.#alarms.push(`${process.life.name}: the tree gave up`);
    process.kill();
    this.#restart(process, 1_000);
  }

  /** What only a bug, or a store that lost what it had confirmed, makes the runtime say; or its own code that was made to crash. */
  #alarmLog(name: string, isSabotaged: () => boolean): Log {
    const log: Log = {
      ...silentLog,
      fatal: (fields, message) => {
        if (!isSabotaged()) this.#alarms.push(`${name}: ${message} ${JSON.stringify(fields)}`);
      },
      child: () => log,
    };
    return log;
  }

  // --- the far end ------------------------------------------------------------------------------------------------------

  #sendingChannels(life: SimulatedLife): Channel[] {
    const far = this.#options.wrapChannel?.(this.#channel(life)) ?? this.#channel(life);
    const numbered = Object.entries(this.#orders).map(
      ([name, order]): Channel => ({ ...far, ...this.#manners[name as NumberedChannel], name, order }),
    );
    return [far, ...numbered];
  }

  /** What a party outside knows of a key: whether it ever took it. */
  #asked(key: string): ProbeOutcome {
    if (this.#injector.strikes("probe unclear", this.#weather.delivery / 4))
      return { kind: "unknown", reason: "no answer" };
    const isThere = this.#deliveries.some((delivery) => delivery.key === key && delivery.isAccepted);
    this.#injector.count(`probe ${isThere ? "delivered" : "absent"}`);
    return isThere ? { kind: "delivered" } : { kind: "absent" };
  }

  #channel(life: SimulatedLife): Channel {
    return {
      name: CHANNEL,
      delivery: "lane",
      account: this.#account,
      probe: ({ idempotencyKey }) =>
        new Promise((resolve) => {
          this.#scheduler.schedule("probe", this.#deliveryDelayMs(), () => {
            const outcome = this.#asked(idempotencyKey);
            life.schedule("probe answered", this.#delayMs(), () => resolve(outcome));
          });
        }),
      render: ({ inReplyTo, reply }) => Buffer.from(JSON.stringify({ text: reply.text, inReplyTo })),
      send: ({ to, outSeq, idempotencyKey, body }, signal) =>
        new Promise<SendOutcome>((resolve) => {
          this.#reached("S13 send", "before", life);
          if (life.isDead) return;
          const finish = (outcome: SendOutcome): void => {
            signal.removeEventListener("abort", onAbort);
            resolve(outcome);
          };
          const onAbort = (): void => finish({ kind: "ambiguous", reason: "aborted" });
          signal.addEventListener("abort", onAbort);
          const text = Buffer.from(body).toString();
          const conversation = nameOf(to);
          const go = (): void => {
            this.#scheduler.schedule("delivery", this.#deliveryDelayMs(), () => {
              const outcome = this.#receive(conversation, idempotencyKey, outSeq, text);
              life.schedule("delivery answered", this.#delayMs(), () => {
                this.#reached("S14 response", "before", life);
                if (life.isDead) return;
                finish(outcome);
                this.#scheduler.afterwards(() => this.#reached("S14 response", "after", life));
              });
            });
            this.#scheduler.afterwards(() => this.#reached("S13 send", "after", life));
          };
          if (life.isPaused) life.schedule("late delivery", 0, go);
          else go();
        }),
    };
  }

  #receive(conversation: string, key: string, sequence: number, body: string): SendOutcome {
    const { delivery, refusal } = this.#weather;
    const receive = (isAccepted: boolean): void => {
      this.#deliveries.push({ conversation, key, sequence, body, at: this.#scheduler.count, isAccepted });
    };
    if (this.#injector.strikes("delivery lost", delivery / 4)) return { kind: "ambiguous", reason: "no answer" };
    if (this.#injector.strikes("delivery failed", delivery / 3)) {
      receive(false);
      return { kind: "retryable", reason: "HTTP 503", ...(this.#random() < 0.3 && { retryAfterMs: 700 }) };
    }
    if (this.#injector.strikes("delivery unclear", delivery / 3)) {
      receive(true);
      return { kind: "ambiguous", reason: "reset" };
    }
    if (this.#injector.strikes("delivery refused", refusal)) {
      receive(false);
      return this.#random() < 0.15 ? { kind: "gone", reason: "HTTP 410" } : { kind: "terminal", reason: "HTTP 400" };
    }
    receive(true);
    return { kind: "delivered" };
  }

  // --- senders ----------------------------------------------------------------------------------------------------------

  #makeSenders(): void {
    const conversations = 4 + Math.floor(this.#random() * 6);
    const perConversation = Math.ceil(MESSAGES / conversations);
    for (let i = 0; i < conversations; i += 1) {
      const bot = this.#random() < 0.5 ? "strict" : "available";
      const channel = this.#weather.needsNumbers
        ? this.#pick(CHANNEL, COUNTED_CHANNEL, COUNTED_CHANNEL, RISING_CHANNEL)
        : this.#pick(NEAR_CHANNEL, CHANNEL, CHANNEL, COUNTED_CHANNEL, RISING_CHANNEL);
      const number = channel === COUNTED_CHANNEL || channel === RISING_CHANNEL ? { epoch: 0, sequence: 0 } : null;
      const to = { bot, channel, conversation: `c${i}` };
      const window = this.#random() < 0.5 ? 1 : 3;
      const sender: Sender = { to, name: nameOf(to), left: perConversation, sent: 0, flying: 0, window, number };
      this.#senders.push(sender);
      this.#sendSoon(sender);
    }
  }

  get #areSent(): boolean {
    return this.#senders.every(({ left, flying }) => left === 0 && flying === 0);
  }

  #sendSoon(sender: Sender): void {
    if (sender.left === 0 || sender.flying >= sender.window) return;
    const thinkMs = this.#random() < 0.1 ? this.#random() * 3_000 : this.#random() * 250;
    sender.flying += 1;
    this.#scheduler.schedule("sender", thinkMs, () => this.#sendNow(sender));
  }

  /** One request; now and then another conversation's messages ride in it, of whatever shard. */
  #sendNow(sender: Sender): void {
    if (sender.left === 0) {
      sender.flying -= 1; // its last ones rode in another's request
      return;
    }
    const others = this.#senders.filter((other) => other !== sender && other.left > 0 && other.flying < other.window);
    const rider = this.#random() < 0.2 ? others[Math.floor(this.#random() * others.length)] : undefined;
    if (rider !== undefined) rider.flying += 1;
    const parts = [sender, ...(rider === undefined ? [] : [rider])];
    const inbound = parts.flatMap((part) => this.#take(part));
    const requests = parts.map(({ name }): OpenRequest => {
      const ids = inbound.filter(({ to }) => nameOf(to) === name).map(({ id }) => id);
      return { conversation: name, ids, firstSentAt: this.#scheduler.count, ackedAt: null };
    });
    this.#requests.push(...requests);
    for (const part of parts) this.#sendSoon(part);
    this.#attempt(inbound, () => {
      for (const request of requests) request.ackedAt = this.#scheduler.count;
      for (const part of parts) {
        part.flying -= 1;
        if (part.left === 0 && this.#events < EVENTS_MIN) part.left = 3;
        this.#sendSoon(part);
      }
    });
  }

  #take(sender: Sender): Inbound[] {
    const count = Math.min(sender.left, 1 + Math.floor(this.#random() * 3));
    sender.left -= count;
    return Array.from({ length: count }, () => this.#newMessage(sender));
  }

  /** What the outside numbers its next message with. Some never come, some come when those behind them have long come. */
  #nextNumber(sender: Sender): Pick<Inbound, "sequence" | "epoch"> {
    const { number } = sender;
    if (number === null) return {};
    const { missing } = this.#weather;
    if (this.#injector.strikes("numbers began anew", missing / 6)) {
      number.epoch += 1;
      number.sequence = 0;
    }
    if (this.#injector.strikes("number missing", missing)) number.sequence += 1;
    if (sender.to.channel === RISING_CHANNEL) number.sequence += Math.floor(this.#random() * 3);
    number.sequence += 1;
    if (this.#injector.strikes("number late", missing)) {
      this.#sendLate(sender, { ...number });
      number.sequence += 1;
    }
    return { sequence: number.sequence, ...(number.epoch > 0 && { epoch: number.epoch }) };
  }

  #sendLate(sender: Sender, number: Pick<Inbound, "sequence" | "epoch">): void {
    const message = this.#message(sender, number);
    sender.flying += 1;
    this.#scheduler.schedule("late sender", this.#random() * 5_000, () => {
      const { id } = message;
      const request: OpenRequest = {
        conversation: sender.name,
        ids: [id],
        firstSentAt: this.#scheduler.count,
        ackedAt: null,
      };
      this.#requests.push(request);
      this.#attempt([message], () => {
        request.ackedAt = this.#scheduler.count;
        sender.flying -= 1;
        this.#sendSoon(sender);
      });
    });
  }

  #newMessage(sender: Sender): Inbound {
    return this.#message(sender, this.#nextNumber(sender));
  }

  #message(sender: Sender, number: Pick<Inbound, "sequence" | "epoch">): Inbound {
    sender.sent += 1;
    const id = `m${sender.sent}`;
    const padding = this.#isTight ? " and more".repeat(Math.floor(this.#random() * PADDING_MAX)) : "";
    const text = `text ${Math.floor(this.#random() * 1_000)}${padding}`;
    this.#messages.push({ conversation: sender.name, id, text });
    return { to: sender.to, id, text, ...number };
  }

  /** One try; without a 2xx within its time another one follows, and after a 2xx sometimes a needless one. */
  #attempt(inbound: readonly Inbound[], onAcked: () => void): void {
    let isOver = false;
    const again = (): void => {
      if (isOver) return;
      isOver = true;
      this.#attempt(inbound, onAcked);
    };
    const timeout = this.#scheduler.schedule("sender waits no more", ANSWER_WITHIN_MS, again);
    this.#request(inbound, (isAdmitted) => {
      if (isOver) return;
      timeout.cancel();
      if (!isAdmitted) return void this.#scheduler.schedule("sender repeats", 50 + this.#random() * 200, again);
      isOver = true;
      if (this.#random() < 0.1) this.#request(this.#random() < 0.5 ? inbound : [...inbound].reverse(), () => undefined);
      onAcked();
    });
  }

  /** S0 to S4, on a network that loses, doubles and delays. */
  #request(inbound: readonly Inbound[], onAnswer: (isAdmitted: boolean) => void): void {
    const { network } = this.#weather;
    const nodes = [...this.#processes.values()];
    const process = nodes[Math.floor(this.#random() * nodes.length)]!;
    if (this.#injector.strikes("request lost", network / 3)) return;
    if (this.#injector.strikes("request doubled", network / 3))
      this.#scheduler.schedule("request again", this.#random() * 5_000, () =>
        this.#arrive(process, inbound, () => undefined),
      );
    this.#scheduler.schedule("request", this.#delayMs(), () => this.#arrive(process, inbound, onAnswer));
  }

  #arrive(process: SimulatedProcess, inbound: readonly Inbound[], onAnswer: (isAdmitted: boolean) => void): void {
    const { life } = process;
    life.schedule("request in", 0, () => {
      this.#reached("S0 request", "before", life);
      if (life.isDead) return;
      const answered = (isAdmitted: boolean): void => {
        this.#reached("S4 answer", "before", life);
        if (life.isDead) return;
        const isLost = this.#injector.strikes("answer lost", this.#weather.network / 3);
        if (!isLost) this.#scheduler.schedule("answer", this.#delayMs(), () => onAnswer(isAdmitted));
        this.#scheduler.afterwards(() => this.#reached("S4 answer", "after", life));
      };
      process.admit(inbound).then(
        (outcome) => {
          if (outcome.kind === "unavailable")
            this.#injector.count(`503 ${outcome.reason.replace(/ [a-z]~?$|\d+/g, "")}`);
          answered(outcome.kind === "admitted");
        },
        () => answered(false), // the server answers 500
      );
      this.#scheduler.afterwards(() => this.#reached("S0 request", "after", life));
    });
  }

  // --- faults -----------------------------------------------------------------------------------------------------------

  /** An operator looks after what is halted and what became a dead letter, through one of the processes. */
  #operateSoon(): void {
    const mayResolve = this.#injector.isOn || this.#isResolved;
    if (mayResolve) this.#scheduler.schedule("operator", 200 + this.#random() * 800, () => void this.#operate());
  }

  async #operate(): Promise<void> {
    this.#operateSoon();
    const living = [...this.#processes.values()].filter(({ life }) => !life.isDead && !life.isPaused);
    const operations = living[Math.floor(this.#random() * living.length)]?.operations;
    if (!operations) return;
    const all = { selection: { kind: "where", where: [] }, limit: 20, dryRun: false, by: "operator" } as const;
    try {
      const verb = this.#random() < 0.5 ? "retry" : "skip";
      const { done } = await operations.resolve({ ...all, verb });
      for (const { reason } of done) this.#injector.count(`operator ${verb} ${reason}`);
      const lanes = await operations.resolveLanes({ ...all, verb: this.#random() < 0.5 ? "retry" : "skip" });
      for (const { reason } of lanes.done) this.#injector.count(`operator lane ${reason}`);
      if (!this.#injector.isOn || this.#random() < 0.5) return;
      const redriven = await operations.redrive(all);
      for (const _letter of redriven.done) this.#injector.count("operator redrive");
    } catch (error) {
      const isAnswered = error instanceof Sabotage || severityOf(error) !== "crash"; // with 500 or 503; and asks again
      if (!isAnswered) throw error;
    }
  }

  #planFaults(): void {
    const count = Math.floor(this.#random() * 5) + (this.#wantsReleases ? 3 : 0);
    for (let i = 0; i < count; i += 1) {
      this.#scheduler.schedule("fault", 500 + this.#random() * (FAULTS_UNTIL_MS - 1_000), () =>
        this.#strikeSomewhere(),
      );
    }
  }

  #strikeSomewhere(): void {
    const living = [...this.#processes.values()].filter(({ life }) => !life.isDead && !life.isPaused);
    const process = living[Math.floor(this.#random() * living.length)];
    if (process === undefined) return;
    const dice = this.#wantsReleases ? 0.1 : this.#random();
    if (dice < 0.3) this.#drain(process);
    else if (dice < 0.45) this.#strike("kill", process.life, "killed at any time");
    else if (dice < 0.65) this.#strike("pause", process.life, "paused at any time");
    else if (dice < 0.75) this.#strike("store-restart", process.life, "store restarted at any time");
    else if (dice < 0.8) this.#copyFolder(process);
    else if (dice < 0.84) this.#jumpClock();
    else if (dice < 0.94) this.#sabotage(process);
    else this.#start("c");
  }

  /** A rolling deploy: the old one drains while the new one stands by, or the other way round. */
  #drain(process: SimulatedProcess): void {
    this.#injector.count("drained");
    void process.stop();
    this.#restart(process, 1_000);
  }

  /** The runtime's own code throws, somewhere. */
  #sabotage(process: SimulatedProcess): void {
    this.#injector.count("own code crashed");
    this.#saboteurs.get(process)!.arm(Math.floor(this.#random() ** 2 * 200));
  }

  /** Of the store: leases end early or late, and ids of its streams still only rise. */
  #jumpClock(): void {
    this.#injector.count("store clock jumped");
    this.#redis.skewMs += Math.floor((this.#random() - 0.5) * 10_000);
  }

  /** A second process under the same id, from a copy of the data folder, beside the living one. */
  #copyFolder(process: SimulatedProcess): void {
    this.#injector.count("copied folder");
    const node = `${process.node}~`;
    if (this.#processes.has(node)) return;
    this.#processes.set(node, this.#newProcess(process.node));
  }

  #strike(kind: FaultKind, life: SimulatedLife, as: string = kind): void {
    const process = this.#everyProcess.find((each) => each.life === life)!;
    if (as !== kind) this.#injector.count(as);
    this.#events += 1;
    switch (kind) {
      case "kill":
        process.kill();
        this.#restart(process, 2_500);
        break;
      case "pause":
        life.pause();
        this.#scheduler.schedule("resume", this.#random() * 3 * LEASE_TTL_MS, () => life.resume());
        break;
      case "reset":
        process.store.disconnect();
        this.#scheduler.schedule("reconnect", this.#random() * 300, () => this.#reconnect(process));
        break;
      case "store-restart":
        this.#isStoreAway = true;
        for (const each of this.#everyProcess) each.store.disconnect();
        this.#scheduler.schedule("store is back", this.#random() * 1_500, () => {
          this.#isStoreAway = false;
          for (const each of this.#everyProcess) each.store.reconnect();
        });
        break;
    }
  }

  #reconnect(process: SimulatedProcess): void {
    if (!this.#isStoreAway) process.store.reconnect();
  }

  /** The same node again, once the life is over; a drain may take its time. */
  #restart(process: SimulatedProcess, withinMs: number): void {
    this.#scheduler.schedule("restart", this.#random() * withinMs, () => {
      if (this.#processes.get(process.node) === process && !process.life.isDead) this.#restart(process, withinMs);
      else this.#start(process.node);
    });
  }

  #isPast(startMs: number): boolean {
    return this.#scheduler.nowMs >= startMs + FAULTS_UNTIL_MS || this.#wantsNoMore;
  }

  /** Faults that are planned for later are not waited for. */
  get #wantsNoMore(): boolean {
    return !this.#wantsReleases;
  }

  #mend(): void {
    this.#mendedAt = this.#scheduler.count;
    this.#injector.isOn = false;
    for (const saboteur of this.#saboteurs.values()) saboteur.disarm();
    for (const process of this.#everyProcess) {
      if (process.life.isPaused) process.life.resume();
      if (!this.#isStoreAway) process.store.reconnect();
    }
    for (const node of NODES) this.#start(node);
  }

  // --- what was seen ----------------------------------------------------------------------------------------------------

  #reached(step: Step, stage: Stage, life: SimulatedLife): void {
    this.#injector.reached(step, stage, life);
  }

  #executed(call: StoreCall, result: unknown, by: string): void {
    const at = this.#scheduler.count;
    const { shard, name, args } = call;
    const isNewCommit = this.#recorder.executed(at, call, result);
    if (name === "acquire") {
      const reply = result as AcquireReply;
      if (reply.kind === "acquired") this.#acquisitions.push({ at, shard, epoch: reply.epoch, by });
    } else if (name === "append") {
      if ((result as AppendReply).kind === "appended") this.#arrived(args[0] as Uint8Array, at);
    } else if (isNewCommit) this.#applied(call.commit!, shard, by, at);
  }

  #applied(commit: Commit, shard: number, by: string, at: number): void {
    const { epoch, n, conversations, outbox, inboxAdd, laneLists = [] } = commit;
    if (inboxAdd !== undefined) this.#arrived(inboxAdd, at);
    const records = conversations.map(({ key, record }) => committed(key, record));
    const lines = conversations.flatMap(({ key, transcript }) =>
      transcript.map((line) => ({
        conversation: nameOf(parseConversationKey(key)),
        line: Buffer.from(line).toString(),
      })),
    );
    const dead = commit.dead.flatMap(deadReply);
    const deadMessages = commit.dead.flatMap(deadMessage);
    this.#commits.push({
      at,
      shard,
      epoch,
      n,
      by,
      records,
      replies: this.#newReplies(outbox, laneLists),
      lines,
      deadMessages,
      dead,
      redriven: laneLists.flatMap(({ joining }) => joining.flatMap(({ bytes }) => redrivenIn(bytes))),
    });
  }

  /** One that moves to its lane's list, or comes back to it from the dead letters, was committed before. */
  #newReplies(outbox: Uint8Array | null, lists: NonNullable<Commit["laneLists"]>): CommittedReply[] {
    const listed = lists.flatMap(({ joining }) => joining.flatMap(({ bytes }) => repliesIn(bytes)));
    return [...repliesIn(outbox), ...listed].filter(({ conversation, born, sequence }) => {
      const name = `${conversation} ${born}.${sequence}`;
      if (this.#everCommitted.has(name)) return false;
      this.#everCommitted.add(name);
      return true;
    });
  }

  /** What turns sent, among what came into an inbox. */
  #arrived(entry: Uint8Array, at: number): void {
    const bytes = Buffer.from(entry.buffer, entry.byteOffset, entry.byteLength);
    if (!bytes.includes('"from"')) return;
    const { messages } = decodeInboxEntry(bytes, { id: { ms: 0, seq: 0 }, bytes: 0, undecided: 0 }, NO_HASH_KEY);
    for (const message of messages) {
      if (message.kind !== "message" || message.extra?.from === undefined || message.extra.redrives !== undefined)
        continue;
      const { key, id, text, extra } = message;
      const conversation = nameOf(parseConversationKey(key));
      this.#sends.push({ conversation, id, text, from: nameOf(extra.from!), at });
    }
  }

  #history(): SimulatedHistory {
    const shards = [...this.#data.shards.values()];
    this.#recorder.end();
    return {
      conversations: new Map<string, ConversationId>(this.#senders.map(({ name, to }) => [name, to])),
      shards: this.#config.shards,
      ordered: [COUNTED_CHANNEL, RISING_CHANNEL],
      contiguous: [COUNTED_CHANNEL],
      log: this.#recorder,
      sends: this.#sends,
      effects: this.#effects,
      transcribed: this.#senders.filter(({ to }) => to.channel === NEAR_CHANNEL).map(({ name }) => name),
      messages: this.#messages,
      requests: this.#requests satisfies readonly SentRequest[],
      deliveries: this.#deliveries,
      commits: this.#commits,
      acquisitions: this.#acquisitions,
      sabotaged: [...this.#saboteurs].flatMap(([{ life }, { struck }]) => (struck.length > 0 ? [life.name] : [])),
      mendedAt: this.#mendedAt,
      alarms: this.#alarms,
      final: {
        inboxEntries: shards.reduce((sum, { inbox }) => sum + inbox.entries.length, 0),
        deadMessages: shards.flatMap(({ dead }) => dead.entries.flatMap(({ bytes }) => deadMessage(bytes))),
        waiting: shards.flatMap(({ waitingLists }) =>
          Array.from(waitingLists, ([key, { entries }]) =>
            entries.map(({ bytes }) => ({
              conversation: nameOf(parseConversationKey(key)),
              id: decodeWaiting(bytes, null, NO_HASH_KEY).id,
            })),
          ).flat(),
        ),
        undelivered: this.#undelivered(),
        dead: shards.flatMap(({ dead }) => dead.entries.flatMap(({ bytes }) => deadReply(bytes))),
        haltedLanes: this.#lanes("halted"),
        retryingLanes: this.#lanes("retrying"),
        transcripts: shards.flatMap(({ transcripts }) =>
          Array.from(transcripts, ([key, { value }]) => ({
            conversation: nameOf(parseConversationKey(key)),
            lines: value.entries.map(({ bytes }) => Buffer.from(bytes).toString()),
          })),
        ),
        records: shards.flatMap(({ records }) => Array.from(records, ([key, record]) => committed(key, record))),
      },
    };
  }

  #undelivered(): { conversation: string; sequence: number }[] {
    return [...this.#data.shards.values()].flatMap(({ outbox, acks, laneLists }) => [
      ...outbox.entries.flatMap(({ id, bytes }) => {
        const done = acks.get(formatEntryId(id)) ?? new Uint8Array(0);
        return repliesOf(bytes, (i) => !hasBit(done, i));
      }),
      ...[...laneLists.values()].flatMap(({ entries }) => entries.flatMap(({ bytes }) => repliesOf(bytes, () => true))),
    ]);
  }

  #lanes(wanted: LaneState["state"]): { conversation: string; sequence: number }[] {
    return [...this.#data.shards.values()].flatMap(({ lanes }) =>
      Array.from(lanes, ([key, bytes]) => ({ key, lane: decodeLaneState(bytes) }))
        .filter(({ lane }) => lane.state === wanted)
        .map(({ key, lane }) => ({ conversation: nameOf(parseConversationKey(key)), sequence: lane.outSeq })),
    );
  }

  /** Z3: what is left waits at a conversation or a lane that is halted, which needs an operator. */
  get #isDrained(): boolean {
    const shards = [...this.#data.shards.values()];
    if (shards.some(({ inbox, timers }) => inbox.entries.length + timers.size > 0)) return false;
    for (const { open } of shards) {
      for (const entry of open.values())
        if (decodeOpenEntry(entry).state !== "halted" || this.#isResolved) return false;
    }
    if (shards.every(({ outbox, laneLists }) => outbox.entries.length + laneLists.size === 0)) return true;
    const halted = new Set(this.#lanes("halted").map(({ conversation }) => conversation));
    if (halted.size === 0) return false;
    return this.#undelivered().every(({ conversation }) => halted.has(conversation));
  }

  #told(): string {
    const processes = this.#everyProcess
      .filter(({ life }) => !life.isDead)
      .map((process) => `${process.life.name}: ${process.notReady ?? "ready"}`);
    const shards = [...this.#data.shards].map(
      ([i, { inbox, outbox, node, epoch, lanes, laneLists, timers, open }]) =>
        `shard ${i}: inbox ${inbox.entries.length}, outbox ${outbox.entries.length}, lists ${laneLists.size}, lanes ${lanes.size}, timers ${[...timers.keys()].join(" ")}, open ${[...open].map(([key, entry]) => `${key} ${Buffer.from(entry)}`).join(" ")}, ${node} ${epoch}`,
    );
    return [...processes, ...shards].join("; ");
  }

  #faultHits(): ReadonlyMap<string, number> {
    const hits = new Map(this.#injector.faultHits);
    for (const queue of this.#queues.values()) {
      for (const [what, count] of Object.entries(queue.hits))
        hits.set(`wake-up ${what}`, (hits.get(`wake-up ${what}`) ?? 0) + count);
    }
    return hits;
  }

  #note(label: string, process: string, atMs: number): void {
    if (!TICKS.has(label)) this.#events += 1;
    for (const text of [label, process]) {
      for (let i = 0; i < text.length; i += 1) this.#traceA = Math.imul(this.#traceA ^ text.charCodeAt(i), 0x01000193);
    }
    this.#traceB = Math.imul(this.#traceB ^ (atMs % 0x7fffffff) ^ this.#traceA, 0x85ebca6b) | 0;
    this.#tail.push(`${this.#scheduler.count} ${atMs % 10_000_000} ${process}: ${label}`);
    if (this.#tail.length > TAIL * 2) this.#tail = this.#tail.slice(-TAIL);
  }

  #random = (): number => this.#scheduler.random();

  #pick<Value>(...values: readonly Value[]): Value {
    return values[Math.floor(this.#random() * values.length)]!;
  }

  /** Mostly as soon as the scheduler picks it, sometimes after a while. */
  #delayMs(): number {
    const dice = this.#random();
    return dice < 0.7 ? 0 : dice < 0.97 ? this.#random() * 30 : this.#random() * 600;
  }

  #deliveryDelayMs(): number {
    return this.#random() < 0.03 ? this.#random() * 3_000 : this.#random() * 40;
  }
}

const nearChannel: Channel = {
  name: NEAR_CHANNEL,
  delivery: "transcript",
  render: ({ reply, to: _to, ...place }) => transcriptBotLine({ ...place, ...reply }),
  send: async () => ({ kind: "terminal", reason: "nothing of this channel is sent" }),
};

const NO_HASH_KEY = { lo: 0, hi: 0 };

const nameOf = ({ bot, channel, conversation }: ConversationId): string => `${bot} ${channel} ${conversation}`;

/** Of a dead letter; none for a message. */
function deadReply(letter: Uint8Array): { conversation: string; sequence: number }[] {
  const { bot, channel, conversation, outSeq } = decodeDeadLetter(letter);
  if (bot === null || channel === null || conversation === null || outSeq === null) return [];
  return [{ conversation: nameOf({ bot, channel, conversation }), sequence: outSeq }];
}

function deadMessage(letter: Uint8Array): { conversation: string; id: string }[] {
  const { bot, channel, conversation, direction, id } = decodeDeadLetter(letter);
  if (direction !== "in" || bot === null || channel === null || conversation === null || id === null) return [];
  return [{ conversation: nameOf({ bot, channel, conversation }), id }];
}

function repliesOf(
  entry: Uint8Array,
  isMeant: (index: number) => boolean,
): { conversation: string; sequence: number }[] {
  return decodeOutboxEntry(Buffer.from(entry)).replies.flatMap((reply, i) =>
    reply === null || !isMeant(i)
      ? []
      : [{ conversation: nameOf(parseConversationKey(reply.key)), sequence: reply.outSeq }],
  );
}

function redrivenIn(item: Uint8Array): { conversation: string; sequence: number }[] {
  return decodeOutboxEntry(Buffer.from(item)).replies.flatMap((reply) =>
    reply?.extra?.isRedriven === true
      ? [{ conversation: nameOf(parseConversationKey(reply.key)), sequence: reply.outSeq }]
      : [],
  );
}

function repliesIn(outbox: Uint8Array | null): (CommittedReply & { readonly born: string })[] {
  if (outbox === null) return [];
  return decodeOutboxEntry(Buffer.from(outbox)).replies.flatMap((reply) => {
    const id = reply === null ? null : parseConversationKey(reply.key);
    if (reply === null || id === null || id.channel.startsWith("!")) return [];
    const { born, outSeq, body } = reply;
    return [{ conversation: nameOf(id), born, sequence: outSeq, body: Buffer.from(body).toString() }];
  });
}

function committed(key: ConversationKey, bytes: Uint8Array): CommittedRecord {
  const { record, stateBytes } = decodeRecord(bytes);
  const { seq, outSeq, born, extra } = record;
  return {
    conversation: nameOf(parseConversationKey(key)),
    seq,
    outSeq,
    born: formatBorn(born),
    stateJson: Buffer.from(stateBytes).toString(),
    journal: extra?.openTurn?.steps.map(({ result }) => Number(result)) ?? [],
  };
}
