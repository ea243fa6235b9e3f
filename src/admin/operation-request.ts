// Operation request: the body of a verb, understood or refused whole. Pure.
//
// Invariants
//   Q1. Everything is named: a body that selects nothing is refused, and "all" is a word of its own.
//   Q2. An unknown member is refused, so that a slip in the name of a filter never widens what a verb does.

import { z } from "zod";
import { type ConversationId, ID_BYTES_MAX, NAME_PATTERN } from "../domain/ids.ts";
import type { Problem } from "../ingress/problem.ts";
import type { DeadLetterPlace, OpenPlace } from "./inspector.ts";
import type { Selection } from "./operator.ts";
import { readDeadLetterPlace, readLaneToken, readOpenToken } from "./places.ts";
import { parseWhere, type Where, type WhereSubject } from "./where.ts";

/** Named ones in one request. */
export const TARGETS_MAX = 200;
/** Selected by a filter in one request, about. */
export const OPERATION_LIMIT_MAX = 500;
const EXPRESSIONS_MAX = 20;

export interface Operation<Target, Place> {
  readonly selection: Selection<Target, Place>;
  readonly limit: number;
  readonly dryRun: boolean;
}

export type ParsedOperation<Target, Place> =
  | { readonly kind: "operation"; readonly operation: Operation<Target, Place> }
  | { readonly kind: "problem"; readonly problem: Problem };

const name = z.string().regex(NAME_PATTERN, 'a name of lower case letters, digits and "-"');
const id = z
  .string("must be a string")
  .refine((text) => text.isWellFormed() && text !== "" && Buffer.byteLength(text) <= ID_BYTES_MAX, {
    error: `must have 1 to ${ID_BYTES_MAX} bytes of UTF-8`,
  });
const isBoolean = z.boolean("must be true or false");

const shared = {
  where: z.union([z.string(), z.array(z.string()).min(1).max(EXPRESSIONS_MAX)], {
    error: `must be a filter, or a list of 1 to ${EXPRESSIONS_MAX} that must all hold`,
  }),
  all: z.literal(true, "must be true; leave it out to name targets or a filter"),
  dryRun: isBoolean,
  limit: z
    .int(`must be a whole number from 1 to ${OPERATION_LIMIT_MAX}`)
    .min(1, `must be from 1 to ${OPERATION_LIMIT_MAX}`)
    .max(OPERATION_LIMIT_MAX, `must be from 1 to ${OPERATION_LIMIT_MAX}`),
  after: z.string("must be what the page before gave as next"),
};

const TARGETS_ERROR = `must be a list of 1 to ${TARGETS_MAX}`;
const resolveBody = z
  .strictObject({
    ...shared,
    targets: z
      .array(z.strictObject({ bot: name, channel: name, conversation: id }), TARGETS_ERROR)
      .min(1, TARGETS_ERROR)
      .max(TARGETS_MAX, TARGETS_ERROR),
  })
  .partial();
const redriveBody = z
  .strictObject({
    ...shared,
    targets: z.array(z.string(), TARGETS_ERROR).min(1, TARGETS_ERROR).max(TARGETS_MAX, TARGETS_ERROR),
  })
  .partial();

export function parseResolve(body: unknown): ParsedOperation<ConversationId, OpenPlace> {
  const checked = resolveBody.safeParse(body);
  if (!checked.success) return refused(firstProblem(checked.error));
  return operationOf(checked.data, "conversations", (targets) => targets, readOpenToken);
}

/** Lanes are named by their conversations. */
export function parseResolveLanes(body: unknown): ParsedOperation<ConversationId, OpenPlace> {
  const checked = resolveBody.safeParse(body);
  if (!checked.success) return refused(firstProblem(checked.error));
  return operationOf(checked.data, "lanes", (targets) => targets, readLaneToken);
}

export function parseRedrive(body: unknown): ParsedOperation<DeadLetterPlace, DeadLetterPlace> {
  const checked = redriveBody.safeParse(body);
  if (!checked.success) return refused(firstProblem(checked.error));
  return operationOf(checked.data, "dead letters", placesOf, readDeadLetterPlace);
}

interface Body<Target> {
  readonly where?: string | string[] | undefined;
  readonly all?: true | undefined;
  readonly targets?: Target[] | undefined;
  readonly dryRun?: boolean | undefined;
  readonly limit?: number | undefined;
  readonly after?: string | undefined;
}

function operationOf<Raw, Target, Place>(
  body: Body<Raw>,
  subject: WhereSubject,
  targetsOf: (raw: readonly Raw[]) => readonly Target[] | Problem,
  placeOf: (token: string) => Place | null,
): ParsedOperation<Target, Place> {
  const { where, all, targets, dryRun = false, limit = OPERATION_LIMIT_MAX, after } = body;
  const ways = [where, all, targets].filter((each) => each !== undefined);
  if (ways.length !== 1) return refused(problem("", "name targets, or a filter in where, or all: one of them")); // Q1
  const operation = (selection: Selection<Target, Place>): ParsedOperation<Target, Place> => ({
    kind: "operation",
    operation: { selection, limit, dryRun },
  });
  if (targets !== undefined) {
    if (after !== undefined) return refused(problem("after", "goes with a filter or all, not with targets"));
    const named = targetsOf(targets);
    return isProblem(named) ? refused(named) : operation({ kind: "targets", targets: named });
  }
  const parsed = parseExpressions(where ?? [], subject);
  if (isProblem(parsed)) return refused(parsed);
  if (after === undefined) return operation({ kind: "where", where: parsed });
  const place = placeOf(after);
  if (place === null) return refused(problem("after", "must be what the page before gave as next"));
  return operation({ kind: "where", where: parsed, after: place });
}

/** Several expressions must all hold. */
export function parseExpressions(where: string | readonly string[], subject: WhereSubject): Where | Problem {
  const expressions = typeof where === "string" ? [where] : where;
  const conditions: Where[] = [];
  for (const expression of expressions) {
    const parsed = parseWhere(expression, subject);
    if (parsed.kind === "problem") return problem("where", `at character ${parsed.at}: ${parsed.detail}`);
    conditions.push(parsed.where);
  }
  return conditions.flat();
}

function placesOf(texts: readonly string[]): readonly DeadLetterPlace[] | Problem {
  const places: DeadLetterPlace[] = [];
  for (const [i, text] of texts.entries()) {
    const place = readDeadLetterPlace(text);
    if (place === null) return problem(`targets[${i}]`, "must be the position of a dead letter, as 00:1715938200000-0");
    places.push(place);
  }
  return places;
}

export const isProblem = (value: object): value is Problem => "status" in value;

const problem = (field: string, detail: string): Problem => ({
  status: 422,
  field,
  detail: `${field === "" ? "the body" : field}: ${detail}; nothing was done`,
});

const refused = <Target, Place>(found: Problem): ParsedOperation<Target, Place> => ({
  kind: "problem",
  problem: found,
});

/** Never a value that was sent. */
function firstProblem({ issues: [issue] }: z.ZodError): Problem {
  if (issue === undefined) return problem("", "cannot be read");
  const field = z.core.toDotPath(issue.path);
  switch (issue.code) {
    case "unrecognized_keys":
      return problem(field, "has an unknown member; there are where, all, targets, dryRun, limit, after"); // Q2
    case "invalid_type":
      return field === "" ? problem("", "must be a JSON object") : problem(field, ownText(issue.message));
    default:
      return problem(field, ownText(issue.message));
  }
}

/** zod's own texts begin so. */
const ownText = (message: string): string => (message.startsWith("Invalid") ? "is of a wrong type" : message);
