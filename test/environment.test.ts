// The environment of a supervised part (src/environment.ts).

import { expect, test } from "vitest";
import { PartEnvironment } from "../src/environment.ts";
import { VirtualEnvironment } from "./support/virtual-environment.ts";

test("what ends with a part ends also if the part failed before that was told", () => {
  const ended: string[] = [];
  const part = new PartEnvironment(new VirtualEnvironment(1), () => ended.push("failed"));
  part.guard(() => {
    throw new Error("a mistake");
  });
  part.onClose(() => ended.push("closed"));
  expect(ended).toEqual(["failed", "closed"]);
});
