// Operate text: conversations, lanes, dead letters and what was done about them, as lines for a terminal. Pure.
//
// Invariants
//   T1. Ids come from outside: what would move the cursor or change colours never reaches the terminal.

import type { detailJson, laneJson, letterJson, viewJson } from "../../admin/admin-json.ts";
import { shellWord } from "../shell-word.ts";
import { conversationName } from "./target.ts";

export type ConversationJson = ReturnType<typeof viewJson>;
export type DetailJson = ReturnType<typeof detailJson>;
export type LaneJson = ReturnType<typeof laneJson>;
export type LetterJson = ReturnType<typeof letterJson>;

const CELL_LENGTH_MAX = 100;
const UNITS: readonly (readonly [string, number])[] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["m", 60_000],
  ["s", 1_000],
];

/** The largest whole unit, as `5m`; under a second `0s`. */
export function ageText(ms: number): string {
  const [unit, size] = UNITS.find(([, each]) => ms >= each) ?? ["s", 1_000];
  return `${Math.max(0, Math.floor(ms / size))}${unit}`;
}

export function bytesText(bytes: number): string {
  if (bytes < 1_024) return `${bytes} B`;
  return bytes < 1_048_576 ? `${(bytes / 1_024).toFixed(1)} KiB` : `${(bytes / 1_048_576).toFixed(1)} MiB`;
}

export const countText = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

const sinceText = (iso: string | null, nowMs: number): string =>
  iso === null ? "-" : ageText(nowMs - Date.parse(iso));

/** T1. One line, and never long. */
function cell(text: string): string {
  const plain = text.replace(/\s+/g, " ").replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");
  const letters = Array.from(plain);
  return letters.length > CELL_LENGTH_MAX ? `${letters.slice(0, CELL_LENGTH_MAX - 3).join("")}...` : plain;
}

