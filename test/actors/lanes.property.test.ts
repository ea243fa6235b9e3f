// The promise of lanes alone, under a seeded world: a recipient that answers in every way or not at all, owners that are killed, taken
// over or crash by their own code, a Redis that is away or does not answer, wake-ups that are lost, doubled or late, and an operator who
// retries, skips and redrives, also twice and what is not there.

import { describe, expect, test } from "vitest";
import { ChannelAccounts } from "../../actors/channel-accounts.ts";
import type { ProbeOutcome, SendOutcome } from "../../src/channels/channel.ts";
import type { ReplyExtra } from "../../src/codec/outbox-codec.ts";
import { type ConversationKey, conversationKey, idempotencyKey, parseConversationKey } from "../../src/domain/ids.ts";
import { replyName } from "../../src/domain/lane.ts";
import type { Delivery, LaneControl } from "../../src/domain/message.ts";
import { Saboteur } from "../support/saboteur.ts";
import { keyOf, type Life, World } from "./support/lane-rig.ts";

const RUNS = Number(process.env.COLLOQUY_TEST_RUNS ?? 300);
const FIRST_SEED = Number(process.env.COLLOQUY_TEST_SEED ?? 1);
const FAULTS_MS = 12_000;
const REPLIES = 10;
const AMBIGUOUS = ["retry", "probe", "halt"] as const;

/** What has to happen in a good share of the runs. */
const MET = [
  ...["delivered", "retryable", "ambiguous", "terminal", "gone"].map((kind) => `answer ${kind}`),
  ...["probe", "kill", "takeover", "away", "unanswered", "struck", "dead", "redrive"],
  ...["lane-retry halted", "lane-retry retrying", "lane-retry flowing", "lane-skip halted", "lane-skip retrying"],
];

type Counts = Record<string, number>;

class Chaos {
  readonly world: World;
  readonly lanes: readonly ConversationKey[];
  readonly onAmbiguous: (typeof AMBIGUOUS)[number];
  readonly counts: Counts = {};
  readonly wrong: string[] = [];
  readonly #saboteurs: Saboteur[] = [];
  /** By key: how often it arrived, and how often it may have without having been sent by a guess. */
  readonly #arrived = new Map<string, number>();
  readonly #allowed = new Map<string, number>();
  /** Said to be there: a 2xx, or a probe. */
  readonly #confirmed = new Set<string>();
  readonly #bodies = new Map<string, string>();
  readonly #firsts = new Map<string, string[]>();
  readonly #expiresAtMs = new Map<string, number>();
  readonly #ofNotice = new Set<string>();
  readonly #inFlight = new Map<string, number>();
  readonly #pending = new Map<ConversationKey, { name: string; replies: Parameters<Life["replies"]>[1] }[]>();
  #living!: Life;
  #isOver = false;

