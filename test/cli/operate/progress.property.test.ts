// P1, P2: of what was asked, each is through, left, or stands again; what was never asked counts nowhere.

import fc from "fast-check";
import { expect, test } from "vitest";
import { standingOf, UNDER_WAY } from "../../../src/cli/operate/progress.ts";

test("any standstills: through, left and again make up what was asked", () => {
  const standstills = fc
    .array(fc.tuple(fc.constantFrom<string>("a", "b", "c", "d", "e"), fc.constantFrom("1", "2", UNDER_WAY)))
    .map((entries) => new Map(entries));
  fc.assert(
    fc.property(standstills, standstills, (asked, now) => {
      const { left, again } = standingOf(asked, now);
      const names = [...asked.keys()];
      const isLeft = (name: string): boolean => [asked.get(name), UNDER_WAY].includes(now.get(name) ?? "gone");
      expect(left).toBe(names.filter(isLeft).length);
      expect(left + again).toBe(names.filter((name) => now.has(name)).length);
    }),
  );
});