/** Columns as wide as their widest cell; the last one as it comes. Nothing for no rows. */
function table(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "";
  const lines = [titles, ...rows].map((row) => row.map(cell));
  const widths = titles.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines
    .map(
      (line) =>
        `${line
          .map((text, i) => text.padEnd(widths[i]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

/** Longest in their state first. */
export function conversationsText(all: readonly ConversationJson[], nowMs: number): string {
  const sorted = [...all].sort((a, b) => (a.since ?? "~").localeCompare(b.since ?? "~"));
  return table(
    ["STATE", "SINCE", "ATTEMPTS", "WAITING", "CONVERSATION", "WHY"],
    sorted.map((each) => [
      each.lane === null || each.state !== "idle" ? (each.state ?? "-") : `lane ${each.lane.state}`,
      sinceText(each.since, nowMs),
      String(each.attempts),
      String(Math.max(each.waiting, each.mailboxDepth)),
      conversationName(each),
      each.why || each.lane?.reason || "",
    ]),
  );
}

/** E.g. `2 halted, 1 held`. */
export function summaryText(all: readonly { readonly state: string | null }[]): string {
  const counts = new Map<string, number>();
  for (const { state } of all) counts.set(state ?? "unknown", (counts.get(state ?? "unknown") ?? 0) + 1);
  return [...counts]
    .sort(([, a], [, b]) => b - a)
    .map(([state, count]) => `${count.toLocaleString("en")} ${state}`)
    .join(", ");
}

/** A lane to another shard has the same name in each shard that sends there. */
export function laneName(lane: Pick<LaneJson, "bot" | "channel" | "conversation" | "shard">): string {
  const name = conversationName(lane);
  return lane.bot.startsWith("!") ? `${name} (${lane.shard})` : name;
}

const laneRank = ({ state }: LaneJson): number => ["halted", "closed", "retrying", "flowing"].indexOf(state ?? "");

/** Those that wait for somebody first, then the longest. */
export function lanesText(all: readonly LaneJson[], nowMs: number): string {
  const sorted = [...all].sort((a, b) => laneRank(a) - laneRank(b) || (a.since ?? "~").localeCompare(b.since ?? "~"));
  return table(
    ["STATE", "SINCE", "ATTEMPTS", "NEXT", "WAITING", "LANE", "WHY"],
    sorted.map((each) => [
      each.state ?? "-",
      sinceText(each.since, nowMs),
      String(each.attempts),
      each.nextAt === null ? "-" : untilText(each.nextAt, nowMs),
      String(each.waiting),
      laneName(each),
      each.why,
    ]),
  );
}

/** What is there, and what to do about it. */
export function lanesSummaryText(all: readonly LaneJson[]): string {
  const hasState = (...states: readonly string[]): boolean => all.some(({ state }) => states.includes(state ?? ""));
  const advice = hasState("halted")
    ? "mend what refused them, then colloquy lanes retry --where state=halted, or skip what never arrives"
    : hasState("closed")
      ? "a closed lane opens with colloquy lanes retry, its dead letters come back with colloquy redrive"
      : "they go on by themselves; colloquy lanes retry --all does not wait for that";
  return `${summaryText([...all].sort((a, b) => laneRank(a) - laneRank(b)))}; ${advice}`;
}

const untilText = (iso: string, nowMs: number): string =>
  Date.parse(iso) > nowMs ? `in ${ageText(Date.parse(iso) - nowMs)}` : "now";

/** Which reply it is stands there only where one is listed. */
export function lettersText(all: readonly LetterJson[], nowMs: number): string {
  const hasReplies = all.some(({ direction }) => direction === "out");
  const reply = (each: LetterJson | null): string[] => (hasReplies ? [each === null ? "REPLY" : replyText(each)] : []);
  return table(
    ["DEAD LETTER", "WAY", "REASON", "AGE", "ATTEMPTS", ...reply(null), "CONVERSATION", "ERROR"],
    all.map((each) => [
      each.position,
      each.direction ?? "-",
      each.reason,
      sinceText(each.at, nowMs),
      each.attempts === null ? "-" : String(each.attempts),
      ...reply(each),
      letterOwner(each),
      each.error ?? "",
    ]),
  );
}

/** E.g. `4`, or of a reply in several parts `4 (2/3)`. */
function replyText({ outSeq, part, parts }: LetterJson): string {
  if (outSeq === null) return "-";
  return part === null ? String(outSeq) : `${outSeq} (${part}/${parts ?? "?"})`;
}

export function letterOwner({ bot, channel, conversation }: LetterJson): string {
  return bot === null || channel === null || conversation === null
    ? "-"
    : conversationName({ bot, channel, conversation });
}

/** Everything about one, a line each; what there is nothing to say about is left out. */
export function detailText(detail: DetailJson, nowMs: number): string {
  const name = conversationName(detail);
  const lines: [string, string][] = [["state", stateText(detail, nowMs)]];
  if (detail.halt !== null) {
    const word = shellWord(name);
    lines.push(["halt", `${detail.halt.name}; resolve it: colloquy retry ${word}, or colloquy skip ${word}`]);
  }
  if (detail.waiting > 0)
    lines.push(["waiting", `${countText(detail.waiting, "message")}, ${bytesText(detail.waitingBytes)}, on its list`]);
  for (const each of detail.waitingHead) lines.push(["", waitingText(each, nowMs)]);
  if (detail.mailboxDepth > 0) lines.push(["mailbox", `${countText(detail.mailboxDepth, "message")} not decided`]);
  lines.push(...turnLines(detail.turn, nowMs));
  if (detail.order !== null)
    lines.push(["order", `epoch ${detail.order.epoch}, next ${detail.order.next ?? "not known yet"}`]);
  for (const { kind, position } of detail.notices) lines.push(["notice", `${kind}, about ${position}`]);
  if (detail.suspect !== null)
    lines.push(["suspect", `runs in a group of ${detail.suspect}, one of which may have ended the process`]);
  lines.push(...laneLines(detail, nowMs));
  lines.push(...recordLines(detail.record));
  const width = Math.max(...lines.map(([title]) => title.length));
  return `${cell(name)}\n${lines.map(([title, text]) => `  ${title.padEnd(width)}  ${cellOf(text)}\n`).join("")}`;
}

/** Longer than a cell of a table may be. */
const cellOf = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "?");

function stateText({ state, since, why, resident }: DetailJson, nowMs: number): string {
  const words = [state ?? "not known"];
  if (since !== null) words.push(`for ${sinceText(since, nowMs)}`);
  const where = resident ? "" : " · not in memory here";
  return `${words.join(" ")}${why ? `: ${why}` : ""}${where}`;
}

function waitingText(each: DetailJson["waitingHead"][number], nowMs: number): string {
  if ("problem" in each) return `${each.id}: ${each.problem}`;
  const sequence = each.sequence === null ? "" : `, sequence ${each.sequence}`;
  const age = each.admittedAt === null ? "" : `, came ${sinceText(each.admittedAt, nowMs)} ago`;
  const said =
    "messageId" in each ? ` ${JSON.stringify({ id: each.messageId, text: each.text, data: each.data })}` : "";
  return `${each.position}, ${bytesText(each.bytes)}${sequence}${age}${said}`;
}

function turnLines(turn: DetailJson["turn"], nowMs: number): [string, string][] {
  if (turn === null) return [];
  const words = [`at ${turn.position}`, countText(turn.attempts, "failed attempt")];
  if (turn.deaths > 0) words.push(countText(turn.deaths, "end of the process", "ends of the process"));
  if (turn.firstFailedAt !== null) words.push(`first ${sinceText(turn.firstFailedAt, nowMs)} ago`);
  if (turn.nextAt !== null) words.push(`next at ${turn.nextAt}`);
  if (turn.repliesOut > 0) words.push(`${countText(turn.repliesOut, "reply", "replies")} out`);
  const lines: [string, string][] = [["turn", words.join(" · ")]];
  if (turn.error !== null) lines.push(["error", turn.error]);
  for (const step of turn.steps) {
    const result = "result" in step ? ` = ${JSON.stringify(step.result)}` : "";
    lines.push(["step", `${step.index} ${step.name}#${step.occurrence}${result}`]);
  }
  return lines;
}

