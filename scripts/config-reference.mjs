// Config reference: docs/config.md, made from the schema in src/config.ts. A test keeps the committed file up to date.
//
// Usage: node scripts/config-reference.mjs        writes docs/config.md
//
// What a setting takes is in the words of its own refusal, so that this page and the error cannot differ.

import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createJiti } from "jiti";

const HEAD = `# Settings

<!-- Made by scripts/config-reference.mjs from src/config.ts. Do not edit: change the schema and run the script. -->

Each setting is one thing with three names: a flag of \`colloquy start\`, an environment variable, and an option in code. A flag
beats the variable, and that the default; code is given its options and reads no variables. Secrets have no flag, since every
process of a machine sees the arguments of others. A list is separated by commas as flag and variable, and an array as option.
\`colloquy start --help\` shows the flags that are used most; all of these work.

Whatever is not understood, unknown \`COLLOQUY_\` variables included, refuses the start with one line each. Bounds that must fit into
each other (an inbox entry holds the largest message, a commit the largest turn) are checked at start, too.

`;

/**
 * @param {typeof import("../src/config.ts")} config
 * @returns {string} the whole page
 */
export function configReference(config) {
  const defaults = config.resolveConfig({});
  const rows = config.CONFIG_KEYS.map((key) => {
    const flag = config.flagOf(key);
    const names = [config.optionOf(key), config.variableOf(key)].map((name) => `\`${name}\``);
    return [
      flag === undefined ? "none" : `\`${flag}\``,
      ...names.toReversed(),
      shownDefault(defaults[key]),
      taken(config, key),
      aboutOf(config, key),
    ];
  });
  const titles = ["flag", "environment", "option", "default", "takes", "what it is"];
  const lines = [titles, titles.map(() => "---"), ...rows].map((cells) => `| ${cells.map(cell).join(" | ")} |`);
  return `${HEAD}${lines.join("\n")}\n`;
}

/** Digits are not grouped: a value with commas in it would be refused. */
const shownDefault = (value) => (value === undefined || String(value) === "" ? "none" : `\`${value}\``);

/** An empty variable is refused by every setting, with what it takes instead. */
function taken(config, key) {
  try {
    config.resolveConfig({}, { [config.variableOf(key)]: "" });
  } catch (error) {
    const expected = / is empty, not (.*) \(.*\)$/.exec(error.message)?.[1];
    if (expected !== undefined) return expected;
  }
  throw new Error(`${key} does not say what it takes`);
}

/** The help line without default and variable, which have columns of their own. */
const aboutOf = (config, key) => config.helpOf(key).replace(/ \([^()]*\)$/, "");

const cell = (text) => text.replaceAll("|", "\\|");

async function main() {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const jiti = createJiti(import.meta.url, { fsCache: false });
  const config = await jiti.import(`${root}src/config.ts`);
  writeFileSync(`${root}docs/config.md`, configReference(config));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
