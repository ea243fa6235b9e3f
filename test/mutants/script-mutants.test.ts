// A Lua script with one line that is another is found out on a real Redis, and the shipped one passes the same seeds.

import { afterAll, beforeAll, expect, test } from "vitest";
import { RedisServer } from "../support/redis-server.ts";
import { patched } from "./patched-scripts.ts";
import { SCRIPT_SEEDS_MAX, ScriptHunt, scriptMutants } from "./script-mutants.ts";

let server: RedisServer;
let hunter: ScriptHunt;
const lines: string[] = [];

beforeAll(async () => {
  server = await RedisServer.start({ fsync: "off" });
  hunter = new ScriptHunt(server.path);
});
afterAll(async () => {
  hunter.close();
  await server.remove();
  process.stdout.write(`${lines.join("\n")}\n${lines.length} mutants caught\n`);
});

test.each(scriptMutants.map((mutant) => [mutant.patch.script, mutant.name, mutant] as const))(
  "%s.lua: %s: it is found out",
  { timeout: 120_000 },
  async (script, name, mutant) => {
    const { seed, twinFailed } = await hunter.hunt(mutant);
    expect(twinFailed, "seeds at which the shipped scripts differ from the model").toEqual([]);
    expect(seed, `the seed, of ${SCRIPT_SEEDS_MAX}, at which it is found`).not.toBeNull();
    lines.push(`${`${script}: ${name}`.padEnd(64)}${mutant.check.padEnd(12)} seed ${seed}`);
  },
);

test("a patch that no longer fits its script is an error, not a mutant that does nothing", () => {
  expect(() => patched({ script: "renew", from: "no such line", to: "" })).toThrow("0 times, not once");
  expect(() => patched({ script: "renew", from: "epoch", to: "" })).toThrow(/\d+ times, not once: renew the patch/);
});
