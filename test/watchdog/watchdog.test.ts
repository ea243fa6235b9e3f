// The watchdog with real processes: who is ended, who is not, and what stands in the log.

import { type ChildProcess, fork, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { WebSocket } from "undici";
import { describe, expect, type TestContext, test } from "vitest";
import { until } from "../system/support/arena.ts";

const LIMIT_MS = 500;
const SOON_MS = 50_000;
const CHILD = fileURLToPath(new URL("support/watched-process.ts", import.meta.url));
const isLinux = process.platform === "linux";

class WatchedProcess {
  readonly said: unknown[] = [];
  stderr = "";
  end: { readonly code: number | null; readonly signal: NodeJS.Signals | null } | undefined;
  readonly #child: ChildProcess;

  constructor({ onTestFinished }: TestContext, deed: string, { limitMs = LIMIT_MS, durationMs = 0 } = {}) {
    this.#child = fork(CHILD, [deed, String(limitMs), String(durationMs)], {
      execArgv: ["--import", "jiti/register"],
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child.on("message", (words) => this.said.push(words));
    this.#child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text;
    });
    this.#child.once("close", (code, signal) => {
      this.end = { code, signal };
    });
    onTestFinished(() => this.kill());
  }

  get pid(): number {
    return this.#child.pid!;
  }

  send(words: string): void {
    this.#child.send(words);
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Lines of its log. */
  get lines(): Record<string, unknown>[] {
    return this.stderr.split("\n").flatMap((line) => (line.startsWith("{") ? [JSON.parse(line)] : []));
  }

  async says<Words>(isIt: (words: unknown) => words is Words): Promise<Words> {
    const found = await until(
      () => this.said.filter(isIt).map((words) => ({ words }))[0] ?? (this.end ? "ended" : undefined),
      { what: "words of the process", withinMs: SOON_MS, explain: () => this.stderr },
    );
    if (found === "ended") throw new Error(`it ended ${JSON.stringify(this.end)}: ${this.stderr}`);
    return found.words;
  }

  async ends() {
    return until(() => this.end, { what: "its end", withinMs: SOON_MS, explain: () => this.stderr });
  }

  kill(): void {
    if (this.end === undefined) this.#child.kill("SIGKILL");
  }
}

const word =
  <Word extends string>(wanted: Word) =>
  (words: unknown): words is Word =>
    words === wanted;
const has =
  <Name extends string>(name: Name) =>
  (words: unknown): words is Record<Name, unknown> =>
    typeof words === "object" && words !== null && name in words;

describe.concurrent("a main thread that is blocked", () => {
  test("in an endless loop: killed within its limit and 2 s, after a line that says where", async (context) => {
    const blocked = new WatchedProcess(context, "loop");
    await blocked.says(word("started"));
    const startedMs = performance.now();
    expect(await blocked.ends()).toEqual({ code: null, signal: "SIGKILL" });
    const tookMs = Math.round(performance.now() - startedMs);
    expect(blocked.lines).toHaveLength(1);
    const line = blocked.lines[0]! as { frames: string[]; cpuMs: number };
    process.stdout.write(`watchdog: killed ${tookMs} ms after its start, at ${line.cpuMs} ms of CPU\n`);
    expect(line).toMatchObject({ level: "fatal", pid: blocked.pid, label: "tested", watchdogMs: LIMIT_MS });
    expect(line.cpuMs).toBeGreaterThanOrEqual(LIMIT_MS);
    expect(line.cpuMs).toBeLessThan(LIMIT_MS + 2_000);
    expect(Object.keys(line).slice(0, 3)).toEqual(["level", "time", "pid"]);
    expect(line.frames.length).toBeLessThanOrEqual(10);
    const place = sourceLineOf("for (;;) spin(Number.MAX_SAFE_INTEGER)");
    expect(line.frames.join("\n")).toContain(`innermostLoop (${CHILD}:${place}:`);
    expect(blocked.said).not.toContain("exit handler ran");
  });

  test("in an endless chain of promises: killed, with the place", async (context) => {
    const blocked = new WatchedProcess(context, "microtasks");
    expect(await blocked.ends()).toEqual({ code: null, signal: "SIGKILL" });
    expect(blocked.lines).toMatchObject([{ level: "fatal", frames: [expect.stringContaining("microtasks")] }]);
  });

  test("in native code: killed, and the line says that no frame was to be had", async (context) => {
    const blocked = new WatchedProcess(context, "native");
    expect(await blocked.ends()).toEqual({ code: null, signal: "SIGKILL" });
    expect(blocked.lines).toMatchObject([{ level: "fatal", frames: [], message: expect.stringContaining("native") }]);
  });
});

