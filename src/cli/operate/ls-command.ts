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
import { checkWhere, conversationName, readCount } from "./target.ts";

export interface LsFlags extends AddressFlags {
  readonly state?: string;
  readonly where?: readonly string[];
  readonly deadLetters?: boolean;
  readonly limit: string;
  readonly json?: boolean;
}

const STATES: readonly string[] = [...CONVERSATION_STATES, "lane-retrying", "lane-halted", "lane-closed"];
export const LIMIT_MAX = 100_000;
const PAGE_MAX = 200;

/** @throws ConfigError for what cannot be meant */
export async function ls(flags: LsFlags, terminal: Terminal): Promise<ExitCode> {
  const limit = readCount("--limit", flags.limit, LIMIT_MAX);
  const where = checkWhere(flags.where ?? [], flags.deadLetters ? "dead letters" : "conversations");
  const state = checkState(flags);
  const client = new AdminClient(flags, terminal);
  if (flags.deadLetters) {
    return await list<LetterJson>(client, "/admin/dead-letters", [{ where }], limit, flags, terminal, {
      member: "deadLetters",
      name: ({ position }) => position,
      text: (letters) => lettersText(letters, Date.now()),
      summary: (letters) => countText(letters.length, "dead letter"),
    });
  }
  const lists = listsOf(state).map((query) => ({ ...query, where }));
  return await list<ConversationJson>(client, "/admin/conversations", lists, limit, flags, terminal, {
    member: "conversations",
    name: conversationName,
    text: (found) => conversationsText(found, Date.now()),
    summary: (found) => summaryText(found) || `nothing is ${state ?? "unfinished"}`,
  });
}

function checkState({ state, deadLetters }: LsFlags): string | undefined {
  if (state === undefined) return undefined;
  if (deadLetters) throw problem("--state", "dead letters have none", "--where reason=...");
  return knownState(state, STATES);
}

/** @throws ConfigError for one that is none of them */
export function knownState(state: string, states: readonly string[]): string {
  if (states.includes(state)) return state;
  const near = nearest(state, states);
  const guess = near === undefined ? "" : `, did you mean "${near}"?`;
  throw problem("--state", `is ${shown(state)}, not a state${guess}`, `one of ${states.join(", ")}`);
}

/** What stands by an error of the runtime's own, or cannot be read, may be in memory alone. */
function listsOf(state: string | undefined): readonly Query[] {
  if (state === "idle" || state?.startsWith("lane-")) return [{ from: "memory", state }];
  const inMemory = ["halted", "quarantined"].filter((each) => state === undefined || state === each);
  return [{ from: "index", state }, ...inMemory.map((each) => ({ from: "memory", state: each }))];
}

export interface Shown<Item> {
  readonly member: string;
  readonly name: (item: Item) => string;
  readonly text: (items: readonly Item[]) => string;
  readonly summary: (items: readonly Item[]) => string;
}

/** List after list, page by page, up to the limit, each item once. JSON goes out as it comes, text once its columns are known. */
export async function list<Item>(
  client: AdminClient,
  path: string,
  queries: readonly Query[],
  limit: number,
  { json }: { readonly json?: boolean },
  { stdout, stderr }: Terminal,
  { member, name, text, summary }: Shown<Item>,
): Promise<ExitCode> {
  const items = new Map<string, Item>();
  let hasMore = false;
  for (const query of queries) {
    let next: string | undefined;
    do {
      const count = String(Math.max(1, Math.min(PAGE_MAX, limit - items.size)));
      const reply = await client.get<Record<string, unknown>>(path, { ...query, limit: count, after: next });
      if (reply.kind === "failed") {
        stderr.write(`colloquy: ${reply.problem}\n`);
        return reply.exitCode;
      }
      const page = (reply.json[member] as Item[]).filter((item) => !items.has(name(item)));
      for (const item of page.slice(0, limit - items.size)) {
        items.set(name(item), item);
        if (json) stdout.write(`${JSON.stringify(item)}\n`);
      }
      next = (reply.json.next as string | null) ?? undefined;
      hasMore = items.size === limit && (next !== undefined || page.some((item) => !items.has(name(item))));
    } while (next !== undefined && items.size < limit);
    if (hasMore) break;
  }
  const found = [...items.values()];
  if (!json) stdout.write(text(found));
  const more = hasMore ? `; there may be more: --limit ${limit * 10}` : "";
  if (!json || hasMore) stderr.write(`${summary(found)}${more}\n`);
  return EXIT.ok;
}
