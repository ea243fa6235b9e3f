// The filter language of operators: what is written is what is meant, and what is not understood is never left out.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type Condition,
  meets,
  parseWhere,
  type Where,
  type WhereItem,
  type WhereSubject,
  whereFields,
  whereText,
} from "../../src/admin/where.ts";

const NOTABLE = fc.constantFrom("", " ", ",", '"', "=", "a,b", "~x", "\n", "é", "😀", "a b ", '\\"', ">=1", "\u0000");
const anyText = fc.oneof(fc.string({ unit: "grapheme", maxLength: 12 }), NOTABLE);
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/);
const textOperator = fc.constantFrom("=", "!=", "^=", "~");
const numberOperator = fc.constantFrom("=", "!=", ">", ">=", "<", "<=");
const whole = fc.nat(1_000_000);

const text = (field: string, operator: fc.Arbitrary<string>, value: fc.Arbitrary<string>) =>
  fc.record({ kind: fc.constant("text"), field: fc.constant(field), operator, value }) as fc.Arbitrary<Condition>;
const number = (field: string) =>
  fc.record({
    kind: fc.constant("number"),
    field: fc.constant(field),
    operator: numberOperator,
    value: whole,
  }) as fc.Arbitrary<Condition>;
const age = (field: string) =>
  fc.record({
    kind: fc.constant("age"),
    field: fc.constant(field),
    operator: fc.constantFrom(">", ">=", "<", "<="),
    value: whole,
  }) as fc.Arbitrary<Condition>;

const equal = fc.constantFrom("=", "!=");
const CONDITION: Readonly<Record<WhereSubject, fc.Arbitrary<Condition>>> = {
  conversations: fc.oneof(
    text("bot", equal, name),
    text("channel", equal, name),
    text("conversation", textOperator, anyText),
    text("state", equal, fc.constantFrom("idle", "active", "held", "halted", "quarantined")),
    text("reason", equal, fc.constantFrom("poison", "gap", "crashing", "full")),
    text("error", fc.constant("~"), anyText),
    age("since"),
    number("attempts"),
    number("waiting"),
  ),
  lanes: fc.oneof(
    text("bot", equal, name),
    text("channel", equal, name),
    text("conversation", textOperator, anyText),
    text("state", equal, fc.constantFrom("flowing", "retrying", "halted", "closed")),
    text("reason", equal, fc.constantFrom("terminal", "exhausted", "unclear", "full", "gone")),
    text("error", fc.constant("~"), anyText),
    text("born", equal, anyText),
    age("since"),
    number("attempts"),
    number("waiting"),
  ),
  "dead letters": fc.oneof(
    text("bot", equal, name),
    text("channel", equal, name),
    text("conversation", textOperator, anyText),
    text("direction", equal, fc.constantFrom("in", "out")),
    text("reason", textOperator, anyText),
    text("error", fc.constant("~"), anyText),
    age("age"),
    number("attempts"),
  ),
};
const subject = fc.constantFrom<WhereSubject>("conversations", "lanes", "dead letters");
const whereOf = (of: WhereSubject) => fc.array(CONDITION[of], { minLength: 1, maxLength: 5 });

const item: fc.Arbitrary<WhereItem> = fc.record(
  {
    bot: fc.constantFrom("a", "b"),
    channel: fc.constantFrom("http", "web"),
    conversation: fc.constantFrom("c1", "c2", "x,y"),
    state: fc.constantFrom("active", "held", "halted"),
    reason: fc.constantFrom("poison", "gap", null),
    error: fc.constantFrom("Timeout of crm", "no such order", null),
    since: whole,
    attempts: fc.nat(9),
    waiting: fc.nat(200),
  },
  { requiredKeys: [] },
);

function parsed(written: string, of: WhereSubject = "conversations"): Where {
  const result = parseWhere(written, of);
  if (result.kind === "problem") throw new Error(`${result.at}: ${result.detail}`);
  return result.where;
}

function problem(written: string, of: WhereSubject = "conversations"): { at: number; detail: string } {
  const result = parseWhere(written, of);
  if (result.kind === "where") throw new Error(`understood: ${JSON.stringify(result.where)}`);
  return result;
}

