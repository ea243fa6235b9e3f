// Program: the command line as a function: arguments, variables and streams in, an exit code out.
//
// Invariants
//   P1. Wrong usage and wrong settings exit 2, with the usage or one line for each problem on stderr, and start nothing.
//   P2. Help and version asked for go to stdout and exit 0.
//   P3. Only the command that was typed is loaded: the runtime itself takes most of a second, and no other command needs it.

import { Command, CommanderError, Option, type OutputConfiguration } from "commander";
import { CONFIG_KEYS, type ConfigFlags, type ConfigKey, flagOf, helpOf } from "../config.ts";
import type { ChatFlags } from "./chat/chat-command.ts";
import type { DoctorFlags } from "./doctor/doctor-command.ts";
import { EXIT, type ExitCode, exitCodeOf, failureText } from "./exit.ts";
import type { InitFlags } from "./init/init-command.ts";
import type { LanesFlags } from "./operate/lanes-command.ts";
import type { LsFlags } from "./operate/ls-command.ts";
import type { ShowFlags } from "./operate/show-command.ts";
import type { VerbFlags } from "./operate/verb-command.ts";
import { packageVersion } from "./package-version.ts";
import type { StartParts } from "./start-command.ts";
import type { Terminal } from "./terminal.ts";
import type { TreeFlags } from "./tree/tree-command.ts";
import type { VerifyFlags } from "./verify/verify-command.ts";

type SettingFlags = readonly { readonly key: ConfigKey; readonly option: Option }[];

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
const START_FLAGS: SettingFlags = CONFIG_KEYS.flatMap((key) => {
  const flag = flagOf(key);
  if (flag === undefined) return [];
  const option = new Option(`${flag} <${SHOWN_FLAGS[key] ?? "value"}>`, helpOf(key));
  return [{ key, option: SHOWN_FLAGS[key] === undefined ? option.hideHelp() : option }];
});

/** Those of `doctor`: what the checks depend on. */
const DOCTOR_FLAGS: SettingFlags = START_FLAGS.filter(({ key }) =>
  ["port", "host", "redis", "dataDir", "durability"].includes(key),
);

const START_EXAMPLES = `
Examples:
  colloquy start bot.ts                                   a bot, an embedded Redis in .data, port 4000
  colloquy start bot.js --port 8080 --deliver-to http://127.0.0.1:9000/replies
  REDIS_URL=redis://127.0.0.1:6379 colloquy start bot.ts --namespace orders
`;

const EXAMPLES = `${START_EXAMPLES}  colloquy init my-bot                                    a folder with a bot and its test
  colloquy chat                                           talk to what runs on port 4000
  colloquy tree --watch                                   what runs there, and what was restarted
  colloquy ls                                             what is unfinished there: held, halted, and why
  colloquy retry --where 'error~timeout'                  what halted so goes on
  colloquy lanes                                          which replies cannot go out, and why
  colloquy doctor                                         is this machine fit for it?
  colloquy verify run/                                    was the promise kept in that run?
`;

const START_NOTES = `
Every other setting has a flag and a variable too, e.g. --lease-ttl-ms 5000 or COLLOQUY_LEASE_TTL_MS=5000. Secrets have
only the variable: COLLOQUY_HTTP_SECRET, COLLOQUY_ADMIN_TOKEN. docs/config.md lists them all.

Exit codes: 0 stopped by a signal, 1 crashed, 2 wrong usage or setting, 3 Redis unsafe, or the embedded one cannot run.
${START_EXAMPLES}`;

const INIT_NOTES = `
Asks for what is not given, unless with -y or without a terminal.

Exit codes: 0 made, 1 called off, 2 wrong usage, or a folder that is not empty or cannot be written; then nothing is.
`;

const DOCTOR_NOTES = `
Changes nothing and starts nothing; it may run beside a running colloquy. Each line that is not ok says how to mend it.

Exit codes: 0 all well, warnings allowed, 1 a check failed, 2 wrong usage or setting, 3 Redis cannot be reached.
`;

