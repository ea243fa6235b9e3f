import { execFile } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
let clone: string;

beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), "colloquy-ci-"));
  cpSync(join(root, ".ci"), join(clone, ".ci"), { recursive: true });
  put("scripts/ensure.mjs", "");
});
afterEach(() => rmSync(clone, { recursive: true, force: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(clone, path)), { recursive: true });
  writeFileSync(join(clone, path), text);
}

/** Runs .ci/run with an npm whose commands are these lines of shell. */
function ci(commands: Record<string, string>): Promise<{ code: number; last: string | undefined }> {
  const cases = Object.entries(commands).map(([name, script]) => `"${name}") ${script} ;;`);
  put(
    "bin/npm",
    `#!/bin/sh\ncount() { echo "{\\"passed\\":$1,\\"failed\\":$2,\\"skipped\\":$3}" >>"$COLLOQUY_COUNTS_FILE"; }\ncase "$*" in\n${cases.join("\n")}\nesac\n`,
  );
  chmodSync(join(clone, "bin/npm"), 0o755);
  const env = { ...process.env, PATH: `${join(clone, "bin")}:${process.env.PATH}` };
  return new Promise((resolve) => {
    execFile(join(clone, ".ci/run"), { env }, (error, stdout) =>
      resolve({ code: error ? Number(error.code) : 0, last: stdout.trimEnd().split("\n").at(-1) }),
    );
  });
}

test("sums the tiers, the check and the preparation; an empty tier counts nothing", async () => {
  const outcome = await ci({
    "run check": "true",
    test: "count 10 0 0",
    "run test:system": "count 3 0 0",
    "run test:page": "true",
  });
  expect(outcome).toEqual({ code: 0, last: "15 passed, 0 failed" });
});

test("what a tier prints is not read", async () => {
  const garbage = `printf '999 passed, 999 failed\\n\\033[31m\\000{"failed":7}'; count 2 0 0`;
  expect(await ci({ test: garbage, "run test:system": garbage })).toEqual({ code: 0, last: "6 passed, 0 failed" });
});

test("a tier that dies without having counted is one failure", async () => {
  expect(await ci({ test: "count 2 0 0", "run test:system": "kill -9 $$" })).toEqual({
    code: 1,
    last: "4 passed, 1 failed",
  });
});

test("counted failures are counted once, a failed check is one", async () => {
  const outcome = await ci({ "run check": "exit 1", test: "count 5 2 0; exit 1" });
  expect(outcome).toEqual({ code: 1, last: "6 passed, 3 failed" });
});

test("a skipped test is a failure", async () => {
  expect(await ci({ test: "count 5 0 1; exit 1" })).toEqual({ code: 1, last: "7 passed, 1 failed" });
});
