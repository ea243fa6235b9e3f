// The process from its sources: `colloquy start` with an embedded Redis, as close to a user as is possible without dist.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, onTestFinished, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const ANSWER_WITHIN_MS = 10_000;

interface Started {
  readonly child: ChildProcess;
  readonly stderr: () => string;
  readonly ended: Promise<number | null>;
  /** Resolves with the first match on stderr; rejects if the process ends before. */
  saw(pattern: RegExp): Promise<RegExpExecArray>;
}

function colloquy(...args: string[]): Started {
  const { COLLOQUY_COUNTS_FILE: _, ...env } = process.env;
  const child = spawn(process.execPath, ["--import", "jiti/register", join(root, "src/main.ts"), ...args], {
    cwd: root,
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.resume();
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    child.emit("text");
  });
  const ended = once(child, "close").then(([code]) => code as number | null);
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM"); // its Redis stops with it
    await ended;
  });
  const saw = async (pattern: RegExp) => {
    for (;;) {
      const match = pattern.exec(text);
      if (match) return match;
      const isOver = await Promise.race([once(child, "text").then(() => false), ended.then(() => true)]);
      if (isOver && !pattern.test(text)) throw new Error(`it ended without ${pattern}:\n${text}`);
    }
  };
  return { child, stderr: () => text, ended, saw };
}

test("a started bot answers, outlives the reader of its log, and exits 0 on SIGTERM", async () => {
  const data = mkdtempSync(join(tmpdir(), "colloquy-start-"));
  onTestFinished(() => rmSync(data, { recursive: true, force: true, maxRetries: 5 }));
  const { child, ended, saw } = colloquy(
    "start",
    "examples/demo.ts",
    "--port",
    "0",
    "--data",
    data,
    "--log-level",
    "debug",
  );
  const [, url = ""] = await saw(/colloquy \S+: (http:\S+), pid/);
  child.stdout?.destroy();

  const webhook = `${url}/channels/http/demo`;
  await until(async () => (await fetch(`${url}/readyz`)).ok);
  for (let n = 1; n <= 20; n += 1) {
    const body = JSON.stringify({ conversation: "c1", id: `m${n}`, text: "1 cola" });
    const answer = await fetch(webhook, { method: "POST", headers: { "content-type": "application/json" }, body });
    expect(answer.status).toBe(202);
  }
  const replies = async () =>
    (await (await fetch(`${webhook}/c1/replies?after=0`)).json()) as { role: string; text: string }[];
  await until(async () => (await replies()).some(({ text }) => text.includes("20 x Cola")));
  expect((await replies()).filter(({ role }) => role === "bot")).toHaveLength(20);

  child.kill("SIGTERM");
  expect(await ended).toBe(0);
});

test("what is wrong with the command line is one line, exit 2", async () => {
  const { ended, stderr } = colloquy("start", "examples/none.ts");
  expect(await ended).toBe(2);
  expect(stderr()).toBe(
    "colloquy: examples/none.ts: there is no such file (give the path of a bot, e.g. examples/echo.ts)\n",
  );
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + ANSWER_WITHIN_MS;
  while (!(await isSo())) {
    if (performance.now() > endMs) throw new Error("it took too long");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