const CHAT_NOTES = `
Each line is one message, sent again under its id until the server has it on disk. From a pipe, a line is sent when the one
before was answered, and --timeout counts for each. With COLLOQUY_HTTP_SECRET set the messages are signed.

Exit codes: 0 all lines were answered, 1 one was refused or not answered in time, 2 wrong usage, or nothing to chat with.
`;

const TREE_NOTES = `
From another machine COLLOQUY_ADMIN_TOKEN must be set, here and at the node.

Exit codes: 0 drawn, 1 nothing answered or it may not be seen, 2 wrong usage. --watch goes on until ctrl-c.
`;

const WHERE_NOTES = `
A filter is one or more conditions, joined by commas or given by several flags; all must hold:
  bot=orders  channel=http  conversation=c1  conversation^=prefix  state=halted  reason=poison
  error~timeout  since>1h  since<10m  attempts>=5  waiting>100
Of dead letters: bot, channel, conversation, direction, reason, error, age, attempts.
`;

const LANE_WHERE_NOTES = `
A filter is one or more conditions, joined by commas or given by several flags; all must hold:
  bot=orders  channel=http  conversation=c1  conversation^=prefix  state=halted  reason=terminal
  error~503  since>1h  since<10m  attempts>=5  waiting>100  born=k0-0-0
`;

const LANES_NOTES = `${LANE_WHERE_NOTES}
States: retrying goes on by itself, halted and closed wait for a verb; flowing: only what waits on its list is left.

Exit codes: 0 listed, 1 nothing answered or it may not be seen, 2 wrong usage, 3 the node cannot reach Redis.
`;

const LS_NOTES = `${WHERE_NOTES}
States: active, held, halted, quarantined; idle, lane-retrying, lane-halted and lane-closed of the node that is asked.

Exit codes: 0 listed, 1 nothing answered or it may not be seen, 2 wrong usage, 3 the node cannot reach Redis.
`;

const SHOW_NOTES = `
Exit codes: 0 shown, 1 not known, or nothing answered, 2 wrong usage, 3 the node cannot reach Redis.
`;

const verbNotes = (where: string): string => `${where}
Asks before it does anything, once, with the number; without a terminal it takes --yes. Twice changes nothing.

Exit codes: 0 all that was asked came to pass (or would, with --dry-run; was asked, with --no-wait), 1 some was refused, has halted
again or takes longer than --timeout, or it was called off, 2 wrong usage, 3 the node cannot reach Redis.
`;

const VERIFY_NOTES = `
The folder holds the .ndjson logs of clients, sink and faults, and the data folder or its appendonlydir, or some of these;
docs/verify.md has the formats. It only reads, also beside a running colloquy. What was not in the folder is not checked.

Exit codes: 0 nothing is violated, 1 an invariant is, 2 wrong usage, or a folder or log that cannot be read.
`;

/** What each command does; it resolves with the code to exit with. */
export interface Commands {
  start(file: string, flags: ConfigFlags): Promise<ExitCode>;
  init(folder: string, flags: InitFlags): Promise<ExitCode>;
  doctor(flags: DoctorFlags): Promise<ExitCode>;
  chat(flags: ChatFlags): Promise<ExitCode>;
  tree(flags: TreeFlags): Promise<ExitCode>;
  ls(flags: LsFlags): Promise<ExitCode>;
  show(conversation: string, flags: ShowFlags): Promise<ExitCode>;
  retry(conversations: readonly string[], flags: VerbFlags): Promise<ExitCode>;
  skip(conversations: readonly string[], flags: VerbFlags): Promise<ExitCode>;
  redrive(deadLetters: readonly string[], flags: VerbFlags): Promise<ExitCode>;
  lanes(flags: LanesFlags): Promise<ExitCode>;
  retryLanes(lanes: readonly string[], flags: VerbFlags): Promise<ExitCode>;
  skipLanes(lanes: readonly string[], flags: VerbFlags): Promise<ExitCode>;
  verify(folder: string, flags: VerifyFlags): Promise<ExitCode>;
}

