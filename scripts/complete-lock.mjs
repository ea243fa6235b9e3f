// Complete the lock: a package-lock.json that works on every platform and names no registry but the public one.
//
// npm writes an entry for an optional platform package only when the registry it asked has that package. A mirror that
// keeps the binaries of one platform therefore makes a lock that `npm ci` refuses everywhere ("Missing: ... from lock
// file"), even on the machine that made it. Run after every change of dependencies: `npm run lock`.
//
// Invariants
//   L1. Every optionalDependency of every entry resolves, as Node resolves, to an entry of the version it asks for.
//   L2. An added entry is optional and limited to the platform its name states: a wrong guess costs a skipped download.
//   L3. No entry names a host other than registry.npmjs.org, which npm replaces by whatever registry the user configured.
//   L4. Running it again changes nothing.

import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const REGISTRY = "https://registry.npmjs.org";
const OS = new Set([
  "aix",
  "android",
  "darwin",
  "freebsd",
  "linux",
  "netbsd",
  "openbsd",
  "openharmony",
  "sunos",
  "win32",
]);
const CPU = new Set(["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "wasm32", "x64"]);
const LIBC = { musl: "musl", musleabihf: "musl", gnu: "glibc", gnueabihf: "glibc" };
const EXACT_VERSION = /^\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?$/;

/**
 * What a platform package's name says about where it runs; `@biomejs/cli-linux-x64-musl` is linux, x64, musl.
 * @param {string} name
 * @returns {{ os?: string[], cpu?: string[], libc?: string[] }} only what the name states
 */
export function platformOf(name) {
  const words = name.split(/[^a-z0-9]+/i);
  const os = words.find((word) => OS.has(word));
  const cpu = words.find((word) => CPU.has(word));
  const libc = words.map((word) => LIBC[word]).find(Boolean);
  return { ...(os && { os: [os] }), ...(cpu && { cpu: [cpu] }), ...(os === "linux" && libc && { libc: [libc] }) };
}

/** The entry that `require(name)` from the package at `from` would find, or undefined. */
export function resolveEntry(packages, from, name) {
  for (let base = from; ; base = base.slice(0, Math.max(0, base.lastIndexOf("node_modules/") - 1))) {
    const path = base === "" ? `node_modules/${name}` : `${base}/node_modules/${name}`;
    if (packages[path]) return { path, entry: packages[path] };
    if (base === "") return undefined;
  }
}

/**
 * @param {object} lock a parsed package-lock.json (lockfileVersion 3); left as it is
 * @returns {{ lock: object, added: string[], unsolved: string[] }} the completed lock, the paths added (L1), and what no
 *   entry can be written for, because it is missing and its version is a range
 */
export function completeLock(lock) {
  const packages = { ...lock.packages };
  const added = [];
  const unsolved = [];
  for (const [from, parent] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
      const found = resolveEntry(packages, from, name);
      const exact = EXACT_VERSION.test(version);
      if (found && (!exact || found.entry.version === version)) continue;
      if (!exact) {
        unsolved.push(`${name}@${version} of ${from}`);
        continue;
      }
      const path = !found || from === "" ? `node_modules/${name}` : `${from}/node_modules/${name}`;
      const { os, cpu, libc } = platformOf(name);
      packages[path] = {
        version,
        ...(cpu && { cpu }),
        ...(parent.dev && { dev: true }),
        ...(parent.devOptional && { devOptional: true }),
        ...(libc && { libc }),
        optional: true,
        ...(os && { os }),
      }; // npm's own order of fields, so that a later `npm install` makes no noise
      added.push(path);
    }
  }
  const sorted = Object.keys(packages).sort((a, b) => a.localeCompare(b, "en"));
  return {
    lock: { ...lock, packages: Object.fromEntries(sorted.map((path) => [path, withNeutralUrl(path, packages[path])])) },
    added,
    unsolved,
  };
}

/** L3: a registry package's tarball under its public address; links and git or file dependencies stay as they are. */
function withNeutralUrl(path, entry) {
  if (path === "" || entry.link || !entry.version) return entry;
  const name = entry.name ?? path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
  const tarball = `/${name}/-/${name.slice(name.lastIndexOf("/") + 1)}-${entry.version}.tgz`;
  if (entry.resolved && !entry.resolved.endsWith(tarball)) return entry;
  const { version, resolved: _, ...rest } = entry;
  return { ...(entry.name && { name }), version, resolved: REGISTRY + tarball, ...rest };
}

function main() {
  const file = fileURLToPath(new URL("../package-lock.json", import.meta.url));
  const before = readFileSync(file, "utf8");
  const { lock, added, unsolved } = completeLock(JSON.parse(before));
  if (unsolved.length > 0) {
    console.error(
      `package-lock.json was not changed: no entry can be made for ${unsolved.join(", ")}; pin an exact version`,
    );
    process.exit(1);
  }
  const after = `${JSON.stringify(lock, null, 2)}\n`;
  if (after === before) return;
  writeFileSync(`${file}.next`, after);
  renameSync(`${file}.next`, file);
  console.log(`package-lock.json: ${added.length} platform packages added`);
  for (const path of added) console.log(`  ${path}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