function laneLines(detail: DetailJson, nowMs: number): [string, string][] {
  const { lane } = detail;
  const lines: [string, string][] = [["lane", laneText(detail, nowMs)]];
  if (lane === null) return lines;
  const word = shellWord(conversationName(detail));
  if (lane.state === "halted")
    lines.push(["", `resolve it: colloquy lanes retry ${word}, or colloquy lanes skip ${word}`]);
  if (lane.state === "closed") lines.push(["", `open it: colloquy lanes retry ${word}`]);
  return lines;
}

function laneText({ lane, undelivered }: DetailJson, nowMs: number): string {
  const replies = Math.max(undelivered.replies, lane?.waiting ?? 0);
  const bytes = Math.max(undelivered.bytes, lane?.waitingBytes ?? 0);
  const waiting =
    replies === 0 ? "" : ` · ${countText(replies, "reply", "replies")}, ${bytesText(bytes)}, not delivered`;
  if (lane === null || lane.state === "flowing") return `flows${waiting}`;
  if (lane.state === null) return `not known: ${lane.why}`;
  const next = lane.nextAt === null ? "" : `, next at ${lane.nextAt}`;
  const since = lane.firstFailedAt === null ? "" : ` for ${sinceText(lane.firstFailedAt, nowMs)}`;
  const at = lane.head === null ? "" : ` at reply ${lane.head.outSeq}${partText(lane.head.part)}`;
  return `${lane.state}${since}${at}: ${lane.why}${next}${waiting}`;
}

const partText = (part: number | null): string => (part === null ? "" : `, part ${part}`);

function recordLines(record: DetailJson["record"]): [string, string][] {
  if (record === null || record === "") return [["record", "none"]];
  if ("problem" in record) return [["record", `${record.problem}; ${bytesText(record.bytes)}, left untouched`]];
  const { seq, outSeq, botVersion, bytes, stateBytes, born } = record;
  const words = [
    countText(seq, "turn"),
    countText(outSeq, "reply", "replies"),
    `bot version ${botVersion}`,
    `${bytesText(bytes)}, state ${bytesText(stateBytes)}`,
    `born ${born}`,
  ];
  const lines: [string, string][] = [["record", words.join(" · ")]];
  if ("state" in record) lines.push(["data", JSON.stringify(record.state)]);
  if ("stateProblem" in record) lines.push(["data", String(record.stateProblem)]);
  return lines;
}