  constructor(seed: number) {
    this.world = new World(seed);
    this.onAmbiguous = AMBIGUOUS[seed % 3]!;
    this.lanes = [keyOf("a"), keyOf("b", "available"), keyOf("c", this.#chance(0.5) ? "strict" : "available")];
    for (const lane of this.lanes) this.#pending.set(lane, []);
    const { settings } = this.world;
    settings.spillMs = [100, 1_000, 2_000][this.#below(3)]!;
    settings.sweepMs = this.#chance(0.8) ? 1_000 : 3_000;
    settings.laneBacklogMax = 1_000;
    settings.deadLettersMax = this.#chance(0.2) ? 6 : 100_000;
    settings.commitBytesMax = this.#chance(0.3) ? 300 : 4_194_304;
    settings.restartAfterMs = () => this.#below(2) * 150;
    const hasBudget = this.#chance(0.4);
    settings.channel = {
      onAmbiguous: this.onAmbiguous,
      ackFirst: this.#chance(0.3),
      ...(hasBudget && { retry: { budgetMs: 3_000, attemptsMax: this.#chance(0.5) ? 3 : Number.POSITIVE_INFINITY } }),
      ...(this.#chance(0.6) && {
        account: {
          ...{ concurrency: 1 + this.#below(2), breakerFailures: 2, breakerOpenMs: 400, breakerOpenMsMax: 1_600 },
          ...(this.#chance(0.3) && { ratePerSecond: 2, burst: 2 }),
        },
      }),
    };
    settings.accounts = (environment) => new ChannelAccounts(environment);
    settings.sabotage = (environment, counters) => {
      const saboteur = new Saboteur(environment, counters);
      this.#saboteurs.push(saboteur);
      return saboteur;
    };
    settings.wakeUps = (delayMs) =>
      this.#chance(0.25) ? [] : this.#chance(0.2) ? [delayMs, delayMs + 700] : [delayMs + this.#below(2) * 300];
    this.world.onCommitterFailed = (life) => {
      if (life === this.#living) void this.#newLife(true);
    };
    this.world.recipient.send = (delivery) => this.#send(delivery);
    this.world.recipient.probe = (delivery) => this.#probe(delivery);
  }

  get sabotageStruck(): number {
    return this.#saboteurs.reduce((sum, { struck }) => sum + struck.length, 0);
  }

  #chance(share: number): boolean {
    return this.world.environment.random() < share;
  }

  #below(bound: number): number {
    return Math.floor(this.world.environment.random() * bound);
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  // The recipient --------------------------------------------------------------------------------------------------------

  #outcome(): SendOutcome {
    const choice = this.#isOver ? 1 : this.world.environment.random();
    if (choice < 0.16)
      return { kind: "retryable", reason: "HTTP 503", ...(this.#chance(0.3) && { retryAfterMs: this.#below(4_000) }) };
    if (choice < 0.3) return { kind: "ambiguous", reason: "reset" };
    if (choice < 0.36) return { kind: "terminal", reason: "HTTP 400" };
    if (choice < 0.37) return { kind: "gone", reason: "HTTP 410" };
    return { kind: "delivered" };
  }

  async #send(delivery: Delivery): Promise<SendOutcome> {
    const { idempotencyKey: key, to, born, outSeq } = delivery;
    const lane = conversationKey(to);
    const life = `${this.world.lives.length} ${lane}`;
    this.#inFlight.set(life, (this.#inFlight.get(life) ?? 0) + 1);
    this.#checkAttempt(lane, delivery);
    const outcome = this.#outcome();
    this.count(`answer ${outcome.kind}`);
    if (outcome.kind === "delivered" || (outcome.kind === "ambiguous" && this.#chance(0.5))) {
      this.#arrived.set(key, (this.#arrived.get(key) ?? 0) + 1);
      if (this.#arrived.get(key) === 1 && delivery.redriven !== true) this.#first(lane, key, born, outSeq);
    }
    if (this.#chance(0.4)) await this.world.pause(this.#chance(0.3) ? this.#below(4_000) : this.#below(60));
    if (outcome.kind === "delivered") this.#confirmed.add(key);
    this.#inFlight.set(life, this.#inFlight.get(life)! - 1);
    if (outcome.kind === "ambiguous" && this.#chance(0.3)) throw new TypeError("reset");
    return outcome;
  }

  #first(lane: ConversationKey, key: string, born: string, outSeq: number): void {
    const firsts = this.#firsts.get(lane) ?? [];
    this.#firsts.set(lane, firsts);
    const part = key.split(`~${born}.`)[1]!.split(".")[1];
    firsts.push(replyName({ born, outSeq, part: part === undefined ? undefined : Number(part) }));
  }

  async #probe({ idempotencyKey: key }: Delivery): Promise<ProbeOutcome> {
    this.count("probe");
    if (this.#chance(0.3)) await this.world.pause(this.#below(3_000));
    if (!this.#isOver && this.#chance(0.3)) return { kind: "unknown", reason: "HTTP 503" };
    const isThere = (this.#arrived.get(key) ?? 0) > 0;
    if (isThere) this.#confirmed.add(key);
    return { kind: isThere ? "delivered" : "absent" };
  }

  /** L1, L2, N4: what goes out now may. */
  #checkAttempt(lane: ConversationKey, { idempotencyKey: key, body, redriven }: Delivery): void {
    const bytes = Buffer.from(body).toString();
    if ((this.#bodies.get(key) ?? bytes) !== bytes) this.wrong.push(`${key}: other bytes`);
    this.#bodies.set(key, bytes);
    if (redriven === true) return;
    const nowMs = this.world.environment.nowMs();
    if ((this.#expiresAtMs.get(key) ?? Number.POSITIVE_INFINITY) <= nowMs) this.wrong.push(`${key}: sent expired`);
    for (const name of this.world.storedNames(lane)) {
      const earlier = this.#keyOf(lane, name);
      if (earlier === key) return;
      if (this.#confirmed.has(earlier) || this.world.everDead.has(`${lane} ${name}`)) continue;
      this.wrong.push(`${key} went out before ${earlier} was through`);
    }
  }

  #keyOf(lane: ConversationKey, name: string): string {
    const [born, outSeq, part] = name.split(".");
    return idempotencyKey(parseConversationKey(lane), born!, Number(outSeq)) + (part === undefined ? "" : `.${part}`);
  }

  // What happens -----------------------------------------------------------------------------------------------------------

  #later(ms: number, run: () => unknown): void {
    this.world.environment.after(ms, () => void run());
  }

  #plan(): void {
    for (const lane of this.lanes) this.#planReplies(lane);
    for (let i = 0; i < 14; i += 1) this.#later(this.#below(FAULTS_MS), () => this.#fault());
    for (let i = 0; i < 16; i += 1) this.#later(this.#below(FAULTS_MS), () => this.#verb());
  }

  #planReplies(lane: ConversationKey): void {
    let atMs = 0;
    for (let outSeq = 1; outSeq <= REPLIES; outSeq += 1) {
      atMs += this.#below(this.#chance(0.2) ? 3_000 : 500);
      this.#later(atMs, () => this.#reply(lane, outSeq));
    }
  }

  #reply(lane: ConversationKey, outSeq: number): void {
    const parts = this.#chance(0.15) ? 2 + this.#below(2) : 1;
    const name = replyName({ born: "b0", outSeq, part: parts === 1 ? undefined : 1 });
    const expires = this.#chance(0.1) && { expiresAtMs: this.world.environment.nowMs() + this.#below(3_000) };
    const notice = this.#chance(0.1) && { isOfNotice: true as const };
    const replies = Array.from({ length: parts }, (_, i) => {
      const extra: ReplyExtra = { ...expires, ...notice, ...(parts > 1 && { part: i + 1, parts }) };
      const each = replyName({ born: "b0", outSeq, part: parts === 1 ? undefined : i + 1 });
      if (extra.expiresAtMs !== undefined) this.#expiresAtMs.set(this.#keyOf(lane, each), extra.expiresAtMs);
      if (extra.isOfNotice) this.#ofNotice.add(`${lane} ${each}`);
      return { body: `${outSeq}${"abc"[i]}`, ...(Object.keys(extra).length > 0 && { extra }) };
    });
    this.#pending.get(lane)!.push({ name, replies });
    this.#living.replies(lane, replies);
  }

  /** What a life left uncommitted is replied again, as the inbox would have it. */
  #replyAgain(): void {
    for (const [lane, pending] of this.#pending) {
      const stored = new Set(this.world.storedNames(lane));
      const left = pending.filter(({ name }) => !stored.has(name));
      this.#pending.set(lane, left);
      for (const { replies } of left) this.#living.replies(lane, replies);
    }
  }

  #fault(): void {
    const choice = this.world.environment.random();
    if (choice < 0.2) void this.#newLife(true);
    else if (choice < 0.3) void this.#newLife(false);
    else if (choice < 0.45) this.#away();
    else if (choice < 0.6) this.#unanswered();
    else {
      this.count("sabotage");
      this.#saboteurs.at(-1)!.arm(this.#below(12));
    }
  }

  async #newLife(kills: boolean): Promise<void> {
    this.count(kills ? "kill" : "takeover");
    for (const saboteur of this.#saboteurs) saboteur.disarm();
    const before = this.#living;
    if (kills) before.kill();
    const next = this.world.life();
    this.#living = await next;
    this.#replyAgain();
    this.#later(this.#below(3_000), () => before.kill());
  }

  #away(): void {
    this.count("away");
    const life = this.#living;
    life.redisIsAway = true;
    this.#later(this.#below(3_000), () => {
      life.redisIsAway = false;
    });
  }

  #unanswered(): void {
    this.count("unanswered");
    const life = this.#living;
    life.answersAreLost = true;
    this.#later(this.#below(1_000), () => {
      life.answersAreLost = false;
    });
  }

  #verb(): void {
    const lane = this.lanes[this.#below(this.lanes.length)]!;
    const state = this.world.laneState(lane);
    const letters = this.world.deadLetters().filter(({ letter }) => letter.length > 0);
    const by = "test";
    const controls: LaneControl[] = [];
    if (letters.length > 0 && this.#chance(0.4)) {
      const { letter, ...place } = letters[this.#below(letters.length)]!;
      const to = this.#chance(0.9) ? conversationKey(place as never) : lane;
      this.#allow(to, replyName(place as never));
      this.count("redrive");
      void this.world.control(to, ...this.#perhapsTwice({ verb: "lane-redrive", letter, by }));
      return;
    }
    const at = state === null || this.#chance(0.1) ? "b0.1" : replyName(state);
    if (this.#chance(0.6)) {
      this.#allow(lane, at);
      controls.push({ verb: "lane-retry", at, by });
    } else controls.push({ verb: "lane-skip", at, by });
    this.count(`${controls[0]!.verb} ${state?.state}`);
    void this.world.control(lane, ...this.#perhapsTwice(controls[0]!));
  }

  #perhapsTwice(control: LaneControl): LaneControl[] {
    return this.#chance(0.3) ? [control, control] : [control];
  }

  /** An operator says that it may go out once more, whatever became of it. */
  #allow(lane: ConversationKey, name: string): void {
    const key = this.#keyOf(lane, name);
    this.#allowed.set(key, (this.#allowed.get(key) ?? 1) + 2);
  }

  // Run and judge ------------------------------------------------------------------------------------------------------------

  async run(): Promise<void> {
    const { environment } = this.world;
    this.#living = await this.world.life();
    this.#plan();
    await environment.pass(FAULTS_MS + 3_500);
    this.#isOver = true;
    this.world.settings.wakeUps = (delayMs) => [delayMs];
    for (const saboteur of this.#saboteurs) saboteur.disarm();
    for (const life of this.world.lives) if (life !== this.#living) life.kill();
    this.world.settings.deadLettersMax = 100_000;
    await this.#newLife(true);
    for (let round = 0; round < 60 && !this.#isThrough; round += 1) {
      await this.#retryAll();
      await environment.pass(2_000);
    }
    if (!this.#isThrough) this.wrong.push(`stuck: ${this.#howItStands()}`);
    await environment.pass(3_000);
    this.#judge();
    this.world.kill();
  }

  get #isThrough(): boolean {
    const { shard } = this.world;
    return this.world.isEmpty && shard.inbox.entries.length === 0 && this.#saidAll;
  }

  get #saidAll(): boolean {
    return this.lanes.every((lane) =>
      Array.from({ length: REPLIES }, (_, i) => `b0.${i + 1}`).every((name) =>
        this.world.storedNames(lane).some((stored) => stored === name || stored.startsWith(`${name}.`)),
      ),
    );
  }

  /** Someone looks after what halted; where dead letters are full, room is made. */
  async #retryAll(): Promise<void> {
    this.#living.accounts.ringAll();
    for (const lane of this.lanes) {
      const state = this.world.laneState(lane);
      if (state === null || (state.state !== "halted" && state.state !== "closed")) continue;
      this.#allow(lane, replyName(state));
      await this.world.control(lane, { verb: "lane-retry", at: replyName(state), by: "test" });
    }
  }

  #howItStands(): string {
    const lanes = this.lanes.map((lane) => {
      const { outbox, list } = this.world.places(lane);
      const state = this.world.laneState(lane);
      return `${lane}: ${JSON.stringify(state)} list ${list.map(({ name }) => name)} outbox ${outbox.map(({ name }) => name)}`;
    });
    const { inbox } = this.world.shard;
    return `${lanes.join("; ")}; inbox ${inbox.entries.length}; ${this.#living.failures.map(String)}`;
  }

  #judge(): void {
    this.wrong.push(...this.world.wrong);
    for (const lane of this.lanes) this.#judgeLane(lane);
    for (const [key, times] of this.#arrived)
      if (this.onAmbiguous !== "retry" && times > (this.#allowed.get(key) ?? 1))
        this.wrong.push(`${key} arrived ${times} times, by a guess`);
    if (this.#living.lanes.bytes !== 0) this.wrong.push(`${this.#living.lanes.bytes} bytes are said to be in memory`);
    const view = (this.#living.accounts as ChannelAccounts).find("test")?.view;
    if (view !== undefined && view.inFlight + view.waiting > 0) this.wrong.push(`places leak: ${JSON.stringify(view)}`);
    for (const [life, count] of this.#inFlight) if (count < 0) this.wrong.push(`${life}: ${count} in flight`);
  }

  #judgeLane(lane: ConversationKey): void {
    const names = this.world.storedNames(lane);
    const dead = new Set(this.world.places(lane).dead.map(({ name }) => name));
    for (const name of names) {
      const isThere = (this.#arrived.get(this.#keyOf(lane, name)) ?? 0) > 0;
      if (!isThere && !dead.has(name)) this.wrong.push(`${lane} ${name} is lost`);
    }
    const firsts = (this.#firsts.get(lane) ?? []).filter((name) => !this.world.everDead.has(`${lane} ${name}`));
    const places = firsts.map((name) => names.indexOf(name));
    if (places.some((place, i) => i > 0 && place <= places[i - 1]!)) this.wrong.push(`${lane}: ${firsts.join(" ")}`);
    this.#judgeMarkers(lane, names);
  }

  #judgeMarkers(lane: ConversationKey, names: readonly string[]): void {
    const isAvailable = parseConversationKey(lane).bot === "available";
    const got = new Set(this.world.markers().flatMap(({ to, id }) => (to === lane ? [id] : [])));
    const due = names.filter((name) => {
      const place = `${lane} ${name}`;
      return isAvailable && this.world.everDead.has(place) && !this.#ofNotice.has(place);
    });
    const wanted = new Set(due.map((name) => `delivery-failed:${name.split(".", 2).join(".")}`)); // one for all its parts
    for (const id of got) if (!wanted.has(id)) this.wrong.push(`${lane}: a marker of nothing: ${id}`);
    for (const id of wanted) if (!got.has(id)) this.wrong.push(`${lane}: no marker ${id}`);
  }
}

describe("lanes under a seeded world", () => {
  test("deliver or bury every reply, in order, the same bytes under the same key, each in one place at each commit", async () => {
    const counts: Counts = {};
    const failed: string[] = [];
    for (let seed = FIRST_SEED; seed < FIRST_SEED + RUNS; seed += 1) {
      const chaos = new Chaos(seed);
      await chaos.run();
      for (const [what, times] of Object.entries(chaos.counts)) counts[what] = (counts[what] ?? 0) + times;
      counts.struck = (counts.struck ?? 0) + chaos.sabotageStruck;
      counts.dead = (counts.dead ?? 0) + chaos.world.everDead.size;
      if (chaos.wrong.length > 0) failed.push(`seed ${seed}: ${chaos.wrong.slice(0, 3).join(" | ")}`);
    }
    if (RUNS >= 100) for (const what of MET) expect(counts[what], what).toBeGreaterThan(RUNS / 20);
    if (process.env.COLLOQUY_TEST_COUNTS !== undefined) process.stderr.write(`${JSON.stringify(counts)}\n`);
    expect(failed.slice(0, 10)).toEqual([]);
  });
});
