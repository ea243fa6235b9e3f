// Where: which of many an operator means, as words. `bot=orders, state=halted, since>1h` are three conditions, and all must hold.
//
//   where     := condition ("," condition)*
//   condition := field operator value
//   operator  := = | != | ^= (begins with) | ~ (has in it, in upper or lower case) | > | >= | < | <=
//   value     := bare, up to the next comma, without blanks at its ends | "in quotes", as a JSON string
//
// Invariants
//   W1. What cannot be understood is a problem with its place, never a condition that is left out: a verb must not mean more
//       than was typed.
//   W2. A value that no item can have is such a problem, too: `state=halt` would match nothing, silently.
//   W3. Parsing what `whereText` wrote gives the same conditions.

import { CONVERSATION_STATES } from "../codec/open-codec.ts";
import { nearest } from "../config-problems.ts";
import { durationMs } from "../domain/duration.ts";
import { NAME_PATTERN } from "../domain/ids.ts";
import { LANE_HALTS, LANE_STATES } from "../domain/lane.ts";
import { HALT_REASONS } from "../domain/record.ts";

const TEXT_OPERATORS = ["=", "!=", "^=", "~"] as const;
const NUMBER_OPERATORS = ["=", "!=", ">", ">=", "<", "<="] as const;
export type TextOperator = (typeof TEXT_OPERATORS)[number];
export type NumberOperator = (typeof NUMBER_OPERATORS)[number];

export type Condition =
  | { readonly kind: "text"; readonly field: string; readonly operator: TextOperator; readonly value: string }
  /** An age is in ms. */
  | {
      readonly kind: "number" | "age";
      readonly field: string;
      readonly operator: NumberOperator;
      readonly value: number;
    };

/** All of them must hold; none means everything. */
export type Where = readonly Condition[];

/** What is selected from: the index of the unfinished, that of lanes, or the dead letters. */
export type WhereSubject = "conversations" | "lanes" | "dead letters";

/** A member that is null or undefined meets no condition but `!=`. Ages are ms. */
export type WhereItem = Readonly<Record<string, string | number | null | undefined>>;

export type ParsedWhere =
  | { readonly kind: "where"; readonly where: Where }
  /** `at` counts characters from 1. */
  | { readonly kind: "problem"; readonly at: number; readonly detail: string };

type Field =
  | { readonly kind: "name" }
  | { readonly kind: "words"; readonly words: readonly string[] }
  | { readonly kind: "text"; readonly operators: readonly TextOperator[] }
  | { readonly kind: "number" }
  | { readonly kind: "age" };

const ID: Field = { kind: "text", operators: ["=", "!=", "^=", "~"] };

const FIELDS: Readonly<Record<WhereSubject, Readonly<Record<string, Field>>>> = {
  conversations: {
    bot: { kind: "name" },
    channel: { kind: "name" },
    conversation: ID,
    state: { kind: "words", words: CONVERSATION_STATES },
    reason: { kind: "words", words: HALT_REASONS },
    error: { kind: "text", operators: ["~"] },
    since: { kind: "age" },
    attempts: { kind: "number" },
    waiting: { kind: "number" },
  },
  lanes: {
    bot: { kind: "name" },
    channel: { kind: "name" },
    conversation: ID,
    state: { kind: "words", words: LANE_STATES },
    reason: { kind: "words", words: LANE_HALTS },
    error: { kind: "text", operators: ["~"] },
    since: { kind: "age" },
    attempts: { kind: "number" },
    waiting: { kind: "number" },
    born: { kind: "text", operators: ["=", "!="] },
  },
  "dead letters": {
    bot: { kind: "name" },
    channel: { kind: "name" },
    conversation: ID,
    direction: { kind: "words", words: ["in", "out"] },
    reason: { kind: "text", operators: ["=", "!=", "^=", "~"] },
    error: { kind: "text", operators: ["~"] },
    age: { kind: "age" },
    attempts: { kind: "number" },
  },
};

/** Longer than anybody types, and far below what a request may have. */
export const WHERE_LENGTH_MAX = 4_096;

/** Names of the fields, for a help text. */
export const whereFields = (subject: WhereSubject): readonly string[] => Object.keys(FIELDS[subject]);

/** @param text one expression; several that must all hold are joined by commas */
export function parseWhere(text: string, subject: WhereSubject): ParsedWhere {
  if (text.length > WHERE_LENGTH_MAX)
    return problemAt(WHERE_LENGTH_MAX, `a filter has at most ${WHERE_LENGTH_MAX} characters`);
  const reader = new Reader(text);
  const where: Condition[] = [];
  do {
    const condition = readCondition(reader, subject);
    if ("at" in condition) return condition;
    where.push(condition);
  } while (reader.take(/,/y) !== null);
  return { kind: "where", where };
}

/** Bare where it can be, else in quotes (W3). */
export function whereText(where: Where): string {
  return where.map((each) => `${each.field}${each.operator}${valueText(each)}`).join(",");
}

function valueText(condition: Condition): string {
  if (condition.kind !== "text") return condition.kind === "age" ? `${condition.value}ms` : String(condition.value);
  const { value } = condition;
  return /^[^",\s][^",]*$/.test(value) && value.trimEnd() === value && !STARTS_LIKE_OPERATOR.test(value)
    ? value
    : JSON.stringify(value);
}

/** A bare value that begins like one would be read into the operator. */
const STARTS_LIKE_OPERATOR = /^[=~<>]/;

export function meets(item: WhereItem, where: Where): boolean {
  return where.every((condition) => meetsOne(item[condition.field] ?? null, condition));
}

