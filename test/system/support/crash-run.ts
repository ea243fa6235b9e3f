// Crash run: a bot under load whose runtime, whose Redis, or both are killed with -9 again and again, each time while
// requests wait for an answer, messages wait for their reply and replies wait for their acknowledgement. At the end the
// history must be whole, the log of Redis included, and the store empty of unfinished work.

import { setTimeout as sleep } from "node:timers/promises";
import { type Arena, freePort, signal, until } from "./arena.ts";
import { HistoryWriter, nowUs } from "./history.ts";
import { type Random, seededRandom } from "./random.ts";
import { RuntimeProcess } from "./runtime-process.ts";
import { isNothing, StoreView } from "./store-view.ts";
import { allAnswered, expectFolderKept, missingOf, type Sender, senderReaches, Traffic } from "./traffic.ts";

export interface CrashPlan {
  readonly seed: number;
  readonly conversations: number;
  readonly messages: number;
  /** Kills of each kind; one that hit a moment without open work is repeated. */
  readonly kills: Readonly<Record<KillKind, number>>;
  /** How many of the restarts are killed once more while they start. */
  readonly startupKills: number;
  readonly say: (line: string) => void;
}

export type KillKind = "runtime" | "redis" | "both";

/** What was open at the moment of a kill. */
export interface Kill {
  readonly kind: KillKind;
  readonly atUs: number;
  /** Requests sent and without an answer. */
  readonly requestsInFlight: number;
  /** Messages sent and without a delivered reply. */
  readonly unanswered: number;
  /** Entries of the outbox, each with a reply that no commit has acknowledged. */
  readonly outboxEntries: number;
  /** Deliveries that the sink had received and not answered. */
  readonly heldBySink: number;
  /** From the kill to the next /readyz 200, all restarts included. */
  readonly downMs: number;
}

export interface CrashReport {
  readonly kills: readonly Kill[];
  readonly startupKills: number;
  readonly messages: number;
  readonly requestAttempts: number;
  readonly requestsWithoutAnswer: number;
  readonly deliveryAttempts: number;
  readonly tookMs: number;
}

const KILL_BEFORE_SHARE = 0.92;
const LATER_MS_MAX = 40;
const STARTUP_MS_MAX = 900;
const RIPE_WITHIN_MS = 30_000;
const EMPTY_WITHIN_MS = 30_000;
const MISSES_MAX = 6;

/** Was there something to lose? */
const isTelling = (kill: Kill): boolean =>
  kill.requestsInFlight > 0 && kill.unanswered > 0 && (kill.outboxEntries > 0 || kill.heldBySink > 0);

export async function crashRun(arena: Arena, plan: CrashPlan): Promise<CrashReport> {
  return new CrashRun(arena, plan, await Traffic.start(arena, plan.seed), await freePort()).run();
}

class CrashRun {
  readonly #arena: Arena;
  readonly #plan: CrashPlan;
  readonly #random: Random;
  readonly #traffic: Traffic;
  readonly #port: number;
  readonly #data: string;
  readonly #store: StoreView;
  readonly #startMs = performance.now();
  readonly #kills: Kill[] = [];
  readonly #faults: HistoryWriter;
  #startupKillsLeft: number;
  #runtime: RuntimeProcess;

  constructor(arena: Arena, plan: CrashPlan, traffic: Traffic, port: number) {
    this.#arena = arena;
    this.#plan = plan;
    this.#random = seededRandom(plan.seed, "crash");
    this.#traffic = traffic;
    this.#port = port;
    this.#data = arena.dataFolder("data");
    this.#store = StoreView.ofDataFolder(arena, this.#data);
    this.#startupKillsLeft = plan.startupKills;
    this.#faults = new HistoryWriter(arena.path("faults.ndjson"));
    this.#runtime = this.#spawn();
  }