describe.concurrent("a main thread that is not blocked", () => {
  /** What must not end it goes on for three times the limit. */
  const durationMs = 3 * LIMIT_MS;

  async function comesBack(watched: WatchedProcess): Promise<void> {
    await watched.says(word("came back"));
    expect(watched.end).toBeUndefined();
    expect(watched.lines.filter(({ level }) => level === "fatal")).toEqual([]);
  }

  test("but stopped by SIGSTOP for three times the limit: goes on after SIGCONT", async (context) => {
    const watched = new WatchedProcess(context, "turn", { durationMs });
    await watched.says(word("started"));
    watched.signal("SIGSTOP");
    const endMs = performance.now() + durationMs;
    await until(() => performance.now() > endMs, { what: "time to pass", withinMs: SOON_MS });
    watched.signal("SIGCONT");
    await comesBack(watched);
    expect(watched.lines).toEqual([]);
  });

  test("but waits in a synchronous call: told of once, not ended", async (context) => {
    const watched = new WatchedProcess(context, "wait", { durationMs: 2 * durationMs });
    await comesBack(watched);
    if (isLinux) expect(watched.lines).toMatchObject([{ level: "warn", message: expect.stringContaining("waits") }]);
  });

  test("but stands at a breakpoint: goes on after it", async (context) => {
    const watched = new WatchedProcess(context, "breakpoint", { durationMs });
    const { heldMs } = await watched.says(has("heldMs"));
    expect(heldMs).toBeGreaterThanOrEqual(durationMs - 1);
    await comesBack(watched);
  });

  test("but awaits for long in one turn: nothing is said", async (context) => {
    const watched = new WatchedProcess(context, "turn", { durationMs });
    await comesBack(watched);
    expect(watched.lines).toEqual([]);
  });

  test("but waits for the CPU among many busy neighbours: nothing is said", async (context) => {
    const watched = new WatchedProcess(context, "stretches", { durationMs });
    await watched.says(word("started"));
    for (let i = 0; i < 4 * availableParallelism(); i += 1) {
      const neighbour = spawn(process.execPath, ["-e", "for (;;);"], { stdio: "ignore" });
      context.onTestFinished(() => void neighbour.kill("SIGKILL"));
    }
    watched.send("go");
    await comesBack(watched);
    expect(watched.lines).toEqual([]);
  });

  test("but is looked at with a debugger: computes on beyond its limit", async (context) => {
    const watched = new WatchedProcess(context, "inspected", { durationMs });
    const { inspector } = await watched.says(has("inspector"));
    const client = new WebSocket(String(inspector));
    context.onTestFinished(() => client.close());
    await until(() => client.readyState === WebSocket.OPEN, { what: "the debugger", withinMs: SOON_MS });
    watched.send("go");
    await comesBack(watched);
    expect((await watched.says(has("cpuMs"))).cpuMs).toBeGreaterThan(2 * LIMIT_MS);
    expect(watched.lines).toEqual([]);
  });

  /** On Linux the connections of the machine can be listed. */
  test("but has an open inspector that nobody is connected to: ended on Linux, elsewhere taken for looked at", async (context) => {
    const watched = new WatchedProcess(context, "inspected", { durationMs: isLinux ? SOON_MS : durationMs });
    await watched.says(has("inspector"));
    watched.send("go");
    if (isLinux) expect(await watched.ends()).toEqual({ code: null, signal: "SIGKILL" });
    else await comesBack(watched);
  });
});

describe.concurrent("its life", () => {
  test("stopped, it ends nothing; started again in the same process, it does", async (context) => {
    const watched = new WatchedProcess(context, "restarted");
    expect(await watched.ends()).toEqual({ code: null, signal: "SIGKILL" });
    expect(watched.lines).toMatchObject([{ level: "fatal" }]); // after the start, not while it was stopped
    expect((watched.lines[0]!.frames as string[]).join("\n")).toContain("innermostLoop");
  });

  test("stopped, it lets the process compute as long as it likes", async (context) => {
    const watched = new WatchedProcess(context, "stopped", { durationMs: 3 * LIMIT_MS });
    await watched.says(word("came back"));
    expect(watched.lines).toEqual([]);
  });

  test("does not keep the process alive", async (context) => {
    expect(await new WatchedProcess(context, "leave", { limitMs: 10_000 }).ends()).toEqual({ code: 0, signal: null });
  });
});

/** The line of the child's source that holds this text, from 1. */
function sourceLineOf(text: string): number {
  return (
    readFileSync(CHILD, "utf8")
      .split("\n")
      .findIndex((line) => line.includes(text)) + 1
  );
}
