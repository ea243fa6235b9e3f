// Ls command: what is unfinished, or what was set aside, of all shards of the namespace.

import { CONVERSATION_STATES } from "../../codec/open-codec.ts";
import { nearest, problem, shown } from "../../config-problems.ts";
import { AdminClient, type Query } from "../admin-client.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { AddressFlags } from "../server-address.ts";
import type { Terminal } from "../terminal.ts";
import {
  type ConversationJson,
  conversationsText,
  countText,
  type LetterJson,
  lettersText,
  summaryText,
} from "./operate-text.ts";
import { checkWhere, readCount } from "./target.ts";

export interface LsFlags extends AddressFlags {
  readonly state?: string;
  readonly where?: readonly string[];
  readonly deadLetters?: boolean;
  readonly limit: string;
  readonly json?: boolean;
}

const STATES: readonly string[] = [...CONVERSATION_STATES, "lane-retrying", "lane-halted", "lane-closed"];
const LIMIT_MAX = 100_000;
const PAGE_MAX = 200;

/** @throws ConfigError for what cannot be meant */
export async function ls(flags: LsFlags, terminal: Terminal): Promise<ExitCode> {
  const limit = readCount("--limit", flags.limit, LIMIT_MAX);
  const where = checkWhere(flags.where ?? [], flags.deadLetters ? "dead letters" : "conversations");
  const state = checkState(flags);
  const client = new AdminClient(flags, terminal);
  if (flags.deadLetters) {
    return await list<LetterJson>(client, "/admin/dead-letters", { where }, limit, flags, terminal, {
      member: "deadLetters",
      text: (letters) => lettersText(letters, Date.now()),
      summary: (letters) => countText(letters.length, "dead letter"),
    });
  }
  const from = state === "idle" || state?.startsWith("lane-") ? "memory" : "index";
  return await list<ConversationJson>(client, "/admin/conversations", { from, state, where }, limit, flags, terminal, {
    member: "conversations",
    text: (found) => conversationsText(found, Date.now()),
    summary: (found) => summaryText(found) || `nothing is ${state ?? "unfinished"}`,
  });
}

function checkState({ state, deadLetters }: LsFlags): string | undefined {
  if (state === undefined) return undefined;
  if (deadLetters) throw problem("--state", "dead letters have none", "--where reason=...");
  if (STATES.includes(state)) return state;
  const near = nearest(state, STATES);
  const guess = near === undefined ? "" : `, did you mean "${near}"?`;
  throw problem("--state", `is ${shown(state)}, not a state${guess}`, `one of ${STATES.join(", ")}`);
}

interface Shown<Item> {
  readonly member: string;
  readonly text: (items: readonly Item[]) => string;
  readonly summary: (items: readonly Item[]) => string;
}

/** Page by page up to the limit. JSON goes out as it comes, text once its columns are known. */
async function list<Item>(
  client: AdminClient,
  path: string,
  query: Query,
  limit: number,
  { json }: LsFlags,
  { stdout, stderr }: Terminal,
  shownAs: Shown<Item>,
): Promise<ExitCode> {
  const items: Item[] = [];
  let next: string | undefined;
  do {
    const count = String(Math.min(PAGE_MAX, limit - items.length));
    const reply = await client.get<Record<string, unknown>>(path, { ...query, limit: count, after: next });
    if (reply.kind === "failed") {
      stderr.write(`colloquy: ${reply.problem}\n`);
      return reply.exitCode;
    }
    const page = (reply.json[shownAs.member] as Item[]).slice(0, limit - items.length);
    if (json) stdout.write(page.map((item) => `${JSON.stringify(item)}\n`).join(""));
    items.push(...page);
    next = (reply.json.next as string | null) ?? undefined;
  } while (next !== undefined && items.length < limit);
  if (!json) stdout.write(shownAs.text(items));
  const more = next === undefined ? "" : `; there may be more: --limit ${limit * 10}`;
  if (!json || more !== "") stderr.write(`${shownAs.summary(items)}${more}\n`);
  return EXIT.ok;
}
