import { expect, test } from "vitest";
import { RunningStep } from "../../actors/running-step.ts";
import { VirtualEnvironment } from "../support/virtual-environment.ts";

test("own code that crashes between two tries fails the step, and nothing is left without somebody who hears of it", async () => {
  const environment = new VirtualEnvironment(1);
  environment.random = () => {
    throw new Error("own code");
  };
  const failing = () => Promise.reject(new Error("the step's"));
  const plan = { name: "s", run: failing, within: <Value>(run: () => Value) => run(), retries: 1, timeoutMs: null };
  await expect(new RunningStep(plan, environment).outcome).rejects.toThrow("own code");
});