/** @returns the code to exit with; it never rejects */
export async function runProgram(terminal: Terminal, loadParts: () => Promise<StartParts>): Promise<ExitCode> {
  let code: ExitCode = EXIT.ok;
  const keep = (ending: Promise<ExitCode>): Promise<void> =>
    ending.then((given) => {
      code = given;
    });
  const program = describeProgram(
    {
      start: async (file, flags) => {
        const { start } = await import("./start-command.ts"); // P3
        return start(file, flags, terminal, await loadParts());
      },
      init: async (folder, flags) => (await import("./init/init-command.ts")).init(folder, flags, terminal),
      doctor: async (flags) => (await import("./doctor/doctor-command.ts")).doctor(flags, terminal),
      chat: async (flags) => (await import("./chat/chat-command.ts")).chat(flags, terminal),
      tree: async (flags) => (await import("./tree/tree-command.ts")).tree(flags, terminal),
      ls: async (flags) => (await import("./operate/ls-command.ts")).ls(flags, terminal),
      show: async (name, flags) => (await import("./operate/show-command.ts")).show(name, flags, terminal),
      retry: async (names, flags) => operate("RETRY", names, flags, terminal),
      skip: async (names, flags) => operate("SKIP", names, flags, terminal),
      redrive: async (names, flags) => operate("REDRIVE", names, flags, terminal),
      lanes: async (flags) => (await import("./operate/lanes-command.ts")).lanes(flags, terminal),
      retryLanes: async (names, flags) => operate("RETRY_LANES", names, flags, terminal),
      skipLanes: async (names, flags) => operate("SKIP_LANES", names, flags, terminal),
      verify: async (folder, flags) => (await import("./verify/verify-command.ts")).verify(folder, flags, terminal),
    },
    keep,
  );
  for (const command of [program, ...allCommands(program)]) command.configureOutput(outputOf(terminal)).exitOverride();
  try {
    await program.parseAsync([...terminal.argv], { from: "user" });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return isAskedFor(error) ? EXIT.ok : EXIT.usage;
    terminal.stderr.write(failureText(error, { isDebug: isDebug(terminal), isRunning: false }));
    return exitCodeOf(error);
  }
}

async function operate(
  name: "RETRY" | "SKIP" | "REDRIVE" | "RETRY_LANES" | "SKIP_LANES",
  names: readonly string[],
  flags: VerbFlags,
  terminal: Terminal,
): Promise<ExitCode> {
  const [{ operate: run }, verbs] = await Promise.all([
    import("./operate/verb-command.ts"),
    import("./operate/verb.ts"),
  ]);
  return await run(verbs[name], names, flags, terminal);
}

