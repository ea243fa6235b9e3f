// Verb: what distinguishes the verbs for conversations, lanes and dead letters from one another, for the command line.

import type { haltedJson } from "../../admin/admin-json.ts";
import type { WhereSubject } from "../../admin/where.ts";
import type { Query } from "../admin-client.ts";
import {
  type ConversationJson,
  countText,
  type LaneJson,
  type LetterJson,
  laneName,
  letterOwner,
} from "./operate-text.ts";
import { UNDER_WAY } from "./progress.ts";
import { conversationName, readConversation, readDeadLetter } from "./target.ts";

export type HaltedJson = ReturnType<typeof haltedJson>;
/** Of the answer of a verb: what it did or would do, each as its list gives it. */
export type DoneJson = HaltedJson | LaneJson | LetterJson;
export type RefusedJson = Readonly<Record<string, string>>;

export interface Verb {
  readonly name: "retry" | "skip" | "redrive";
  /** As it stands behind `colloquy`. */
  readonly typed: string;
  /** Where it is posted. */
  readonly path: string;
  /** Member of its answer that lists what was done. */
  readonly member: "conversations" | "lanes" | "deadLetters";
  readonly subject: WhereSubject;
  /** One line that is a question, without its end. */
  readonly question: (count: number) => string;
  readonly would: (count: number) => string;
  readonly asked: (count: number) => string;
  readonly through: (count: number) => string;
  readonly nothing: string;
  /** As the API takes it. @throws ConfigError if it is none */
  readonly target: (text: string) => unknown;
  /** Names what it is about, whatever becomes of it. */
  readonly nameOf: (done: DoneJson) => string;
  readonly refusedName: (refused: RefusedJson) => string;
  /**
   * Tells one standstill from a later one.
   * @param halted names of the conversations that are; empty unless `waitsForHalts`
   */
  readonly standstillOf: (done: DoneJson | ConversationJson, halted: ReadonlySet<string>) => string;
  /** What is asked may stand behind a conversation that is halted. */
  readonly waitsForHalts: boolean;
  /** What became of those that moved and stand anew. */
  readonly again: string;
  /** What is to be said of those that have not moved. */
  readonly left: string;
  /** Where what has not moved yet is listed. */
  readonly standing: { readonly path: string; readonly query: Query };
}

export const HALTED: Verb["standing"] = {
  path: "/admin/conversations",
  query: { from: "index", state: "halted" },
};

const LEFT = "not yet: what was asked is on disk and is done once their shard is open";

const haltVerb = (
  name: "retry" | "skip",
  what: { readonly ask: string; readonly done: string; readonly through: string },
): Verb => ({
  name,
  typed: name,
  path: `/admin/conversations/${name}`,
  member: "conversations",
  subject: "conversations",
  question: (count) => `${what.ask} ${countText(count, "halted conversation")}`,
  would: (count) => `${countText(count, "halted conversation")} would be asked to ${what.done}; nothing was done`,
  asked: (count) => `${countText(count, "conversation")} asked to ${what.done}`,
  through: (count) => `${countText(count, "conversation")} ${what.through}`,
  nothing: "no halted conversation is meant",
  target: readConversation,
  nameOf: (done) => conversationName(done as HaltedJson),
  refusedName: ({ bot = "", channel = "", conversation = "" }) => conversationName({ bot, channel, conversation }),
  standstillOf: (done) => String((done as HaltedJson | ConversationJson).since),
  waitsForHalts: false,
  again: "halted again (colloquy ls --state halted)",
  left: LEFT,
  standing: HALTED,
});

export const RETRY: Verb = haltVerb("retry", {
  ask: "Run the message once more that halts",
  done: "run the halting message once more",
  through: "went on",
});

export const SKIP: Verb = haltVerb("skip", {
  ask: "Set aside, as a dead letter, the message that halts",
  done: "set the halting message aside and go on",
  through: "went on",
});

interface LaneWords {
  readonly ask: string;
  readonly blocked: string;
  readonly done: string;
}

const laneVerb = (name: "retry" | "skip", { ask, blocked, done }: LaneWords): Verb => ({
  name,
  typed: `lanes ${name}`,
  path: `/admin/lanes/${name}`,
  member: "lanes",
  subject: "lanes",
  question: (count) => `${ask} ${countText(count, `${blocked} lane`)}`,
  would: (count) => `${countText(count, `${blocked} lane`)} would be asked to ${done}; nothing was done`,
  asked: (count) => `${countText(count, "lane")} asked to ${done}`,
  through: (count) => `${countText(count, "lane")} went on`,
  nothing: `no ${blocked} lane is meant`,
  target: readConversation,
  nameOf: (lane) => laneName(lane as LaneJson),
  refusedName: ({ bot = "", channel = "", conversation = "" }) => conversationName({ bot, channel, conversation }),
  standstillOf: (lane) => laneStandstill(lane as LaneJson),
  waitsForHalts: false,
  again: "blocked again (colloquy lanes)",
  left: "not yet: what was asked is on disk, and is done once their shard is open and their account has a place",
  standing: { path: "/admin/lanes", query: { where: "state!=flowing" } },
});

/** One whose reply was not tried since it was asked to be is on its way. */
function laneStandstill({ state, since, head, attempts }: LaneJson): string {
  return state === "retrying" && attempts === 0 ? UNDER_WAY : `${state} ${since} ${head?.name}`;
}

export const RETRY_LANES: Verb = laneVerb("retry", {
  ask: "Send the reply again, with attempts counted from 0, at the head of",
  blocked: "blocked",
  done: "send the reply at their head again",
});

export const SKIP_LANES: Verb = laneVerb("skip", {
  ask: "Set aside, as a dead letter, the reply at the head of",
  blocked: "halted",
  done: "set the reply at their head aside and go on",
});

export const REDRIVE: Verb = {
  name: "redrive",
  typed: "redrive",
  path: "/admin/dead-letters/redrive",
  member: "deadLetters",
  subject: "dead letters",
  question: (count) => `Let ${countText(count, "dead letter")} run or be sent again, behind what came since`,
  would: (count) => `${countText(count, "dead letter")} would be redriven; nothing was done`,
  asked: (count) => `${countText(count, "dead letter")} asked to come back`,
  through: (count) => `${countText(count, "dead letter")} redriven`,
  nothing: "no dead letter is meant",
  target: readDeadLetter,
  nameOf: (done) => (done as LetterJson).position,
  refusedName: ({ position = "" }) => position,
  standstillOf: (done, halted) => letterStandstill(done as LetterJson, halted),
  waitsForHalts: true,
  again: "wait in halted conversations (colloquy ls --state halted)",
  left: LEFT,
  standing: { path: "/admin/dead-letters", query: {} },
};

/** A reply waits for no conversation: it joins the lane. */
function letterStandstill(letter: LetterJson, halted: ReadonlySet<string>): string {
  return letter.direction !== "out" && halted.has(letterOwner(letter)) ? "halted" : "";
}

/** Whose it is, to be read by people. */
export function aboutOf({ subject }: Verb, done: DoneJson): string {
  if (subject !== "dead letters") return (done as HaltedJson | LaneJson).why;
  const letter = done as LetterJson;
  return `${letterOwner(letter)} ${letter.reason}`;
}
