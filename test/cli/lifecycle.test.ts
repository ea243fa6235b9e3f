import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";

const HOST = fileURLToPath(new URL("support/lifecycle-process.ts", import.meta.url));

interface Host {
  readonly child: ChildProcess;
  readonly lines: string[];
  saw(line: RegExp): Promise<void>;
  ended: Promise<number | null>;
}

async function host(...args: string[]): Promise<Host> {
  const child = spawn(process.execPath, ["--import", "jiti/register", HOST, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const lines: string[] = [];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    lines.push(...text.split("\n").filter(Boolean));
    child.emit("line");
  });
  const ended = once(child, "close").then(([code]) => code as number | null);
  const saw = async (line: RegExp) => {
    while (!lines.some((each) => line.test(each))) await Promise.race([once(child, "line"), ended]);
  };
  await saw(/^ready$/);
  return { child, lines, saw, ended };
}

describe.concurrent("the end of the process", () => {
  test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("L1: %s stops the app and exits 0", async (signal) => {
    const { child, lines, ended } = await host("", "100");
    child.kill(signal);
    expect(await ended).toBe(0);
    expect(lines).toEqual([
      "ready",
      `say ${signal}: draining, at most 1000 ms; once more to exit at once`,
      "stopping",
      "stopped",
    ]);
  });

  test("L4: ctrl-c under npm, which sends SIGINT twice, drains and exits 0", async () => {
    const { child, lines, saw, ended } = await host("", "500");
    child.kill("SIGINT");
    await saw(/^stopping$/);
    child.kill("SIGINT");
    expect(await ended).toBe(0);
    expect(lines.at(-1)).toBe("stopped");
  });

  test("L1: one more signal later exits 1 at once", async () => {
    const { child, lines, saw, ended } = await host("", "60000", "60000");
    child.kill("SIGTERM");
    await saw(/^stopping$/);
    await sleep(1_200); // longer than a signal counts as the same one
    child.kill("SIGTERM");
    expect(await ended).toBe(1);
    expect(lines.at(-1)).toBe("say SIGTERM again, exiting at once; nothing admitted is lost");
  });

  test("L1: a stop that hangs is cut a little after its time, with exit 1", async () => {
    const { child, lines, ended } = await host("", "60000", "0");
    child.kill("SIGTERM");
    expect(await ended).toBe(1);
    expect(lines.at(-1)).toBe("say not stopped after 5000 ms, exiting; nothing admitted is lost");
  });

  test("a stop that fails is told and exits 1", async () => {
    const { child, lines, ended } = await host("stop-fails");
    child.kill("SIGTERM");
    expect(await ended).toBe(1);
    expect(lines.at(-1)).toBe("tell no");
  });

  test("L2: an uncaught exception is told and exits 1 without a drain", async () => {
    const { lines, ended } = await host("throws");
    expect(await ended).toBe(1);
    expect(lines).toEqual(["ready", "tell boom"]);
  });

  test("L2: so is an unhandled rejection, even of nothing", async () => {
    const { lines, ended } = await host("rejects");
    expect(await ended).toBe(1);
    expect(lines).toEqual(["ready", expect.stringMatching(/^tell .*the reason "undefined"/)]);
  });
});