/** All commands with their arguments and flags, for the command line and for those who check its reference. */
export function describeProgram(commands: Commands, keep: (ending: Promise<ExitCode>) => Promise<void>): Command {
  const program = new Command("colloquy")
    .description("Runs chat bots: every message handled once, in order, across kill -9.")
    .version(packageVersion(), "--version", "print the version")
    .helpOption("--help", "print this help")
    .enablePositionalOptions() // a flag belongs to the last command before it: lanes and its verbs share some
    .showHelpAfterError("usage: colloquy <command> [options]\nmore:  colloquy --help")
    .addHelpText("after", EXAMPLES);

  const starting = addSettings(
    program
      .command("start")
      .description("Runs a bot until SIGTERM or ctrl-c.")
      .argument("<bot>", "file whose default export is a bot or a list of bots: .ts, .js, .mjs, .cjs")
      .addHelpText("after", START_NOTES),
    START_FLAGS,
  );
  starting.action((file: string, options: Options) => keep(commands.start(file, settingsOf(START_FLAGS, options))));

  program
    .command("init")
    .description("Makes a folder with a bot, its test and a README.")
    .argument("<folder>", "a folder that is empty or not there")
    .option("--name <bot>", "name of the bot (default: the folder's)")
    .option("--deliver-to <url>", "where npm start posts replies (default: they are read from the transcript)")
    .option("-y, --yes", "ask nothing")
    .addHelpText("after", INIT_NOTES)
    .action((folder: string, flags: InitFlags) => keep(commands.init(folder, flags)));

  const checking = addSettings(
    program
      .command("doctor")
      .description("Checks Node, Redis, the disk, the data folder and the port.")
      .option("--json", "print one JSON object: ok, and checks with id, status, message and fix")
      .addHelpText("after", DOCTOR_NOTES),
    DOCTOR_FLAGS,
  );
  checking.action((options: Options) =>
    keep(commands.doctor({ ...settingsOf(DOCTOR_FLAGS, options), json: options.json !== undefined })),
  );

  program
    .command("chat")
    .description("Talks to a bot by the http channel, line by line.")
    .option("--url <url>", "address of the server", "http://127.0.0.1:4000")
    .addOption(portOption())
    .option("--bot <name>", "name of the bot (default: the only one there)")
    .option("--conversation <id>", "conversation to go on with (default: a new one)")
    .option("--timeout <seconds>", "from a pipe: how long each line may take to be answered", "30")
    .option("--json", "print one JSON object a line for each event")
    .addHelpText("after", CHAT_NOTES)
    .action((flags: ChatFlags) => keep(commands.chat(flags)));

  program
    .command("tree")
    .description("Draws the supervision tree of a running node.")
    .option("--url <url>", "address of the node", "http://127.0.0.1:4000")
    .addOption(portOption())
    .option("--watch", "draw it again each second")
    .option("--json", "print the tree as one JSON object a line")
    .addHelpText("after", TREE_NOTES)
    .action((flags: TreeFlags) => keep(commands.tree(flags)));

  program
    .command("ls")
    .description("Lists conversations with something unfinished, or dead letters.")
    .option("--state <state>", "only those in this state")
    .addOption(whereOption())
    .option("--dead-letters", "list what was set aside instead")
    .option("--limit <number>", "the most that are listed", "100")
    .option("--url <url>", "address of the node", "http://127.0.0.1:4000")
    .addOption(portOption())
    .option("--json", "print one JSON object a line")
    .addHelpText("after", LS_NOTES)
    .action((flags: LsFlags) => keep(commands.ls(flags)));

  program
    .command("show")
    .description("Shows what is known of one conversation.")
    .argument("<conversation>", "<bot>/<channel>/<conversation>")
    .option("--state-data", "show the bot's state, too")
    .option("--payload", "show the first messages that wait and the results of steps, too")
    .option("--url <url>", "address of the node", "http://127.0.0.1:4000")
    .addOption(portOption())
    .option("--json", "print one JSON object")
    .addHelpText("after", SHOW_NOTES)
    .action((name: string, flags: ShowFlags) => keep(commands.show(name, flags)));

  addVerb(program, "retry", "conversations", "Runs the message that halts conversations once more.").action(
    (names: string[], flags: VerbFlags) => keep(commands.retry(names, flags)),
  );
  addVerb(
    program,
    "skip",
    "conversations",
    "Sets the message that halts conversations aside, or passes the gap.",
  ).action((names: string[], flags: VerbFlags) => keep(commands.skip(names, flags)));
  addVerb(
    program,
    "redrive",
    "dead-letters",
    "Runs messages again that were set aside, and sends replies again.",
  ).action((names: string[], flags: VerbFlags) => keep(commands.redrive(names, flags)));

  const lanes = program
    .command("lanes")
    .description("Lists lanes whose replies cannot go out, and why.")
    .option("--state <state>", "only those in this state")
    .addOption(whereOption())
    .option("--limit <number>", "the most that are listed", "100")
    .option("--url <url>", "address of the node", "http://127.0.0.1:4000")
    .addOption(portOption())
    .option("--json", "print one JSON object a line")
    .addHelpText("after", LANES_NOTES)
    .action((flags: LanesFlags) => keep(commands.lanes(flags)));
  addVerb(lanes, "retry", "lanes", "Sends the reply at the head of lanes again, and opens closed lanes.").action(
    (names: string[], flags: VerbFlags) => keep(commands.retryLanes(names, flags)),
  );
  addVerb(lanes, "skip", "lanes", "Sets the reply that halts lanes aside.").action(
    (names: string[], flags: VerbFlags) => keep(commands.skipLanes(names, flags)),
  );

  program
    .command("verify")
    .description("Checks from the logs of a run whether the promise was kept.")
    .argument("<folder>", "folder with the logs of a run and its append-only file")
    .option("--fold", "the bot folds, so that its replies prove what it consumed")
    .option("--incomplete", "the run was cut short: what is missing is no violation")
    .option("--dedupe <minutes>", "how long the bot knows duplicates", "10")
    .option("--contiguous", "the numbers of its channels rise by one, so that what is missing can be seen")
    .option("--json", "print one JSON object: ok, evidence, figures, and verdicts with their violations")
    .addHelpText("after", VERIFY_NOTES)
    .action((folder: string, flags: VerifyFlags) => keep(commands.verify(folder, flags)));

  for (const command of allCommands(program)) command.showHelpAfterError(usageOf(command));
  return program;
}

