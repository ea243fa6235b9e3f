import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
let clone: string;

/** A small project with this one's scripts, so that the tests do not depend on how long its build takes. */
beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), "colloquy-ensure-"));
  for (const path of ["scripts", "package.json", "package-lock.json", "tsconfig.json", "tsconfig.build.json"]) {
    cpSync(join(root, path), join(clone, path), { recursive: true });
  }
  for (const file of ["redis-binary.mjs", "redis-binary.d.mts"])
    cpSync(join(root, "src", file), join(clone, "src", file));
  mkdirSync(join(clone, "src/deep"));
  writeFileSync(join(clone, "src/main.ts"), `import { one } from "./deep/one.ts";\nexport const two = one + 1;\n`);
  writeFileSync(join(clone, "src/deep/one.ts"), "export const one = 1;\n");
  writeFileSync(join(clone, "src/deep/script.lua"), "#!lua\n");
  mkdirSync(join(clone, "node_modules"));
  cpSync(join(root, "node_modules/.package-lock.json"), join(clone, "node_modules/.package-lock.json"));
  for (const name of ["typescript", "@typescript", "@types", "undici-types"]) {
    symlinkSync(join(root, "node_modules", name), join(clone, "node_modules", name));
  }
});
afterEach(() => rmSync(clone, { recursive: true, force: true }));

interface Outcome {
  code: number | null;
  output: string;
  tookMs: number;
}

async function ensure(env: Record<string, string> = {}): Promise<Outcome> {
  const startMs = performance.now();
  const child = spawn(process.execPath, ["scripts/ensure.mjs"], { cwd: clone, env: { ...process.env, ...env } });
  let output = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text: string) => (output += text));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, output, tookMs: performance.now() - startMs };
}

const dist = (): string[] => (readdirSync(join(clone, "dist/src"), { recursive: true }) as string[]).sort();

test("builds what is missing, and the second run is silent and takes less than 300 ms", async () => {
  expect(await ensure()).toMatchObject({ code: 0, output: expect.stringContaining("building") });
  expect(dist()).toEqual(
    expect.arrayContaining([
      "main.js",
      "main.d.ts",
      "deep/one.js",
      "deep/script.lua",
      "redis-binary.mjs",
      "redis-binary.d.mts",
    ]),
  );
  let fastestMs = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 10 && fastestMs >= 300; run++) {
    const { tookMs, ...outcome } = await ensure(); // the fastest counts: other work on the machine is not ours
    expect(outcome).toEqual({ code: 0, output: "" });
    fastestMs = Math.min(fastestMs, tookMs);
  }
  expect(fastestMs).toBeLessThan(300);
});

test("a changed source builds again, a deleted one leaves nothing, a touched one changes nothing", async () => {
  await ensure();
  utimesSync(join(clone, "src/main.ts"), new Date(), new Date());
  expect(await ensure()).toMatchObject({ code: 0, output: "" });
  writeFileSync(join(clone, "src/main.ts"), "export const two = 3;\n");
  rmSync(join(clone, "src/deep"), { recursive: true });
  expect(await ensure()).toMatchObject({ code: 0, output: expect.stringContaining("building") });
  expect(dist().filter((file) => file.startsWith("deep"))).toEqual([]);
  expect(readFileSync(join(clone, "dist/src/main.js"), "utf8")).toContain("two = 3");
  rmSync(join(clone, "dist"), { recursive: true });
  await ensure();
  expect(existsSync(join(clone, "dist/src/main.js"))).toBe(true);
});

test("a source that does not compile ends with code 1, the error and the command, and leaves dist as it was", async () => {
  await ensure();
  writeFileSync(join(clone, "src/main.ts"), `export const two: number = "three";\n`);
  const { code, output } = await ensure();
  expect(code).toBe(1);
  expect(output).toContain("TS2322");
  expect(output.trimEnd().split("\n").at(-1)).toBe(
    "colloquy: the sources do not compile; type: npx tsc -p tsconfig.build.json --noEmit",
  );
  expect(readFileSync(join(clone, "dist/src/main.js"), "utf8")).toContain("one + 1");
});

test("without a Redis server and without a way to get one it ends with code 2 and one command", async () => {
  await ensure();
  const { code, output } = await ensure({ PATH: "/nowhere", XDG_CACHE_HOME: join(clone, "cache") });
  expect({ code, output }).toEqual({
    code: 2,
    output:
      "colloquy: no Redis server on PATH; type: export REDIS_SERVER_BIN=/path/to/redis-server # version 7.0 or newer\n",
  });
});

test("E2: four runs at once build once, also when a killed run has left its lock", async () => {
  const { pid } = await promisify(execFile)(process.execPath, ["-p", "process.pid"]).then(({ stdout }) => ({
    pid: stdout.trim(),
  }));
  mkdirSync(join(clone, ".cache/ensure.lock"), { recursive: true });
  writeFileSync(join(clone, `.cache/ensure.lock/${pid}-dead`), "");
  const runs = await Promise.all([ensure(), ensure(), ensure(), ensure()]);
  expect(runs.map(({ code }) => code)).toEqual([0, 0, 0, 0]);
  expect(runs.filter(({ output }) => output.includes("building"))).toHaveLength(1);
  expect(dist()).toContain("main.js");
});
