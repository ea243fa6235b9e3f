import { test as propertyTest } from "@fast-check/vitest";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ChannelAccount, ChannelAccounts } from "../../actors/channel-accounts.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

class Waiter {
  admissions = 0;
  readonly #onAdmitted: () => void;

  constructor(onAdmitted: () => void = () => undefined) {
    this.#onAdmitted = onAdmitted;
  }

  admitted(): void {
    this.admissions += 1;
    this.#onAdmitted();
  }
}

const steps = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("enter" as const) }),
    fc.record({ kind: fc.constant("cancel" as const), which: fc.nat(20) }),
    fc.record({
      kind: fc.constant("leave" as const),
      how: fc.constantFrom("delivered", "retryable", "ambiguous", "terminal", "gone", "unused"),
    }),
    fc.record({ kind: fc.constant("pass" as const), ms: fc.nat(300) }),
  ),
  { maxLength: 120, size: "max" },
);

describe("an account", () => {
  propertyTest.prop(
    [
      fc.record({
        concurrency: fc.integer({ min: 1, max: 5 }),
        ratePerSecond: fc.constantFrom(undefined, 5, 50),
        breakerFailures: fc.constantFrom(2, 4, Number.POSITIVE_INFINITY),
      }),
      steps,
    ],
    { numRuns: 1_000 },
  )(
    "never has more under way than places, admits in order, and leaves nobody waiting for ever (Q1, Q2, Q3)",
    async (options, all) => {
      const environment = new VirtualEnvironment(1);
      const { ratePerSecond, ...others } = options;
      const account = new ChannelAccount(
        "http",
        { ...others, ...(ratePerSecond !== undefined && { ratePerSecond }), breakerOpenMs: 100, breakerOpenMsMax: 400 },
        environment,
      );
      const waiting: Waiter[] = [];
      let inFlight = 0;
      const wait = (): void => {
        const waiter = new Waiter(() => {
          expect(waiting.shift()).toBe(waiter); // Q2
          inFlight += 1;
        });
        waiting.push(waiter);
        account.wait(waiter);
      };
      const check = (): void => {
        const { places, breaker, ...view } = account.view;
        expect(view).toMatchObject({ inFlight, waiting: waiting.length });
        expect(inFlight).toBeLessThanOrEqual(options.concurrency); // Q1
        if (breaker !== "closed") expect(places).toBe(1);
      };
      for (const step of all) {
        if (step.kind === "enter") {
          if (account.tryEnter()) {
            expect(waiting).toEqual([]);
            inFlight += 1;
          } else wait();
        } else if (step.kind === "leave" && inFlight > 0) {
          inFlight -= 1;
          account.leave(step.how);
        } else if (step.kind === "cancel" && waiting.length > 0) {
          const [gone] = waiting.splice(step.which % waiting.length, 1);
          account.cancel(gone!);
        } else if (step.kind === "pass") {
          await environment.pass(step.ms);
          account.ring();
        }
        check();
      }
      for (let i = 0; waiting.length + inFlight > 0; i += 1) {
        expect(i).toBeLessThan(2_000); // all that wait are admitted in the end
        if (inFlight > 0) {
          inFlight -= 1;
          account.leave("delivered");
        }
        await environment.pass(100);
        account.ring();
        check();
      }
      expect(account.view).toMatchObject({ inFlight: 0, waiting: 0 });
    },
  );

  test("that is dead lets one through at a time, later each time; when it answers, places come back one by one", async () => {
    const environment = new VirtualEnvironment(1);
    const account = new ChannelAccount("http", { concurrency: 8, breakerFailures: 3 }, environment);
    for (let i = 0; i < 3; i += 1) expect(account.tryEnter()).toBe(true);
    expect([account.leave("retryable"), account.leave("ambiguous"), account.leave("retryable")]).toEqual([
      null,
      null,
      1_000,
    ]);
    const order: number[] = [];
    for (let i = 0; i < 100; i += 1) account.wait(new Waiter(() => order.push(i)));
    for (const openMs of [1_000, 2_000, 4_000]) {
      await environment.pass(openMs - 1);
      account.ring();
      expect(account.view).toMatchObject({ breaker: "open", inFlight: 0 });
      await environment.pass(1);
      account.ring();
      account.ring();
      expect(account.view).toMatchObject({ breaker: "half-open", inFlight: 1 });
      expect(account.leave("retryable")).toBe(openMs * 2);
    }
    await environment.pass(8_000);
    account.ring();
    const underWay: number[] = [];
    for (let i = 0; i < 10; i += 1) {
      account.leave("delivered");
      underWay.push(account.view.inFlight);
    }
    expect(underWay).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 8, 8]);
    expect(order).toEqual(order.map((_, i) => i));
    expect(account.view.openings).toBe(4);
  });

  test("a probe that was not used is had by the next; one who asks when the time has come is let through without a ring", async () => {
    const environment = new VirtualEnvironment(1);
    const account = new ChannelAccount("http", { breakerFailures: 1 }, environment);
    account.tryEnter();
    account.leave("retryable");
    expect(account.tryEnter()).toBe(false);
    await environment.pass(1_000);
    expect(account.tryEnter()).toBe(true);
    expect(account.tryEnter()).toBe(false);
    const next = new Waiter();
    account.wait(next);
    expect(next.admissions).toBe(0);
    account.leave("unused");
    expect(next.admissions).toBe(1);
  });

  test("100,000 that wait and do not use their place are gone through, and cost no share of the rate", () => {
    const options = { concurrency: 1, ratePerSecond: 1, burst: 2 };
    const account = new ChannelAccount("http", options, new VirtualEnvironment(1));
    expect(account.tryEnter()).toBe(true);
    for (let i = 0; i < 100_000; i += 1) account.wait(new Waiter(() => account.leave("unused")));
    const last = new Waiter();
    account.wait(last);
    account.leave("delivered");
    expect(last.admissions).toBe(1);
    expect(account.view).toMatchObject({ waiting: 0, inFlight: 1, ended: { delivered: 1, retryable: 0 } });
  });

  test("is one for a channel, however many ask; a channel without bounds has none", () => {
    const accounts = new ChannelAccounts(new VirtualEnvironment(1));
    const channel = { name: "sms", account: { concurrency: 2 } };
    expect(accounts.of(channel)).toBe(accounts.of({ ...channel }));
    expect(accounts.of({ name: "mail" })).toBeNull();
    expect(accounts.views.map(({ name, concurrency }) => ({ name, concurrency }))).toEqual([
      { name: "sms", concurrency: 2 },
    ]);
  });
});
