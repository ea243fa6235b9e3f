// Verb: what distinguishes retry, skip and redrive from one another, for the command line.

import type { haltedJson } from "../../admin/admin-json.ts";
import type { WhereSubject } from "../../admin/where.ts";
import type { Query } from "../admin-client.ts";
import { type ConversationJson, countText, type LetterJson, letterOwner } from "./operate-text.ts";
import { conversationName, readConversation, readDeadLetter } from "./target.ts";

export type HaltedJson = ReturnType<typeof haltedJson>;
/** Of the answer of a verb: what it did or would do, each as its list gives it. */
export type DoneJson = HaltedJson | LetterJson;
export type RefusedJson = Readonly<Record<string, string>>;

export interface Verb {
  readonly name: "retry" | "skip" | "redrive";
  /** Where it is posted. */
  readonly path: string;
  /** Member of its answer that lists what was done. */
  readonly member: "conversations" | "deadLetters";
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
   * @param halted names of the conversations that are
   */
  readonly standstillOf: (done: DoneJson | ConversationJson, halted: ReadonlySet<string>) => string;
  /** What became of those that moved and stand anew. */
  readonly again: string;
  /** Where what has not moved yet is listed. */
  readonly standing: { readonly path: string; readonly query: Query };
}

export const HALTED: Verb["standing"] = {
  path: "/admin/conversations",
  query: { from: "index", state: "halted" },
};

const haltVerb = (
  name: "retry" | "skip",
  what: { readonly ask: string; readonly done: string; readonly through: string },
): Verb => ({
  name,
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
  again: "halted again",
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

export const REDRIVE: Verb = {
  name: "redrive",
  path: "/admin/dead-letters/redrive",
  member: "deadLetters",
  subject: "dead letters",
  question: (count) => `Run ${countText(count, "dead letter")} again, behind what came since`,
  would: (count) => `${countText(count, "dead letter")} would run again; nothing was done`,
  asked: (count) => `${countText(count, "dead letter")} asked to run again`,
  through: (count) => `${countText(count, "dead letter")} decided`,
  nothing: "no dead letter of a message is meant",
  target: readDeadLetter,
  nameOf: (done) => (done as LetterJson).position,
  refusedName: ({ position = "" }) => position,
  standstillOf: (done, halted) => (halted.has(letterOwner(done as LetterJson)) ? "halted" : ""),
  again: "wait in halted conversations",
  standing: { path: "/admin/dead-letters", query: {} },
};

/** Whose it is, to be read by people. */
export function aboutOf(verb: Verb, done: DoneJson): string {
  if (verb.subject === "conversations") return (done as HaltedJson).why;
  const letter = done as LetterJson;
  return `${letterOwner(letter)} ${letter.reason}`;
}
