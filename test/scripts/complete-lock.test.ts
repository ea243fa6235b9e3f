import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { completeLock, type Lock, platformOf, resolveEntry } from "../../scripts/complete-lock.mjs";

const committed: Lock = JSON.parse(readFileSync(new URL("../../package-lock.json", import.meta.url), "utf8"));

describe("the committed lock", () => {
  test("L1: every optional dependency of every package has an entry", () => {
    const missing = Object.entries(committed.packages).flatMap(([from, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter((name) => !resolveEntry(committed.packages, from, name)),
    );
    expect(missing, "run `npm run lock` and commit package-lock.json").toEqual([]);
  });

  test("L3: names no host but the public registry", () => {
    const hosts = Object.values(committed.packages).flatMap(({ resolved }) =>
      resolved ? [new URL(resolved).host] : [],
    );
    expect([...new Set(hosts)]).toEqual(["registry.npmjs.org"]);
  });

  test("L4: completing it again changes nothing", () => {
    const again = completeLock(committed);
    expect(again.added).toEqual([]);
    expect(JSON.stringify(again.lock)).toBe(JSON.stringify(committed));
  });
});

describe("completing a lock", () => {
  test("L2: a missing platform package becomes an optional entry of its platform, dev when its parent is", () => {
    const { lock, added } = completeLock({
      packages: {
        "": {},
        "node_modules/tool": {
          version: "2.0.0",
          dev: true,
          optionalDependencies: { "@tool/cli-linux-x64-musl": "2.0.0" },
        },
      },
    });
    expect(added).toEqual(["node_modules/@tool/cli-linux-x64-musl"]);
    expect(lock.packages["node_modules/@tool/cli-linux-x64-musl"]).toEqual({
      version: "2.0.0",
      resolved: "https://registry.npmjs.org/@tool/cli-linux-x64-musl/-/cli-linux-x64-musl-2.0.0.tgz",
      cpu: ["x64"],
      dev: true,
      libc: ["musl"],
      optional: true,
      os: ["linux"],
    });
  });

  test("L1: another version at the top sends the entry under its parent", () => {
    const { lock, added } = completeLock({
      packages: {
        "": {},
        "node_modules/@tool/darwin-arm64": { version: "1.0.0", optional: true },
        "node_modules/a/node_modules/tool": {
          version: "2.0.0",
          optionalDependencies: { "@tool/darwin-arm64": "2.0.0" },
        },
      },
    });
    expect(added).toEqual(["node_modules/a/node_modules/tool/node_modules/@tool/darwin-arm64"]);
    expect(lock.packages["node_modules/@tool/darwin-arm64"]?.version).toBe("1.0.0");
  });

  test("a missing range cannot be solved and is named", () => {
    const { added, unsolved } = completeLock({
      packages: { "node_modules/a": { version: "1.0.0", optionalDependencies: { b: "^1" } } },
    });
    expect(added).toEqual([]);
    expect(unsolved).toEqual(["b@^1 of node_modules/a"]);
  });

  test("L3: a mirror's tarball gets its public address, a git dependency and a link stay", () => {
    const git = { version: "1.0.0", resolved: "git+ssh://git@example.org/g.git#abc" };
    const link = { resolved: "packages/l", link: true };
    const { lock } = completeLock({
      packages: {
        "node_modules/a": { version: "1.0.0", resolved: "https://mirror.example/npm/a/-/a-1.0.0.tgz" },
        "node_modules/g": git,
        "node_modules/l": link,
      },
    });
    expect(lock.packages["node_modules/a"]?.resolved).toBe("https://registry.npmjs.org/a/-/a-1.0.0.tgz");
    expect(lock.packages["node_modules/g"]).toEqual(git);
    expect(lock.packages["node_modules/l"]).toEqual(link);
  });

  test.each([
    ["@msgpackr-extract/msgpackr-extract-darwin-arm64", { os: ["darwin"], cpu: ["arm64"] }],
    ["@rolldown/binding-linux-arm-gnueabihf", { os: ["linux"], cpu: ["arm"], libc: ["glibc"] }],
    ["@rolldown/binding-win32-x64-msvc", { os: ["win32"], cpu: ["x64"] }],
    ["@rolldown/binding-wasm32-wasi", { cpu: ["wasm32"] }],
    ["@esbuild/linux-loong64", { os: ["linux"], cpu: ["loong64"] }],
    ["fsevents", {}],
  ])("the name %s states %j", (name, stated) => {
    expect(platformOf(name)).toEqual(stated);
  });
});
