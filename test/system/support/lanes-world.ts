// Lanes world: the outside of a test of lanes, a provider with its accounts and the senders, and what they saw. It is in processes
// of its own, outside of what is killed.

import { writeFileSync } from "node:fs";
import { type Arena, freePort, until } from "./arena.ts";
import { checkLanes, formatLanes, type LaneHistory, type LaneReport } from "./check-lanes.ts";
import { HelperProcess } from "./helper-process.ts";
import { type History, readHistory } from "./history.ts";
import type { OutboundChannel } from "./lanes-runtime.ts";
import type { ProviderConfig, ProviderVerbs } from "./provider.ts";
import type { Behaviour } from "./provider-behaviour.ts";
import { type ProviderAttempt, readProviderLog, sinkLine } from "./provider-log.ts";
import { type Sender, startSender, type WantedSender } from "./traffic.ts";

/** For one attempt at delivering; a provider that hangs is waited for this long. */
export const SEND_TIMEOUT_MS = 2_000;
/** Far from the time-out on either side: slow answers come sooner, hung ones later. */
const LATE_US = 1_000_000;

export class LanesWorld {
  readonly provider: HelperProcess<ProviderVerbs>;
  readonly #arena: Arena;
  readonly #config: ProviderConfig;
  readonly #senderLogs: string[] = [];

  private constructor(arena: Arena, config: ProviderConfig) {
    this.#arena = arena;
    this.#config = config;
    this.provider = new HelperProcess<ProviderVerbs>(arena, "provider.ts", "provider", config);
  }

  /** @param accounts by name */
  static async start(arena: Arena, seed: number, accounts: Readonly<Record<string, Behaviour>>): Promise<LanesWorld> {
    const named = Object.entries(accounts).map(async ([name, behaviour]) => ({
      name,
      port: await freePort(),
      behaviour,
    }));
    const config = {
      seed,
      log: arena.path("provider.log"),
      feedPort: await freePort(),
      accounts: await Promise.all(named),
    };
    const world = new LanesWorld(arena, config);
    await world.provider.ask("listening", undefined);
    return world;
  }

  /** A channel of the runtime, named as the account that it delivers to, unless it is given another name. */
  channel(account: string, more: Partial<OutboundChannel> = {}): OutboundChannel {
    const found = this.#config.accounts.find(({ name }) => name === account);
    if (!found) throw new Error(`there is no account ${account}`);
    return {
      name: account,
      deliverTo: `http://127.0.0.1:${found.port}/${account}`,
      timeoutMs: SEND_TIMEOUT_MS,
      ...more,
    };
  }

  async send(idPrefix: string, wanted: WantedSender): Promise<Sender> {
    const { seed, feedPort } = this.#config;
    const feed = `http://127.0.0.1:${feedPort}/feed`;
    const { sender, log } = await startSender(this.#arena, { seed, feed, idPrefix, ...wanted });
    this.#senderLogs.push(log);
    return sender;
  }

  /** All that the provider logged so far, in the order of its coming. */
  attempts(): ProviderAttempt[] {
    return readProviderLog(this.#config.log);
  }

  /** As `colloquy verify` takes it. */
  history(): History {
    const sent = readHistory(this.#senderLogs);
    return { ...sent, deliveries: this.attempts().flatMap((attempt) => sinkLine(attempt) ?? []) };
  }

  /** Writes what the provider saw into the arena's folder, for `colloquy verify`. */
  writeSinkLog(): void {
    const lines = this.attempts().flatMap((attempt) => sinkLine(attempt) ?? []);
    writeFileSync(this.#arena.path("sink.ndjson"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  }

  /** Waits until an account has given so many replies a 2xx. */
  async delivers(account: string, count: number, withinMs: number, explain: () => string = () => ""): Promise<void> {
    await until(async () => (await this.provider.ask("status", account)).delivered >= count, {
      what: `${count} replies at account ${account}`,
      withinMs,
      explain: async () => `${JSON.stringify(await this.provider.ask("status", account))}\n${explain()}`,
    });
  }

  /** Judges what the provider saw. @throws Error that shows the first violations */
  expectLanesKept(done: Pick<LaneHistory, "kills" | "stops"> = { kills: [], stops: [] }): LaneReport {
    const report = checkLanes({ attempts: this.attempts(), ...done, lateUs: LATE_US });
    if (report.violations.length > 0) throw new Error(`the lanes broke their promise\n${formatLanes(report)}`);
    return report;
  }
}
