// The package as npm would publish it: what is in it, and that types, exports and links are right for whoever installs it.

import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, normalize } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { localLinks, ROOT } from "../docs/support/markdown.ts";

const run = promisify(execFile);
const folder = mkdtempSync(join(tmpdir(), "colloquy-package-"));
let tarball = "";
let files: readonly string[] = [];

beforeAll(async () => {
  const args = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  const { stdout } = await run("npm", args, { cwd: ROOT, maxBuffer: 16 << 20 });
  const parsed: unknown = JSON.parse(stdout);
  const [packed] = (Array.isArray(parsed) ? parsed : Object.values(parsed as object)) as PackedTarball[];
  tarball = join(folder, packed!.filename);
  files = packed!.files.map(({ path }) => path);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface PackedTarball {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

describe("the tarball", () => {
  test("holds all that runs: what tsc makes of each source, and each file that is read at run time", () => {
    const wanted = ["src", "actors", "supervisors"].flatMap((room) =>
      (readdirSync(join(ROOT, room), { recursive: true }) as string[]).flatMap((name) => {
        if (/(?<!\.d)\.ts$/.test(name)) {
          const stem = `dist/${room}/${name.slice(0, -".ts".length)}`;
          return [`${stem}.js`, `${stem}.d.ts`];
        }
        return /\.(?:lua|mjs|d\.mts|html|css|js)$/.test(name) ? [`dist/${room}/${name}`] : [];
      }),
    );
    expect(wanted).toContain("dist/src/store/lua/commit.lua");
    expect(wanted).toContain("dist/src/page/index.html");
    expect(wanted.filter((file) => !files.includes(file))).toEqual([]);
  });

  test("holds each source that a source map of it names", () => {
    const maps = files.filter((file) => file.endsWith(".map"));
    expect(maps.length).toBeGreaterThan(50);
    const missing = maps.flatMap((map) => {
      const { sources } = JSON.parse(readFileSync(join(ROOT, map), "utf8")) as { sources: readonly string[] };
      return sources.map((source) => normalize(join(dirname(map), source))).filter((source) => !files.includes(source));
    });
    expect(missing).toEqual([]);
  });

  test("holds nothing else: no tests, benchmarks, scripts, build leftovers or data", () => {
    const known =
      /^(?:dist\/(?:src|actors|supervisors)|src|actors|supervisors|examples|templates|docs)\/|^(?:README|ARCHITECTURE|CHANGELOG|CONTRIBUTING|SECURITY)\.md$|^LICENSE$|^package\.json$/;
    const foreign =
      /(?:^|\/)(?:test|bench|node_modules|\.data)\/|^(?!templates\/).*\.test\.|\.tsbuildinfo|\.colloquy-build|\.log$/;
    expect(files.filter((file) => !known.test(file) || foreign.test(file))).toEqual([]);
  });

  test("has links in docs/ that lead to what it holds; other pages may also name the repository's own rooms", () => {
    const pages = files.filter((file) => file.endsWith(".md"));
    expect(pages).toContain("docs/config.md");
    const broken = pages.flatMap((page) =>
      localLinks({ path: page, text: readFileSync(join(ROOT, page), "utf8") })
        .map((link) => link.split("#")[0]!)
        .filter((link) => link !== "")
        .map((link) => normalize(join(dirname(page), link)))
        .filter((target) => !holds(target) && !(isOfDevelopers(page) && /^(?:test|bench|scripts)\//.test(target)))
        .map((target) => `${page} -> ${target}`),
    );
    expect(broken).toEqual([]);
  });
});

const holds = (target: string): boolean =>
  files.includes(target) || files.some((file) => file.startsWith(target.replace(/\/?$/, "/")));

const isOfDevelopers = (page: string): boolean => !page.startsWith("docs/");

describe("package.json", () => {
  const { exports: doors, bin } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
    exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
    bin: Readonly<Record<string, string>>;
  };

  test("exports files that are in the tarball, types first", () => {
    const targets = Object.values(doors).flatMap((door) => (typeof door === "string" ? [door] : Object.values(door)));
    const all = [...targets, ...Object.values(bin)].map((target) => normalize(target));
    expect(all.filter((target) => !files.includes(target) || !existsSync(join(ROOT, target)))).toEqual([]);
    for (const door of Object.values(doors)) if (typeof door !== "string") expect(Object.keys(door)[0]).toBe("types");
  });

  test("has nothing that publint objects to", async () => {
    const { stdout } = await run(process.execPath, [cli("publint"), "run", tarball, "--strict"], { cwd: ROOT });
    expect(stdout).toContain("All good!");
  });

  test("has types that every way of importing finds (attw)", async () => {
    // CommonJS gets the ES module by require, which Node has had since 20.19, our least version. `node10` is how older ones
    // and their compilers looked: without `exports`.
    const rules = ["--profile", "node16", "--ignore-rules", "cjs-resolves-to-esm"];
    const args = [cli("@arethetypeswrong/cli"), tarball, ...rules, "--format", "json"];
    const { stdout } = await run(process.execPath, args, { cwd: ROOT, maxBuffer: 64 << 20 });
    const { analysis, problems } = JSON.parse(stdout) as AttwReport;
    expect(Object.keys(analysis.entrypoints).sort()).toEqual(Object.keys(doors).sort());
    const others = Object.values(problems ?? {})
      .flat()
      .filter(({ kind, resolutionKind }) => kind !== "CJSResolvesToESM" && resolutionKind !== "node10");
    expect(others).toEqual([]);
  });
});

interface AttwReport {
  readonly analysis: { readonly entrypoints: Readonly<Record<string, unknown>> };
  readonly problems?: Readonly<Record<string, readonly { readonly kind: string; readonly resolutionKind?: string }[]>>;
}

/** The script behind a package's only command. */
function cli(name: string): string {
  const { bin } = JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8")) as {
    bin: string | Readonly<Record<string, string>>;
  };
  return join(ROOT, "node_modules", name, typeof bin === "string" ? bin : Object.values(bin)[0]!);
}