describe("W3: any conditions", () => {
  test("written and parsed are the same", () => {
    fc.assert(
      fc.property(
        subject.chain((of) => fc.tuple(fc.constant(of), whereOf(of))),
        ([of, where]) => {
          expect(parsed(whereText(where), of)).toEqual(where);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("may have blanks around every part", () => {
    fc.assert(
      fc.property(whereOf("conversations"), fc.constantFrom("", " ", "  ", "\t"), (where, blank) => {
        const spaced = where
          .map((each) => {
            const value = whereText([each]).slice(each.field.length + each.operator.length);
            return [each.field, each.operator, value].join(blank);
          })
          .join(`${blank},${blank}`);
        expect(parsed(`${blank}${spaced}${blank}`)).toEqual(where);
      }),
    );
  });

  test("joined by a comma mean both", () => {
    fc.assert(
      fc.property(whereOf("conversations"), whereOf("conversations"), item, (one, other, found) => {
        const both = parsed(`${whereText(one)},${whereText(other)}`);
        expect(meets(found, both)).toBe(meets(found, one) && meets(found, other));
      }),
      { numRuns: 2_000 },
    );
  });
});

test("W1: any text is understood whole, or a problem with a place in it", () => {
  const words = fc.constantFrom(
    "bot",
    "state",
    "since",
    "=",
    "!=",
    ">",
    "~",
    ",",
    '"',
    "halted",
    "1h",
    "a",
    " ",
    "waiting",
  );
  const soup = fc.oneof(
    anyText,
    fc.array(words, { maxLength: 8 }).map((parts) => parts.join("")),
  );
  fc.assert(
    fc.property(soup, subject, (written, of) => {
      const result = parseWhere(written, of);
      if (result.kind === "problem") {
        expect(result.at).toBeGreaterThanOrEqual(1);
        expect(result.at).toBeLessThanOrEqual(written.length + 1);
        expect(result.detail.length).toBeGreaterThan(10);
      } else {
        expect(result.where.length).toBeGreaterThan(0);
        expect(parsed(whereText(result.where), of)).toEqual(result.where);
        for (const { field } of result.where) expect(written).toContain(field);
      }
    }),
    { numRuns: 5_000 },
  );
});

describe("each condition", () => {
  const found: WhereItem = {
    bot: "orders",
    channel: "http",
    conversation: "customer-7",
    state: "halted",
    reason: "poison",
    error: "TypeError: Timeout of the CRM",
    since: 3_600_000,
    attempts: 5,
    waiting: 100,
  };

  test.each([
    "bot=orders",
    "bot!=other",
    "conversation=customer-7",
    "conversation^=customer-",
    "conversation~TOMER",
    "state=halted",
    "reason=poison",
    "error~timeout",
    "since>59m",
    "since>=1h",
    "since<=1h",
    "since<2h",
    "attempts>=5",
    "attempts=5",
    "attempts!=4",
    "waiting<101",
    "bot=orders,state=halted,error~crm",
    '  bot = orders , error ~ "the crm" ',
  ])("%s is met", (written) => {
    expect(meets(found, parsed(written))).toBe(true);
  });

  test.each([
    "bot=other",
    "bot!=orders",
    "conversation=customer",
    "conversation^=ustomer",
    "state=held",
    "reason=gap",
    "error~refused",
    "since>1h",
    "since<1h",
    "attempts>5",
    "attempts<=4",
    "waiting>100",
    "bot=orders,state=held",
  ])("%s is not", (written) => {
    expect(meets(found, parsed(written))).toBe(false);
  });

  test("of what an item has not, only != is met", () => {
    for (const written of ["reason=gap", "error~x", "since>0ms", "attempts>=0", 'conversation^=""'])
      expect(meets({}, parsed(written)), written).toBe(false);
    expect(meets({}, parsed("reason!=gap,attempts!=0"))).toBe(true);
  });
});

describe("W2: a problem names its place and the nearest word", () => {
  test.each([
    ["", 1, "a condition"],
    ["bto=orders", 1, 'did you mean "bot"'],
    ["bot=orders, stat=halted", 13, 'did you mean "state"'],
    ["bot=orders,", 12, "a condition"],
    [",bot=orders", 1, "a condition"],
    ["state=halt", 7, 'did you mean "halted"'],
    ["reason=poision", 8, 'did you mean "poison"'],
    ["bot=Orders", 5, "lower case"],
    ["bot^=ord", 4, "compared with = !="],
    ["error=x", 6, "compared with ~"],
    ["since=1h", 6, "compared with > >= < <="],
    ["since>1", 7, "is an age, as"],
    ["since>soon", 7, "is an age, as"],
    ["attempts>5.5", 10, "whole number"],
    ["waiting>-1", 9, "whole number"],
    ["bot", 4, "compared with"],
    ["bot=", 5, "a value is missing"],
    ['conversation="a', 14, "has no second one"],
    ['conversation="a"b', 17, "a comma or the end"],
    ['conversation=a"b', 14, "put in quotes"],
    ['conversation="\\x"', 14, "JSON string"],
    ["__proto__=1", 1, 'have no "__proto__"'],
    ["constructor=1", 1, 'have no "constructor"'],
    ["x".repeat(5_000), 4_096, "at most 4096"],
  ])("%s", (written, at, detail) => {
    expect(problem(written)).toEqual({ kind: "problem", at, detail: expect.stringContaining(detail) });
  });

  test("what the other kind of item has is none here, and what there is is listed", () => {
    expect(problem("age>1h").detail).toContain(`there are ${whereFields("conversations").join(", ")}`);
    expect(problem("waiting>1", "dead letters").detail).toContain("there are bot, channel");
    expect(parsed("age>1h,reason^=4", "dead letters")).toHaveLength(2);
  });
});