  async run(): Promise<CrashReport> {
    const { conversations, messages } = this.#plan;
    await this.#runtime.ready();
    const sender = await this.#traffic.send("m", { urls: [this.#runtime.url], conversations, messages });
    await this.#killAgainAndAgain(sender);
    await this.#settle(sender);
    expectFolderKept(this.#arena.folder);
    await this.#askOnceMoreAfterColdStart();
    return this.#report();
  }

  /** Kill number i falls at a random place of the i-th slice of the messages. */
  async #killAgainAndAgain(sender: Sender): Promise<void> {
    const { kills, messages } = this.#plan;
    const wanted = (["runtime", "redis", "both"] as const).flatMap((kind) => Array<KillKind>(kills[kind]).fill(kind));
    const order = this.#random.shuffled(wanted);
    const slice = (messages * KILL_BEFORE_SHARE) / order.length;
    let misses = 0;
    for (let i = 0; i < order.length; i += 1) {
      const answers = Math.floor((i + 0.1 + 0.9 * this.#random.next()) * slice);
      await senderReaches(
        sender,
        `kill ${i + 1}`,
        ({ answered }) => answered >= answers,
        () => this.#explain(),
      );
      await sleep(this.#random.below(LATER_MS_MAX));
      const kill = await this.#kill(order[i]!, sender);
      const figures = `${kill.requestsInFlight} requests in flight, ${kill.unanswered} messages un-answered, ${kill.outboxEntries} outbox entries, ${kill.heldBySink} deliveries held, down ${kill.downMs.toFixed(0)} ms`;
      this.#say(`kill ${i + 1}/${order.length} of ${kill.kind} after ${answers} answers: ${figures}`);
      if (isTelling(kill)) this.#kills.push(kill);
      else if (misses++ < MISSES_MAX)
        i -= 1; // the moment passed in the milliseconds between look and kill: once more
      else throw new Error(`the load leaves too little open work to kill: ${JSON.stringify(kill)}`);
    }
  }

  async #kill(kind: KillKind, sender: Sender): Promise<Kill> {
    const ripe = await until(() => this.#ripe(sender), {
      what: `open work to kill ${kind} in`,
      withinMs: RIPE_WITHIN_MS,
      everyMs: 1,
      explain: () => this.#explain(),
    });
    const atUs = nowUs();
    this.#faults.write({ kind: "fault", fault: "kill", target: kind, atUs });
    if (kind !== "redis") this.#runtime.killNow();
    if (kind !== "runtime") signal(ripe.redisPid, "SIGKILL");
    const [moment, heldBySink] = await Promise.all([sender.ask("at", atUs), this.#traffic.sink.ask("heldAt", atUs)]);
    // Redis outlives its runtime, so then the dead one's outbox can be counted, else only what was there a moment before.
    const outboxEntries = kind === "runtime" ? await this.#store.outboxEntries() : ripe.outboxEntries;
    if (kind === "redis") await this.#redisIsBack(ripe.redisPid);
    else await this.#restart();
    return { kind, atUs, ...moment, outboxEntries, heldBySink, downMs: (nowUs() - atUs) / 1_000 };
  }

  async #ripe(sender: Sender): Promise<{ outboxEntries: number; redisPid: number } | undefined> {
    const redisPid = this.#runtime.redisPid();
    const { requestsInFlight, unanswered } = await sender.ask("status", undefined);
    const outboxEntries = await this.#store.outboxEntries();
    const isRipe = redisPid !== undefined && requestsInFlight > 0 && unanswered > 0 && outboxEntries > 0;
    return isRipe ? { outboxEntries, redisPid } : undefined;
  }

  async #restart(): Promise<void> {
    await this.#runtime.ended;
    await sleep(this.#random.below(300));
    this.#runtime = this.#spawn();
    if (this.#startupKillsLeft > 0 && this.#random.chance(0.5)) {
      this.#startupKillsLeft -= 1;
      const afterMs = this.#random.below(STARTUP_MS_MAX);
      await sleep(afterMs);
      this.#faults.write({ kind: "fault", fault: "kill", target: "runtime, while it starts", atUs: nowUs() });
      await this.#runtime.kill();
      this.#say(`killed once more, ${afterMs} ms after its start`);
      this.#runtime = this.#spawn();
    }
    await this.#runtime.ready();
  }

  /** The runtime itself has to bring it back. */
  async #redisIsBack(formerPid: number): Promise<void> {
    const isNew = (): boolean => (this.#runtime.redisPid() ?? formerPid) !== formerPid;
    await until(isNew, { what: "another Redis", withinMs: 30_000, explain: () => this.#explain() });
    await this.#runtime.ready();
  }

  /** Everything is answered, and nothing unfinished is left in the store. */
  async #settle(sender: Sender): Promise<void> {
    await senderReaches(sender, "the last answer", allAnswered, () => this.#explain());
    await until(async () => isNothing(await this.#store.unfinished()), {
      what: "inbox, outbox, acks and lanes to be empty",
      withinMs: EMPTY_WITHIN_MS,
      explain: () => this.#explain(),
    });
    this.#say("all answered, nothing unfinished in the store");
  }

  /** The stored state of each conversation, read cold, must be the fold of all that it was sent: the next hash tells. */
  async #askOnceMoreAfterColdStart(): Promise<void> {
    const { conversations } = this.#plan;
    await this.#runtime.kill();
    this.#runtime = this.#spawn();
    await this.#runtime.ready();
    const urls = [this.#runtime.url];
    const sender = await this.#traffic.send("last", { urls, conversations, messages: conversations });
    await this.#settle(sender);
    const { code } = await this.#runtime.terminate();
    if (code !== 0) throw new Error(`SIGTERM ended it with ${code}\n${this.#runtime.lastWords()}`);
    if (this.#runtime.redisPid() !== undefined) throw new Error("its Redis outlived the SIGTERM");
    this.#faults.close();
    expectFolderKept(this.#arena.folder);
  }

  #spawn(): RuntimeProcess {
    return new RuntimeProcess(this.#arena, {
      port: this.#port,
      data: this.#data,
      deliverTo: this.#traffic.deliverTo,
    });
  }

  #report(): CrashReport {
    const { messages, attempts, deliveries } = this.#traffic.history();
    return {
      kills: this.#kills,
      startupKills: this.#plan.startupKills - this.#startupKillsLeft,
      messages: messages.length,
      requestAttempts: attempts.length,
      requestsWithoutAnswer: attempts.filter(({ outcome }) => outcome === "unknown").length,
      deliveryAttempts: deliveries.length,
      tookMs: performance.now() - this.#startMs,
    };
  }

  async #explain(): Promise<string> {
    const unfinished = await this.#store.unfinished().catch((error: Error) => error.message);
    const stats = await this.#runtime.get("/admin/stats").catch((error: Error) => ({ text: error.message }));
    return [
      `store ${JSON.stringify(unfinished)}`,
      `stats ${stats.text.slice(0, 2_000)}`,
      missingOf(this.#traffic.history()),
      this.#runtime.lastWords(),
    ].join("\n");
  }

  #say(line: string): void {
    this.#plan.say(`[${((performance.now() - this.#startMs) / 1_000).toFixed(1)} s] ${line}`);
  }
}
