// Verb command: asks a node to retry, skip or redrive, page by page, and shows how it goes until what was asked is through.
//
// Invariants
//   V1. Nothing is done before it was said how much it is, at a terminal by a question, elsewhere by --yes.
//   V2. What is meant is named: conversations, a filter, or --all; never nothing.
//   V3. An end in the middle says that the same may be asked again; twice changes nothing.

import { createInterface } from "node:readline";
import { problem } from "../../config-problems.ts";
import { AdminClient, type AdminReply, type Query } from "../admin-client.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { AddressFlags } from "../server-address.ts";
import type { Terminal } from "../terminal.ts";
import type { ConversationJson } from "./operate-text.ts";
import { type Standing, standingOf } from "./progress.ts";
import { checkWhere, conversationName, readCount } from "./target.ts";
import { aboutOf, type DoneJson, HALTED, type RefusedJson, type Verb } from "./verb.ts";

export interface VerbFlags extends AddressFlags {
  readonly where?: readonly string[];
  readonly all?: boolean;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly json?: boolean;
  /** False with --no-wait. */
  readonly wait: boolean;
  readonly timeout: string;
}

/** What the API takes to say which. */
type Selection =
  | { readonly targets: readonly unknown[] }
  | { readonly where: readonly string[] }
  | { readonly all: true };

interface Outcome {
  readonly done: readonly DoneJson[];
  readonly refused: readonly RefusedJson[];
}

interface VerbJson {
  readonly refused: readonly RefusedJson[];
  readonly next: string | null;
  readonly [member: string]: unknown;
}

const TIMEOUT_S_MAX = 86_400;
const TARGETS_MAX = 200;
const PAGE_MAX = 200;
const NONE: ReadonlySet<string> = new Set();
const LOOK_AGAIN_FIRST_MS = 100;
const LOOK_AGAIN_MS_MAX = 2_000;

/** @throws ConfigError for what cannot be meant; then nothing was done */
export async function operate(
  verb: Verb,
  names: readonly string[],
  flags: VerbFlags,
  terminal: Terminal,
): Promise<ExitCode> {
  const selections = selectionsOf(verb, names, flags); // V2
  const timeoutMs = readCount("--timeout", flags.timeout, TIMEOUT_S_MAX) * 1_000;
  const isAsking = flags.dryRun !== true && flags.yes !== true;
  if (isAsking && !(terminal.stdin.isTTY === true && terminal.stderr.isTTY === true))
    throw problem("--yes", "is needed where nobody can be asked; nothing was done", "--dry-run shows what would be");
  const command = new VerbCommand(verb, new AdminClient(flags, terminal), terminal, flags.json === true);
  return await command.run(selections, flags, isAsking, timeoutMs);
}

class VerbCommand {
  readonly #verb: Verb;
  readonly #client: AdminClient;
  readonly #terminal: Terminal;
  readonly #isJson: boolean;

  constructor(verb: Verb, client: AdminClient, terminal: Terminal, isJson: boolean) {
    this.#verb = verb;
    this.#client = client;
    this.#terminal = terminal;
    this.#isJson = isJson;
  }

  async run(
    selections: readonly Selection[],
    { dryRun, wait }: VerbFlags,
    isAsking: boolean,
    timeoutMs: number,
  ): Promise<ExitCode> {
    if (isAsking) {
      const refusal = await this.#confirmed(selections); // V1
      if (refusal !== null) return refusal;
    }
    const outcome = await this.#post(selections, dryRun === true);
    if ("problem" in outcome) return this.#failed(outcome);
    this.#tell(outcome, dryRun === true);
    const { done, refused } = outcome;
    if (dryRun || !wait || done.length === 0) {
      this.#summarise(outcome, dryRun === true, null);
      return refused.length > 0 ? EXIT.failed : EXIT.ok;
    }
    return await this.#watch(outcome, timeoutMs);
  }

