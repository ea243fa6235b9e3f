import { execFile } from "node:child_process";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, expect, test } from "vitest";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../..", import.meta.url));
const clone = mkdtempSync(join(tmpdir(), "colloquy-npm-ci-"));

afterEach(() => rmSync(clone, { recursive: true, force: true }));

test("npm ci works in an empty clone and leaves a consistent tree", async () => {
  await run("git", ["clone", "--quiet", "--depth", "1", `file://${root}`, clone]);
  for (const file of ["package.json", "package-lock.json"]) copyFileSync(join(root, file), join(clone, file)); // what is about to be committed
  const env = { ...process.env, NODE_ENV: "production" }; // also there the compiler must come along
  await run("npm", ["ci", "--include=dev", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"], {
    cwd: clone,
    env,
  });
  await run("npm", ["ls", "--all", "--include=dev"], { cwd: clone, env, maxBuffer: 16 << 20 }); // rejects on a missing or invalid package
  const { stdout } = await run("node", ["node_modules/typescript/bin/tsc", "--version"], { cwd: clone, env });
  expect(stdout).toMatch(/^Version 7\./);
});
