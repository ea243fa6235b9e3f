// Lanes run: many conversations under load whose replies go to a provider that misbehaves in every way, while the runtime, Redis
// or both are killed with -9. At the end each reply must have been delivered, in order, under its key and with its bytes, and
// each that was accepted twice must have a cause.

import { setTimeout as sleep } from "node:timers/promises";
import { type Arena, freePort, signal, until } from "./arena.ts";
import { formatLanes, type LaneReport, type RuntimeKill } from "./check-lanes.ts";
import { HistoryWriter, nowUs } from "./history.ts";
import { lanesRuntime } from "./lanes-runtime.ts";
import { LanesWorld } from "./lanes-world.ts";
import type { Behaviour } from "./provider-behaviour.ts";
import { type Random, seededRandom } from "./random.ts";
import { RuntimeProcess } from "./runtime-process.ts";
import { isNothing, StoreView } from "./store-view.ts";
import { allAnswered, expectFolderKept, missingOf, type Sender, senderReaches } from "./traffic.ts";
import { unacknowledgedIn } from "./unacknowledged.ts";

export interface LanesPlan {
  readonly seed: number;
  readonly lanes: number;
  readonly messages: number;
  readonly behaviour: Behaviour;
  /** How many of each kind; they fall all over the run. */
  readonly kills: Readonly<Record<LaneKillKind, number>>;
  readonly say: (line: string) => void;
}

export type LaneKillKind = "runtime" | "redis" | "both";

export interface LaneKill {
  readonly kind: LaneKillKind;
  /** Deliveries that the provider had received and not answered. */
  readonly heldByProvider: number;
  /** Replies that were committed and not acknowledged; null where the runtime lives on, and still knows. */
  readonly unacknowledged: number | null;
  /** Until the next /readyz 200. */
  readonly downMs: number;
}

export interface LanesReport extends LaneReport {
  readonly killed: readonly LaneKill[];
  readonly tookMs: number;
}

const ACCOUNT = "http";
const KILL_BEFORE_SHARE = 0.9;
const LATER_MS_MAX = 40;
const RESTART_MS_MAX = 300;
const RIPE_WITHIN_MS = 30_000;
const EMPTY_WITHIN_MS = 30_000;

export async function lanesRun(arena: Arena, plan: LanesPlan): Promise<LanesReport> {
  const world = await LanesWorld.start(arena, plan.seed, { [ACCOUNT]: plan.behaviour });
  return new LanesRun(arena, plan, world, await freePort()).run();
}

class LanesRun {
  readonly #arena: Arena;
  readonly #plan: LanesPlan;
  readonly #random: Random;
  readonly #world: LanesWorld;
  readonly #port: number;
  readonly #data: string;
  readonly #store: StoreView;
  readonly #faults: HistoryWriter;
  readonly #startMs = performance.now();
  readonly #killed: LaneKill[] = [];
  readonly #kills: RuntimeKill[] = [];
  #runtime: RuntimeProcess;

  constructor(arena: Arena, plan: LanesPlan, world: LanesWorld, port: number) {
    this.#arena = arena;
    this.#plan = plan;
    this.#random = seededRandom(plan.seed, "lanes");
    this.#world = world;
    this.#port = port;
    this.#data = arena.dataFolder("data");
    this.#store = StoreView.ofDataFolder(arena, this.#data);
    this.#faults = new HistoryWriter(arena.path("faults.ndjson"));
    this.#runtime = this.#spawn();
  }