/** Those within others behind them. */
export function allCommands(program: Command): readonly Command[] {
  return program.commands.flatMap((command) => [command, ...allCommands(command)]);
}

/** E.g. `lanes retry`. */
export function commandName(command: Command): string {
  const { parent } = command;
  return parent === null || parent.parent === null ? command.name() : `${parent.name()} ${command.name()}`;
}

/** For those who typed `start --port` and are on the same machine. */
function portOption(): Option {
  return new Option("--port <number>", "port of one on this machine, in place of --url").conflicts("url");
}

/** Several must all hold. */
function whereOption(): Option {
  const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];
  return new Option("--where <filter>", "only those that the filter means; may be repeated").argParser(collect);
}

const TARGETS = {
  conversations: "each as <bot>/<channel>/<conversation>",
  lanes: "each as <bot>/<channel>/<conversation>",
  "dead-letters": "each as ls --dead-letters names it",
};

function addVerb(parent: Command, name: string, targets: keyof typeof TARGETS, about: string): Command {
  return parent
    .command(name)
    .description(about)
    .argument(`[${targets}...]`, TARGETS[targets])
    .addOption(whereOption())
    .option("--all", "every one there is")
    .option("--dry-run", "say what would be done, and do nothing")
    .option("-y, --yes", "ask nothing")
    .option("--no-wait", "do not wait until it came to pass")
    .option("--timeout <seconds>", "how long to wait", "60")
    .option("--url <url>", "address of the node", "http://127.0.0.1:4000")
    .addOption(portOption())
    .option("--json", "print one JSON object a line for each event")
    .addHelpText("after", verbNotes(targets === "lanes" ? LANE_WHERE_NOTES : WHERE_NOTES));
}

function usageOf(command: Command): string {
  const name = commandName(command);
  const words = [name, ...command.registeredArguments.map((each) => `<${each.name()}>`), "[options]"];
  return `usage: colloquy ${words.join(" ")}\nmore:  colloquy ${name} --help`;
}

type Options = Readonly<Record<string, string>>;

function addSettings(command: Command, flags: SettingFlags): Command {
  for (const { option } of flags) command.addOption(option);
  return command;
}

function settingsOf(flags: SettingFlags, options: Options): ConfigFlags {
  return Object.fromEntries(flags.map(({ key, option }) => [key, options[option.attributeName()]]));
}

function outputOf({ stdout, stderr }: Terminal): OutputConfiguration {
  return {
    writeOut: (text) => void stdout.write(text),
    writeErr: (text) => void stderr.write(text),
    outputError: (text, write) =>
      write(
        `colloquy: ${text
          .replace(/^error: /, "")
          .trim()
          .replaceAll("\n", " ")}\n`,
      ),
  };
}

const isAskedFor = ({ code, exitCode }: CommanderError): boolean =>
  exitCode === 0 && ["commander.helpDisplayed", "commander.help", "commander.version"].includes(code);

/** Before settings are known to be right. */
function isDebug({ argv, environment }: Terminal): boolean {
  const flag = argv.indexOf("--log-level");
  const level = argv.find((word) => word.startsWith("--log-level="))?.slice("--log-level=".length);
  return (level ?? (flag >= 0 ? argv[flag + 1] : environment.COLLOQUY_LOG_LEVEL)) === "debug";
}
