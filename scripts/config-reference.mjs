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

Each setting has an environment variable; some have a flag of \`colloquy start\`, secrets never. A flag beats the variable, and
that the default. In code, \`createApp\` takes all but the settings of the http channel, which go to
\`httpChannel({ deliverTo, secret })\`, and reads no variables. Whatever is not understood, unknown \`COLLOQUY_\` variables included,
refuses the start with one line each. Bounds that must fit into each other (an inbox entry holds the largest message, a commit the
largest turn) are checked at start, too.

`;

/**
 * @param {typeof import("../src/config.ts")} config
 * @param {string} startHelp what `colloquy start --help` prints
 * @returns {string} the whole page
 */
export function configReference(config, startHelp) {
  const flags = flagsByVariable(startHelp);
  const defaults = config.resolveConfig({});
  const rows = config.CONFIG_KEYS.map((key) => {
    const variable = config.variableOf(key);
    const flag = flags.get(variable);
    const names = [`\`${key}\``, `\`${variable}\``, flag === undefined ? "" : `\`${flag}\``];
    return [...names, shownDefault(defaults[key]), taken(config, key), aboutOf(config, key)];
  });
  const titles = ["setting", "variable", "flag", "default", "takes", "what it is"];
  const lines = [titles, titles.map(() => "---"), ...rows].map((cells) => `| ${cells.map(cell).join(" | ")} |`);
  return `${HEAD}${lines.join("\n")}\n`;
}

/** Flags stand in the help with their variable behind them, wrapped to the width of a terminal. */
function flagsByVariable(help) {
  const text = help.replace(/\s+/g, " ");
  const found = text.matchAll(/(--[a-z-]+) <[a-z]+> (?:(?! --[a-z]).)*?\b(REDIS_URL|COLLOQUY_[A-Z_]+)\)/g);
  return new Map([...found].map(([, flag, variable]) => [variable, flag]));
}

/** Digits are not grouped: a value with commas in it would be refused. */
const shownDefault = (value) => (value === undefined ? "" : `\`${value}\``);

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
  const { runProgram } = await jiti.import(`${root}src/cli/program.ts`);
  let help = "";
  const stdout = {
    write: (text) => {
      help += text;
    },
  };
  await runProgram({ argv: ["start", "--help"], environment: {}, stdout, stderr: stdout }, {});
  writeFileSync(`${root}docs/config.md`, configReference(config, help));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