  async run(): Promise<LanesReport> {
    const { lanes, messages } = this.#plan;
    await this.#runtime.ready();
    const urls = [this.#runtime.url];
    const sender = await this.#world.send("m", { urls, conversations: lanes, messages, connections: 48 });
    await this.#killAgainAndAgain(sender);
    await senderReaches(sender, "the last answer", allAnswered, () => this.#explain());
    await until(async () => isNothing(await this.#store.unfinished()), {
      what: "inbox, outbox, acks and lanes to be empty",
      withinMs: EMPTY_WITHIN_MS,
      explain: () => this.#explain(),
    });
    const { code } = await this.#runtime.terminate();
    if (code !== 0) throw new Error(`SIGTERM ended it with ${code}\n${this.#runtime.lastWords()}`);
    this.#faults.close();
    const report = this.#world.expectLanesKept({ kills: this.#kills, stops: [] });
    this.#plan.say(formatLanes(report));
    this.#world.writeSinkLog();
    expectFolderKept(this.#arena.folder);
    return { ...report, killed: this.#killed, tookMs: performance.now() - this.#startMs };
  }

  /** Kill number i falls at a random place of the i-th slice of the messages. */
  async #killAgainAndAgain(sender: Sender): Promise<void> {
    const { kills, messages } = this.#plan;
    const wanted = (["runtime", "redis", "both"] as const).flatMap((kind) =>
      Array<LaneKillKind>(kills[kind]).fill(kind),
    );
    const slice = (messages * KILL_BEFORE_SHARE) / wanted.length;
    for (const [i, kind] of this.#random.shuffled(wanted).entries()) {
      const answers = Math.floor((i + 0.1 + 0.9 * this.#random.next()) * slice);
      const explain = () => this.#explain();
      await senderReaches(sender, `kill ${i + 1}`, ({ answered }) => answered >= answers, explain);
      await sleep(this.#random.below(LATER_MS_MAX));
      const kill = await this.#kill(kind);
      this.#killed.push(kill);
      const open = kill.unacknowledged === null ? "" : `, ${kill.unacknowledged} replies un-acknowledged`;
      this.#say(
        `kill ${i + 1}/${wanted.length} of ${kind} after ${answers} answers: ${kill.heldByProvider} deliveries held${open}, down ${kill.downMs.toFixed(0)} ms`,
      );
    }
  }

  async #kill(kind: LaneKillKind): Promise<LaneKill> {
    const redisPid = await until(() => this.#ripe(), {
      what: `open work to kill ${kind} in`,
      withinMs: RIPE_WITHIN_MS,
      everyMs: 1,
      explain: () => this.#explain(),
    });
    const atUs = nowUs();
    this.#faults.write({ kind: "fault", fault: "kill", target: kind, atUs });
    if (kind !== "redis") this.#runtime.killNow();
    if (kind !== "runtime") signal(redisPid, "SIGKILL");
    const heldByProvider = await this.#world.provider.ask("heldAt", atUs);
    const unacknowledged = kind === "redis" ? null : await this.#restart(atUs);
    if (kind === "redis") {
      const isNew = (): boolean => (this.#runtime.redisPid() ?? redisPid) !== redisPid;
      await until(isNew, { what: "another Redis", withinMs: 30_000, explain: () => this.#explain() });
    }
    await this.#runtime.ready();
    return { kind, heldByProvider, unacknowledged, downMs: (nowUs() - atUs) / 1_000 };
  }

  /** @returns how many replies the dead runtime left un-acknowledged */
  async #restart(atUs: number): Promise<number> {
    await this.#runtime.ended;
    await sleep(this.#random.below(RESTART_MS_MAX));
    const unacknowledged = unacknowledgedIn(this.#data);
    this.#kills.push({ atUs, restartedUs: nowUs(), unacknowledged });
    this.#runtime = this.#spawn();
    return unacknowledged.size;
  }

  /** Pid of a Redis that has something to lose. */
  async #ripe(): Promise<number | undefined> {
    const redisPid = this.#runtime.redisPid();
    const { outbox } = await this.#store.unfinished();
    return outbox > 0 ? redisPid : undefined;
  }

  #spawn(): RuntimeProcess {
    const channels = [this.#world.channel(ACCOUNT)];
    return new RuntimeProcess(this.#arena, lanesRuntime({ port: this.#port, dataDir: this.#data, channels }));
  }

  async #explain(): Promise<string> {
    const unfinished = await this.#store.unfinished().catch((error: Error) => error.message);
    const missing = missingOf(this.#world.history());
    return [`store ${JSON.stringify(unfinished)}`, missing, this.#runtime.lastWords()].join("\n");
  }

  #say(line: string): void {
    this.#plan.say(`[${((performance.now() - this.#startMs) / 1_000).toFixed(1)} s] ${line}`);
  }
}
