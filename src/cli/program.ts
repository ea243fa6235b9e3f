// Program: the command line as a function: arguments, variables and streams in, an exit code out.
//
// Invariants
//   P1. Wrong usage and wrong settings exit 2, with the usage or one line for each problem on stderr, and start nothing.
//   P2. Help and version asked for go to stdout and exit 0.

import { Command, CommanderError, Option } from "commander";
import { CONFIG_KEYS, type ConfigFlags, type ConfigKey, flagOf, helpOf } from "../config.ts";
import { EXIT, type ExitCode, exitCodeOf, failureText } from "./exit.ts";
import { packageVersion } from "./package-version.ts";
import { type StartParts, start, type Terminal } from "./start-command.ts";

/** What the help shows of the flags of `start`, with the name of what each takes. */
const SHOWN_FLAGS: Readonly<Partial<Record<ConfigKey, string>>> = {
  port: "number",
  host: "address",
  allowedHosts: "names",
  redis: "url",
  dataDir: "folder",
  deliverTo: "url",
  order: "order",
  durability: "level",
  shards: "number",
  namespace: "name",
  logLevel: "level",
};

/** Every setting but the secrets; those that the help leaves out stand in docs/config.md. */
const START_FLAGS: readonly { readonly key: ConfigKey; readonly option: Option }[] = CONFIG_KEYS.flatMap((key) => {
  const flag = flagOf(key);
  if (flag === undefined) return [];
  const option = new Option(`${flag} <${SHOWN_FLAGS[key] ?? "value"}>`, helpOf(key));
  return [{ key, option: SHOWN_FLAGS[key] === undefined ? option.hideHelp() : option }];
});

const EXAMPLES = `
Examples:
  colloquy start bot.ts                                   a bot, an embedded Redis in .data, port 4000
  colloquy start bot.js --port 8080 --deliver-to http://127.0.0.1:9000/replies
  REDIS_URL=redis://127.0.0.1:6379 colloquy start bot.ts --namespace orders
`;

const START_NOTES = `
Every other setting has a flag and a variable too, e.g. --lease-ttl-ms 5000 or COLLOQUY_LEASE_TTL_MS=5000. Secrets have
only the variable: COLLOQUY_HTTP_SECRET, COLLOQUY_ADMIN_TOKEN. docs/config.md lists them all.

Exit codes: 0 stopped by a signal, 1 crashed, 2 wrong usage or setting, 3 Redis unsafe, or the embedded one cannot run.
${EXAMPLES}`;

/** @returns the code to exit with; it never rejects */
export async function runProgram(terminal: Terminal, parts: StartParts): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  const program = describeProgram(terminal, async (file, flags) => {
    code = await start(file, flags, terminal, parts);
  });
  try {
    await program.parseAsync([...terminal.argv], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return isAskedFor(error) ? EXIT.ok : EXIT.usage;
    terminal.stderr.write(failureText(error, { isDebug: isDebug(terminal), isRunning: false }));
    return exitCodeOf(error);
  }
}

function describeProgram(terminal: Terminal, run: (file: string, flags: ConfigFlags) => Promise<void>): Command {
  const program = new Command("colloquy")
    .description("Runs chat bots: every message handled once, in order, across kill -9.")
    .version(packageVersion(), "--version", "print the version")
    .helpOption("--help", "print this help")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      writeErr: (text) => void terminal.stderr.write(text),
      outputError: (text, write) =>
        write(
          `colloquy: ${text
            .replace(/^error: /, "")
            .trim()
            .replaceAll("\n", " ")}\n`,
        ),
    })
    .showHelpAfterError("usage: colloquy start <bot> [options]\nmore:  colloquy start --help")
    .addHelpText("after", EXAMPLES);
  const command = program
    .command("start")
    .description("Runs a bot until SIGTERM or ctrl-c.")
    .argument("<bot>", "file whose default export is a bot or a list of bots: .ts, .js, .mjs, .cjs")
    .addHelpText("after", START_NOTES);
  for (const { option } of START_FLAGS) command.addOption(option);
  command.action((file: string, options: Readonly<Record<string, string>>) => run(file, flagsOf(options)));
  return program;
}

function flagsOf(options: Readonly<Record<string, string>>): ConfigFlags {
  return Object.fromEntries(START_FLAGS.map(({ key, option }) => [key, options[option.attributeName()]]));
}

const isAskedFor = ({ code, exitCode }: CommanderError): boolean =>
  exitCode === 0 && ["commander.helpDisplayed", "commander.help", "commander.version"].includes(code);

/** Before settings are known to be right. */
function isDebug({ argv, environment }: Terminal): boolean {
  const flag = argv.indexOf("--log-level");
  const level = argv.find((word) => word.startsWith("--log-level="))?.slice("--log-level=".length);
  return (level ?? (flag >= 0 ? argv[flag + 1] : environment.COLLOQUY_LOG_LEVEL)) === "debug";
}