  /** Null to go on, else the code to end with. */
  async #confirmed(selections: readonly Selection[]): Promise<ExitCode | null> {
    const outcome = await this.#post(selections, true);
    if ("problem" in outcome) return this.#failed(outcome);
    if (outcome.done.length === 0) {
      this.#tell(outcome, true);
      this.#summarise(outcome, true, null);
      return outcome.refused.length > 0 ? EXIT.failed : EXIT.ok;
    }
    if (await this.#ask(`${this.#verb.question(outcome.done.length)}? [y/N] `)) return null;
    this.#note("called off; nothing was done");
    return EXIT.failed;
  }

  /** Anything but yes is no, the end of what comes in as well. */
  async #ask(question: string): Promise<boolean> {
    const { stdin, stderr } = this.#terminal;
    stderr.write(question);
    const reader = createInterface({ input: stdin });
    try {
      for await (const line of reader) return /^y(es)?$/i.test(line.trim());
      return false;
    } finally {
      reader.close();
    }
  }

  /** All pages of all selections. */
  async #post(selections: readonly Selection[], dryRun: boolean): Promise<Outcome | Failure> {
    const done: DoneJson[] = [];
    const refused: RefusedJson[] = [];
    for (const selection of selections) {
      let after: string | undefined;
      do {
        const reply: AdminReply<VerbJson> = await this.#client.post(this.#verb.path, { ...selection, dryRun, after });
        if (reply.kind === "failed") return { ...reply, askedBefore: dryRun ? 0 : done.length, isDone: !dryRun };
        done.push(...(reply.json[this.#verb.member] as DoneJson[]));
        refused.push(...reply.json.refused);
        after = reply.json.next ?? undefined;
      } while (after !== undefined);
    }
    return { done: this.#distinct(done), refused };
  }

  /** A scan may meet one twice. */
  #distinct(done: readonly DoneJson[]): readonly DoneJson[] {
    return [...new Map(done.map((each) => [this.#verb.nameOf(each), each])).values()];
  }

  /** V3 */
  #failed({ problem: what, exitCode, askedBefore, isDone }: Failure): ExitCode {
    const before = askedBefore === 0 ? "" : `; ${this.#verb.asked(askedBefore)} before that`;
    const hint = isDone ? `${before}; ask the same again, twice changes nothing` : "";
    this.#note(`${what}${hint}`);
    return exitCode;
  }

  #tell({ done, refused }: Outcome, dryRun: boolean): void {
    const verb = this.#verb;
    const { stdout, stderr } = this.#terminal;
    if (this.#isJson) {
      for (const each of done) this.#json({ event: dryRun ? "would" : "asked", ...each });
      for (const each of refused) this.#json({ event: "refused", ...each });
      return;
    }
    if (dryRun) for (const each of done) stdout.write(`${plain(`${verb.nameOf(each)}  ${aboutOf(verb, each)}`)}\n`);
    for (const each of refused) stderr.write(`colloquy: ${plain(`${verb.refusedName(each)}: ${each.why ?? ""}`)}\n`);
  }

  /** Looks again until all are through, or the time is over. */
  async #watch(outcome: Outcome, timeoutMs: number): Promise<ExitCode> {
    const verb = this.#verb;
    const asked = new Map(outcome.done.map((each) => [verb.nameOf(each), verb.standstillOf(each, NONE)]));
    const endMs = performance.now() + timeoutMs;
    let standing: Standing = { left: asked.size, again: 0 };
    let delayMs = LOOK_AGAIN_FIRST_MS;
    this.#progress(asked.size, standing);
    for (;;) {
      await new Promise<void>((resolve) => setTimeout(resolve, delayMs));
      const now = await this.#standing();
      if ("problem" in now) return this.#failed(now);
      const before = standing;
      standing = standingOf(asked, now);
      if (before.left !== standing.left) this.#progress(asked.size, standing);
      const isOver = performance.now() >= endMs;
      if (standing.left === 0 || isOver) {
        this.#summarise(outcome, false, standing);
        return standing.left + standing.again + outcome.refused.length > 0 ? EXIT.failed : EXIT.ok;
      }
      delayMs = Math.min(delayMs * 2, LOOK_AGAIN_MS_MAX, Math.max(1, endMs - performance.now()));
    }
  }

  /** Standstill by name, of everything that stands. */
  async #standing(): Promise<ReadonlyMap<string, string> | Failure> {
    const { standing, member, nameOf, standstillOf, waitsForHalts } = this.#verb;
    const halted = waitsForHalts ? await this.#listed(HALTED.path, HALTED.query, "conversations") : [];
    if ("problem" in halted) return halted;
    const names = new Set(halted.map((each) => conversationName(each as ConversationJson)));
    const all = await this.#listed(standing.path, standing.query, member);
    if ("problem" in all) return all;
    return new Map(all.map((each) => [nameOf(each), standstillOf(each, names)]));
  }

  async #listed(
    path: string,
    query: Query,
    member: string,
  ): Promise<readonly (DoneJson & ConversationJson)[] | Failure> {
    const items: (DoneJson & ConversationJson)[] = [];
    let after: string | undefined;
    do {
      const reply = await this.#client.get<VerbJson>(path, { ...query, limit: String(PAGE_MAX), after });
      if (reply.kind === "failed") return { ...reply, askedBefore: 0, isDone: true };
      items.push(...(reply.json[member] as (DoneJson & ConversationJson)[]));
      after = reply.json.next ?? undefined;
    } while (after !== undefined);
    return items;
  }

  #progress(asked: number, { left, again }: Standing): void {
    if (this.#isJson) this.#json({ event: "progress", asked, left, again });
    else if (this.#terminal.stderr.isTTY) this.#terminal.stderr.write(`${asked - left} of ${asked}\r`);
  }

  #summarise({ done, refused }: Outcome, dryRun: boolean, standing: Standing | null): void {
    const verb = this.#verb;
    if (this.#isJson) {
      const counts = { count: done.length, refused: refused.length, left: standing?.left ?? null };
      this.#json({ event: "summary", verb: verb.name, dryRun, ...counts, again: standing?.again ?? null });
      return;
    }
    if (done.length === 0) this.#note(`${verb.nothing}; nothing was done`);
    else if (dryRun) this.#note(verb.would(done.length));
    else if (standing === null) this.#note(`${verb.asked(done.length)}; they do so in their order`);
    else this.#note(this.#standingText(done.length, standing));
  }

  #standingText(asked: number, { left, again }: Standing): string {
    const words = [this.#verb.through(asked - left - again)];
    if (again > 0) words.push(`${again.toLocaleString("en")} ${this.#verb.again}`);
    if (left > 0) words.push(`${left.toLocaleString("en")} ${this.#verb.left}`);
    return words.join("; ");
  }

  #note(text: string): void {
    this.#terminal.stderr.write(`colloquy: ${plain(text)}\n`);
  }

  #json(event: unknown): void {
    this.#terminal.stdout.write(`${JSON.stringify(event)}\n`);
  }
}

interface Failure {
  readonly problem: string;
  readonly exitCode: ExitCode;
  /** Confirmed before it failed. */
  readonly askedBefore: number;
  /** Whether something may have been done. */
  readonly isDone: boolean;
}

/** V2. Named ones go in as many requests as they need. */
function selectionsOf(verb: Verb, names: readonly string[], { where = [], all }: VerbFlags): readonly Selection[] {
  const ways = [names.length > 0, where.length > 0, all === true].filter((each) => each);
  if (ways.length === 0)
    throw problem(
      verb.typed,
      "names nothing; nothing was done",
      `one or more ${verb.subject}, --where <filter>, or --all`,
    );
  if (ways.length > 1)
    throw problem(verb.typed, "takes names, or --where, or --all; nothing was done", "leave out what is not meant");
  if (all) return [{ all: true }];
  if (where.length > 0) return [{ where: checkWhere(where, verb.subject) }];
  const targets = names.map(verb.target);
  const selections: Selection[] = [];
  for (let from = 0; from < targets.length; from += TARGETS_MAX)
    selections.push({ targets: targets.slice(from, from + TARGETS_MAX) });
  return selections;
}

/** Ids come from outside and must not move the cursor. */
const plain = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");
