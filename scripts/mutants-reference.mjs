// Mutants reference: runs every mutant of test/mutants and writes docs/mutants.md, the table of what found it. A test keeps all of
// the committed file up to date but the seeds, which are those of the last run.
//
// Usage: npm run mutants        runs all of them, about a minute

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createJiti } from "jiti";

const HEAD = `# Mutants

<!-- Made by \`npm run mutants\` from test/mutants. Do not edit: change the mutants there and run it. -->

A test that cannot fail proves nothing. Each mutant breaks one thing on purpose and must be found; its twin, the same world without
it, passes every seed up to the one that found it. The first seed depends on each detail of the runtime, so it is that of the last
run of \`npm run mutants\`; \`npm test\` runs them all and holds the rest of this page to them.
Which attack is answered by which mutant or test: \`test/mutants/README.md\` in the repository.
`;

/**
 * @param {object} all
 * @param {readonly import("../test/mutants/mutant.ts").WorldMutant[]} all.world
 * @param {readonly import("../test/mutants/script-mutants.ts").ScriptMutant[]} all.scripts
 * @param {readonly string[]} all.borne names
 * @param {(rule: string) => string} all.toldRule
 * @param {(mutant: object) => number | string} seedOf what stands in the last column
 * @returns {string} the whole page
 */
export function mutantsReference({ world, scripts, borne, toldRule }, seedOf) {
  const worldRows = world.map((mutant) => [
    mutant.name,
    mutant.port,
    mutant.breaks,
    mutant.rules.map(toldRule).join(", "),
    seedOf(mutant),
  ]);
  const scriptRows = scripts.map((mutant) => [
    `\`${mutant.patch.script}.lua\``,
    mutant.name,
    mutant.breaks,
    CHECKS[mutant.check],
    seedOf(mutant),
  ]);
  return `${HEAD}
## Ports

${world.length} ways in which store, channel, wake-ups or environment break their contract, in the simulated world of
\`test/simulation\`. "Found as" says which rules of its judge count as having found it.

${table(["what it does", "port", "breaks", "found as", "first seed"], worldRows)}
## Scripts

${scripts.length} lines of Lua that are another, on a real Redis.

${table(["script", "what it does", "breaks", "found by", "first seed"], scriptRows)}
## Borne

The promise holds although:

${borne.map((name) => `- ${name}\n`).join("")}`;
}

const CHECKS = {
  fuzz: "random calls that the model answers otherwise",
  refusal: "a refused commit that wrote",
  memory: "a Redis at its limit of memory",
  namespace: "a namespace that is not what it was",
};

const row = (cells) => `| ${cells.join(" | ")} |\n`;
const table = (titles, rows) => [titles, titles.map(() => "---"), ...rows].map(row).join("");

/** Everything that the page is made of. */
async function allMutants(load) {
  const [{ worldMutants }, { borne }, { scriptMutants }, { toldRule }] = await Promise.all(
    ["world-mutants", "outside-mutants", "script-mutants", "mutant"].map((name) => load(`test/mutants/${name}.ts`)),
  );
  return { world: worldMutants, scripts: scriptMutants, borne: borne.map(([name]) => name), toldRule };
}

async function main() {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const jiti = createJiti(import.meta.url, { fsCache: false });
  const load = (path) => jiti.import(`${root}${path}`);
  const all = await allMutants(load);
  const { hunt, isCaught } = await load("test/mutants/mutant.ts");
  const { ScriptHunt } = await load("test/mutants/script-mutants.ts");
  const { RedisServer } = await load("test/support/redis-server.ts");
  const seeds = new Map();
  const survivors = [];
  const tell = (mutant, seed, isGood) => {
    console.log(`${isGood ? "caught" : "SURVIVED"} at ${seed ?? "no seed"}: ${mutant.name}`);
    seeds.set(mutant, seed);
    if (!isGood) survivors.push(mutant.name);
  };
  for (const mutant of all.world) {
    const finding = await hunt(mutant);
    tell(mutant, finding.seed, isCaught(mutant, finding));
  }
  const server = await RedisServer.start({ fsync: "off" });
  const hunter = new ScriptHunt(server.path);
  for (const mutant of all.scripts) {
    const { seed, twinFailed } = await hunter.hunt(mutant);
    tell(mutant, seed, seed !== null && twinFailed.length === 0);
  }
  hunter.close();
  await server.remove();
  if (survivors.length > 0) {
    console.error(`${survivors.length} survived, docs/mutants.md was left as it was: ${survivors.join("; ")}`);
    process.exit(1);
  }
  writeFileSync(
    `${root}docs/mutants.md`,
    mutantsReference(all, (mutant) => seeds.get(mutant)),
  );
  console.log(`${seeds.size} mutants caught; docs/mutants.md is written`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
