import { describe, expect, test } from "vitest";
import { ChannelAccounts } from "../../actors/channel-accounts.ts";
import { Lanes, type LanesOptions } from "../../actors/lanes.ts";
import { type Alarm, accountAlarm } from "../../actors/retry-worker.ts";
import { PartEnvironment } from "../../src/environment.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

/** Of a shard without lanes and without a sweep: all that rings the account is the queue, which takes one wake-up of it at a time. */
function shardOf(environment: VirtualEnvironment, accounts: ChannelAccounts) {
  const waiting = new Set<Alarm>();
  const rung: number[] = [];
  const wakeUpAfter = (alarm: Alarm, delayMs: number): void => {
    if (waiting.has(alarm)) return;
    waiting.add(alarm);
    environment.after(delayMs, () => {
      waiting.delete(alarm);
      rung.push(environment.nowMs());
      lanes.ring(alarm);
    });
  };
  const part = new PartEnvironment(environment, (error) => {
    throw error;
  });
  const parts: Partial<LanesOptions> = { environment: part, accounts, wakeUpAfter, sweepMs: 0 };
  const lanes = new Lanes({ ...parts, committer: {} } as LanesOptions);
  return { wakeUpAfter, rung };
}

describe("the one wake-up of an account", () => {
  test("comes again if it came early, since it took the place of the one that was due", async () => {
    const environment = new VirtualEnvironment(1);
    const accounts = new ChannelAccounts(environment);
    const account = accounts.of({ name: "sms", account: { concurrency: 3, breakerFailures: 1 } })!;
    const { wakeUpAfter, rung } = shardOf(environment, accounts);
    const startMs = environment.nowMs();
    const fail = (): void => wakeUpAfter(accountAlarm("sms"), account.leave("retryable")!);
    for (let i = 0; i < 2; i += 1) account.tryEnter();
    fail();
    await environment.pass(400);
    account.leave("delivered"); // one that was under way closes it
    account.tryEnter();
    fail(); // opens until 1,400
    let admittedAtMs = 0;
    account.wait({
      admitted: () => {
        admittedAtMs = environment.nowMs();
      },
    });
    await environment.pass(5_000);
    expect(rung.map((atMs) => atMs - startMs)).toEqual([1_000, 1_400]);
    expect(admittedAtMs - startMs).toBe(1_400);
  });

  test("of a channel that nothing was sent to yet rings nobody", async () => {
    const environment = new VirtualEnvironment(1);
    const { wakeUpAfter, rung } = shardOf(environment, new ChannelAccounts(environment));
    wakeUpAfter(accountAlarm("sms"), 10);
    await environment.pass(1_000);
    expect(rung).toHaveLength(1);
  });
});