function meetsOne(found: string | number | null, condition: Condition): boolean {
  if (found === null) return condition.operator === "!=";
  if (condition.kind !== "text") return compared(Number(found), condition.operator, condition.value);
  const text = String(found);
  switch (condition.operator) {
    case "=":
      return text === condition.value;
    case "!=":
      return text !== condition.value;
    case "^=":
      return text.startsWith(condition.value);
    case "~":
      return text.toLowerCase().includes(condition.value.toLowerCase());
  }
}

function compared(found: number, operator: NumberOperator, value: number): boolean {
  switch (operator) {
    case "=":
      return found === value;
    case "!=":
      return found !== value;
    case ">":
      return found > value;
    case ">=":
      return found >= value;
    case "<":
      return found < value;
    case "<=":
      return found <= value;
  }
}

type Problem = Extract<ParsedWhere, { kind: "problem" }>;

const problemAt = (at: number, detail: string): Problem => ({ kind: "problem", at, detail });

/** Goes through the text from left to right. */
class Reader {
  readonly text: string;
  at = 0;

  constructor(text: string) {
    this.text = text;
  }

  /** What the sticky pattern finds here; null, and nothing is passed, if it does not. */
  take(pattern: RegExp): string | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0] ?? null;
    this.at += found?.length ?? 0;
    return found;
  }

  skipBlanks(): void {
    this.take(/\s*/y);
  }

  problem(detail: string, at: number = this.at): Problem {
    return problemAt(at + 1, detail);
  }
}

function readCondition(reader: Reader, subject: WhereSubject): Condition | Problem {
  reader.skipBlanks();
  const fieldAt = reader.at;
  const name = reader.take(/[^\s,=!^~<>"]+/y);
  const fields = FIELDS[subject];
  if (name === null)
    return reader.problem(`here stands a condition, as ${Object.keys(fields)[0]}=<value>; ${listOf(fields)}`);
  const field = Object.hasOwn(fields, name) ? fields[name]! : undefined;
  if (field === undefined)
    return reader.problem(
      `${subject} have no "${cut(name)}"${guess(name, Object.keys(fields))}; ${listOf(fields)}`,
      fieldAt,
    );
  reader.skipBlanks();
  const operatorAt = reader.at;
  const operator = reader.take(/!=|\^=|>=|<=|[=~<>]/y);
  const allowed = operatorsOf(field);
  if (operator === null || !allowed.includes(operator))
    return reader.problem(`"${name}" is compared with ${allowed.join(" ")}`, operatorAt);
  reader.skipBlanks();
  const valueAt = reader.at;
  const value = readValue(reader);
  if (typeof value !== "string") return value;
  return conditionOf(reader, valueAt, name, field, operator, value);
}

/** Quoted or bare; the reader stands at a comma or the end behind it. */
function readValue(reader: Reader): string | Problem {
  const start = reader.at;
  const quoted = reader.take(/"(?:[^"\\]|\\.)*"/y);
  if (quoted === null) {
    if (reader.text[start] === '"') return reader.problem("this quotation mark has no second one");
    const bare = (reader.take(/[^,]+/y) ?? "").trimEnd();
    if (bare === "") return reader.problem('a value is missing; an empty one is ""', start);
    if (bare.includes('"'))
      return reader.problem("a value with a quotation mark in it is put in quotes, as JSON", start);
    return bare;
  }
  reader.skipBlanks();
  if (reader.at < reader.text.length && reader.text[reader.at] !== ",")
    return reader.problem("behind a value stands a comma or the end");
  try {
    return JSON.parse(quoted) as string;
  } catch {
    return reader.problem("what is in quotes is written as a JSON string", start);
  }
}

function conditionOf(
  reader: Reader,
  valueAt: number,
  name: string,
  field: Field,
  operator: string,
  value: string,
): Condition | Problem {
  switch (field.kind) {
    case "name":
      if (!NAME_PATTERN.test(value))
        return reader.problem(`${name}s have names of lower case letters, digits and "-"`, valueAt); // W2
      return { kind: "text", field: name, operator: operator as TextOperator, value };
    case "words":
      if (!field.words.includes(value))
        return reader.problem(
          `"${cut(value)}" is no ${name}${guess(value, field.words)}; it is one of ${field.words.join(", ")}`,
          valueAt,
        ); // W2
      return { kind: "text", field: name, operator: operator as TextOperator, value };
    case "text":
      return { kind: "text", field: name, operator: operator as TextOperator, value };
    case "number":
      if (!/^\d{1,15}$/.test(value)) return reader.problem(`${name} is a whole number from 0`, valueAt);
      return { kind: "number", field: name, operator: operator as NumberOperator, value: Number(value) };
    case "age":
      return ageCondition(reader, valueAt, name, operator as NumberOperator, value);
  }
}

function ageCondition(
  reader: Reader,
  valueAt: number,
  name: string,
  operator: NumberOperator,
  value: string,
): Condition | Problem {
  try {
    return { kind: "age", field: name, operator, value: durationMs(value as `${number}s`) };
  } catch {
    return reader.problem(`${name} is an age, as 500ms, 30s, 10m, 1h or 7d`, valueAt);
  }
}

function operatorsOf(field: Field): readonly string[] {
  switch (field.kind) {
    case "name":
    case "words":
      return ["=", "!="];
    case "text":
      return field.operators;
    case "number":
      return NUMBER_OPERATORS;
    case "age":
      return NUMBER_OPERATORS.filter((operator) => operator.startsWith(">") || operator.startsWith("<"));
  }
}

function guess(word: string, candidates: readonly string[]): string {
  const near = nearest(word, candidates);
  return near === undefined ? "" : ` (did you mean "${near}"?)`;
}

const listOf = (fields: Readonly<Record<string, Field>>): string => `there are ${Object.keys(fields).join(", ")}`;
const cut = (text: string): string => (text.length > 40 ? `${text.slice(0, 40)}...` : text);
