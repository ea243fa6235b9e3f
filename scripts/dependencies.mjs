// Dependencies: docs/dependencies.md, made from package.json and package-lock.json. A test keeps the committed file up to
// date and its count below the bound.
//
// Usage: node scripts/dependencies.mjs        writes docs/dependencies.md
//
// Invariants
//   D1. What is counted is what `npm install colloquy` may put on a disk: optional packages included, each version once.
//   D2. Each direct dependency has its reason here; one without a reason, or a reason without one, fails.

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The packages that the project is built on; their trees are theirs. */
export const FOUNDATION = ["bullmq", "fastify", "ioredis", "nact", "pino"];
/** Packages beyond the foundation's trees, direct and indirect. */
export const FURTHER_MAX = 25;

const REASONS = {
  bullmq: "durable wake-ups for lanes whose recipient failed: delays that survive a crash",
  "close-with-grace": "ends the process once, whatever signals and errors come together",
  commander: "the command line: flags, help, and what was probably meant",
  "eventsource-parser": "`colloquy chat` follows a transcript: the framing of server-sent events",
  fastify: "the HTTP server of webhooks, transcripts, page, health and metrics",
  ioredis: "the Redis protocol, sockets and scripts; BullMQ needs it too",
  jiti: "loads a bot written in TypeScript, from any folder, without a build",
  nact: "schedules the actors",
  pino: "the log: JSON lines, with what must not be in them left out",
  "prom-client": "`/metrics` in Prometheus' text format",
  "secure-json-parse": "refuses `__proto__` in what comes from outside (fastify has it too)",
  undici: "posts replies, and asks a server for `colloquy chat`: connection pools and deadlines of our own choice",
  zod: "one schema for settings and bots: bounds, defaults, and what is wrong in words",
};

const HEAD = `# Dependencies

<!-- Made by scripts/dependencies.mjs from package.json and package-lock.json. Do not edit: run the script. -->

What \`npm install colloquy\` brings: the packages that it names itself, each with its reason, and what those bring. No package of
ours runs a script at installation; the only one among them that wants to, \`msgpackr-extract\` of BullMQ, is optional and works
unbuilt. The Redis server is no package: \`colloquy start\` uses one that is on PATH, or says how to get it.

`;

/**
 * The places in the lock of a package and all that it brings (D1). Pure.
 * @param {Record<string, any>} packages `packages` of a package-lock.json
 * @param {readonly string[]} names direct dependencies of the project
 * @returns {Set<string>} e.g. `node_modules/fastify`
 */
export function closureOf(packages, names) {
  const seen = new Set();
  const add = (from, name, isOptional) => {
    const place = placeOf(packages, from, name);
    if (place === undefined) {
      if (isOptional) return;
      throw new Error(`${name}, which ${from || "the project"} needs, is not in package-lock.json; type: npm run lock`);
    }
    if (seen.has(place)) return;
    seen.add(place);
    const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = packages[place];
    for (const next of Object.keys(dependencies ?? {})) add(place, next, next in (optionalDependencies ?? {}));
    for (const next of Object.keys(optionalDependencies ?? {})) add(place, next, true);
    for (const next of Object.keys(peerDependencies ?? {}))
      if (peerDependenciesMeta?.[next]?.optional !== true) add(place, next, false);
  };
  for (const name of names) add("", name, false);
  return seen;
}

/** As Node looks: beside the one who asks, then in each folder above. */
function placeOf(packages, from, name) {
  for (let folder = from; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf("node_modules/") - 1))) {
    const place = `${folder === "" ? "" : `${folder}/`}node_modules/${name}`;
    if (packages[place]) return place;
    if (folder === "") return undefined;
  }
}

/**
 * @param {{ dependencies: Record<string, string> }} manifest package.json
 * @param {{ packages: Record<string, any> }} lock package-lock.json
 * @returns {{ page: string, further: readonly string[], missingReasons: readonly string[], staleReasons: readonly string[] }}
 */
export function dependencyReport(manifest, { packages }) {
  const direct = Object.keys(manifest.dependencies).sort();
  const foundation = closureOf(packages, FOUNDATION);
  const further = [...closureOf(packages, direct)].filter((place) => !foundation.has(place)).sort();
  const rows = direct.map((name) => {
    const place = placeOf(packages, "", name);
    const brings = closureOf(packages, [name]).size - 1;
    const isFurther = further.includes(place) ? "" : " *";
    return [`\`${name}\`${isFurther}`, packages[place].version, packages[place].license, brings, REASONS[name] ?? ""];
  });
  const table = [["package", "version", "licence", "brings", "why"], ["---", "---", "---", "--:", "---"], ...rows];
  const total = closureOf(packages, direct).size;
  const page = `${HEAD}${table.map((cells) => `| ${cells.join(" | ")} |`).join("\n")}

\\* the foundation (${FOUNDATION.join(", ")}), or in its trees anyway: ${foundation.size} packages.

Of ${total} packages, ${further.length} are beyond the foundation (at most ${FURTHER_MAX}):
${further.map((place) => `\`${place.slice(place.lastIndexOf("node_modules/") + "node_modules/".length)}\``).join(", ")}.
`;
  return {
    page,
    further,
    missingReasons: direct.filter((name) => !REASONS[name]), // D2
    staleReasons: Object.keys(REASONS).filter((name) => !direct.includes(name)),
  };
}

function main() {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const read = (file) => JSON.parse(readFileSync(`${root}${file}`, "utf8"));
  writeFileSync(`${root}docs/dependencies.md`, dependencyReport(read("package.json"), read("package-lock.json")).page);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
