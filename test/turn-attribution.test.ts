// A1 to A4 of src/turn-attribution.ts, each in a process of its own: the test runner has listeners of its own.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";

const PROCESS = fileURLToPath(new URL("support/attribution-process.ts", import.meta.url));

const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
});

async function ended(mode: string) {
  const child = spawn(process.execPath, ["--import", "jiti/register", PROCESS, mode], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.add(child);
  let out = "";
  let err = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    out += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    err += text;
  });
  const [code] = (await once(child, "close")) as [number | null];
  children.delete(child);
  return { code, lines: out.split("\n").filter(Boolean), err };
}

describe.concurrent("a rejection that nobody awaited", () => {
  test("A1: is told to the turn whose promise it was, however it came about, and ends nothing", async () => {
    const { code, lines, err } = await ended("shapes");
    expect({ code, err }).toEqual({ code: 0, err: "" });
    const ways = ["at once", "by throwing", "behind awaits", "behind then", "by a child of a child", "by one of many"];
    const expected = ["one", "two"].flatMap((turn) => [
      ...[...ways, "by an iterator"].map((way) => `told ${turn} ${way}: ${turn} ${way}`),
      `told ${turn} of nothing: undefined`,
      `told ${turn} by Node: ENOENT: no such file or directory, open '/none/such'`,
      `told ${turn} by fetch: fetch failed`,
    ]);
    expect(lines.sort()).toEqual(expected.sort());
  });

  test.each(["outside", "runtime"])("A2, A3: ends the process as Node does where no turn made it: %s", async (mode) => {
    const [bare, attributed] = await Promise.all([ended("bare"), ended(mode)]);
    expect(attributed.code).toBe(bare.code);
    expect(attributed.code).toBe(1);
    expect(attributed.lines).toEqual([]);
    expect(attributed.err).toContain("Error: boom");
  });

  test("A2: with Node's own error for a rejection with nothing", async () => {
    const [bare, attributed] = await Promise.all([ended("bare-nothing"), ended("outside-nothing")]);
    expect(attributed.code).toBe(bare.code);
    expect(attributed.err).toContain("ERR_UNHANDLED_REJECTION");
    expect(bare.err).toContain("ERR_UNHANDLED_REJECTION");
  });

  test("A2: goes to the program's own listener where it has one", async () => {
    expect(await ended("listener")).toEqual({ code: 0, lines: ["program boom"], err: "" });
  });

  test("A2: keeps its origin, and attribution goes on if the program survives it", async () => {
    expect(await ended("kept")).toEqual({
      code: 0,
      lines: ["unhandledRejection first", "told a turn: second", "unhandledRejection third"],
      err: "",
    });
  });

  test("A4: after the last stop there is neither listener nor hook, and a next app begins anew", async () => {
    const { lines } = await ended("stopped");
    expect(lines).toEqual(["both 1", "one 1 1", "none 0 0", "told again: boom"]);
  });
});
