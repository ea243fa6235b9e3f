// The operator's commands against a port that answers: what they show, what they ask, and the codes that they end with.

import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { StoreNotReadyError } from "../../../src/errors.ts";
import { AdminWorld } from "../../support/admin-world.ts";
import { type Run, run } from "../support/fake-terminal.ts";

let world: AdminWorld;
let url: string;
beforeEach(async () => {
  world = new AdminWorld();
  url = await world.start();
});
afterEach(() => world.stop());

const lines = (text: string): string[] => text.split("\n").filter((line) => line !== "");
// biome-ignore lint/suspicious/noExplicitAny: JSON that the tests pick apart
const jsonLines = (text: string): any[] => lines(text).map((line) => JSON.parse(line));
const at = (...argv: string[]): Run => run([...argv, "--url", url]);

describe("ls", () => {
  test("shows what is unfinished in columns, the longest first, and counts it", async () => {
    world.halt("c1", { sinceMs: Date.now() - 5 * 60_000, waiting: 12 });
    world.halt("c2", { sinceMs: Date.now() - 3 * 3_600_000, attempts: 7 });
    world.hold("c3");
    const listed = at("ls");
    expect(await listed.code).toBe(0);
    const [title, first, second, third, ...rest] = lines(listed.stdout());
    expect(title).toMatch(/^STATE +SINCE +ATTEMPTS +WAITING +CONVERSATION +WHY$/);
    expect(first).toMatch(/^held +\d+d +5 +3 +demo\/test\/c3 +gap: 5 is missing$/);
    expect(second).toMatch(/^halted +3h +7 +3 +demo\/test\/c2 +poison: TypeError after 5 attempts$/);
    expect(third).toMatch(/^halted +5m +5 +12 +demo\/test\/c1 +poison/);
    expect(rest).toEqual([]);
    const column = title!.indexOf("CONVERSATION");
    for (const line of [first, second, third]) expect(line!.indexOf("demo/")).toBe(column);
    expect(listed.stderr()).toBe("2 halted, 1 held\n");
  });

  test("filters by state and by every --where, and says that there is nothing", async () => {
    for (let i = 0; i < 5; i += 1) world.halt(`c${i}`, { attempts: i });
    world.hold("held");
    const json = at("ls", "--state", "halted", "--where", "attempts>=2", "--where", "conversation!=c3", "--json");
    expect(await json.code).toBe(0);
    expect(
      jsonLines(json.stdout())
        .map(({ conversation }) => conversation)
        .sort(),
    ).toEqual(["c2", "c4"]);
    expect(json.stderr()).toBe("");
    const nothing = at("ls", "--state", "quarantined");
    expect(await nothing.code).toBe(0);
    expect(nothing.stdout()).toBe("");
    expect(nothing.stderr()).toBe("nothing is quarantined\n");
  });

  test("reads page after page up to the limit, and says when there is more", async () => {
    for (let i = 0; i < 450; i += 1) world.halt(`c${i}`);
    const all = at("ls", "--limit", "1000", "--json");
    expect(await all.code).toBe(0);
    expect(new Set(jsonLines(all.stdout()).map(({ conversation }) => conversation)).size).toBe(450);
    const some = at("ls", "--limit", "210");
    expect(await some.code).toBe(0);
    expect(lines(some.stdout())).toHaveLength(211);
    expect(some.stderr()).toBe("210 halted; there may be more: --limit 2100\n");
  });

  test("shows what stands in memory alone, once, and a verb says that it cannot lift that", async () => {
    await world.stop();
    world = new AdminWorld();
    world.crashed.push("crashed", "both");
    url = await world.start();
    world.halt("both");
    const listed = at("ls", "--json");
    expect(await listed.code).toBe(0);
    const found = jsonLines(listed.stdout()).map(({ conversation, why }) => [conversation, why]);
    expect(found).toEqual([
      ["both", "poison: TypeError after 5 attempts"],
      ["crashed", "crashing: the runtime's own code failed on it"],
    ]);
    const held = at("ls", "--state", "held");
    await held.code;
    expect(held.stdout()).toBe("");
    const refused = at("retry", "demo/test/crashed", "--yes");
    expect(await refused.code).toBe(1);
    expect(refused.stderr()).toContain("no verb lifts that, it is tried again when its shard is opened again");
    expect(world.asked).toEqual([]);
  });

  test("an id that would move the cursor does not", async () => {
    world.halt("\u001b[2J\u202Eevil\n\u{1F600}");
    const listed = at("ls");
    expect(await listed.code).toBe(0);
    expect(listed.stdout()).toContain("demo/test/?[2J?evil \u{1F600}");
  });

  test("lists dead letters, and filters them", async () => {
    const name = world.letter("c1", { reason: "late", error: null });
    world.letter("c2");
    const listed = at("ls", "--dead-letters", "--where", "reason=late");
    expect(await listed.code).toBe(0);
    expect(lines(listed.stdout())[1]).toMatch(new RegExp(`^${name} +in +late +\\d+d +5 +demo/test/c1$`));
    expect(listed.stderr()).toBe("1 dead letter\n");
  });

  test("of replies among them it says which one, which part, why, and how the last attempt ended", async () => {
    world.letter("c1");
    const name = world.deadReply("c2", { part: 2, parts: 3, reason: "exhausted", error: "HTTP 503", attempts: 40 });
    const listed = at("ls", "--dead-letters");
    expect(await listed.code).toBe(0);
    const [title, ...rows] = lines(listed.stdout());
    expect(title).toMatch(/^DEAD LETTER +WAY +REASON +AGE +ATTEMPTS +REPLY +CONVERSATION +ERROR$/);
    expect(rows.find((row) => row.startsWith(name))).toMatch(
      /^\S+ +out +exhausted +\d+d +40 +4 \(2\/3\) +demo\/test\/c2 +HTTP 503$/,
    );
    expect(rows.find((row) => row.includes("demo/test/c1"))).toMatch(/ in +poison +\d+d +5 +- +demo/);
    const json = at("ls", "--dead-letters", "--where", "direction=out", "--json");
    await json.code;
    expect(jsonLines(json.stdout())).toMatchObject([{ outSeq: 4, part: 2, parts: 3, error: "HTTP 503" }]);
  });
});

describe("show", () => {
  const POSITION = { entry: { ms: 1_600_000_000_000, seq: 2 }, index: 0 };

  test("tells state, halt with what to type, turn, steps, order and record, and no word of a user", async () => {
    world.halt("c 1");
    const openTurn = {
      position: POSITION,
      attempts: 5,
      deaths: 1,
      firstFailedAtMs: Date.now() - 600_000,
      nextAtMs: null,
      error: "TypeError",
      repliesOut: 1,
      steps: [{ index: 0, name: "charge", occurrence: 0, result: "secret-result" }],
    };
    world.record("c 1", { openTurn, order: { epoch: 0, next: 8 } }, { said: "secret-state" });
    const shown = at("show", "demo/test/c 1");
    expect(await shown.code).toBe(0);
    const text = shown.stdout();
    expect(lines(text)[0]).toBe("demo/test/c 1");
    expect(text).toMatch(/^ {2}state +halted for \d+d: poison: TypeError after 5 attempts · not in memory here$/m);
    expect(text).toMatch(
      /^ {2}halt +halt-c 1; resolve it: colloquy retry 'demo\/test\/c 1', or colloquy skip 'demo\/test\/c 1'$/m,
    );
    expect(text).toMatch(
      /^ {2}turn +at \S+-2-0 · 5 failed attempts · 1 end of the process · first 10m ago · 1 reply out$/m,
    );
    expect(text).toMatch(/^ {2}error +TypeError$/m);
    expect(text).toMatch(/^ {2}step +0 charge#0$/m);
    expect(text).toMatch(/^ {2}order +epoch 0, next 8$/m);
    expect(text).toMatch(/^ {2}record +4 turns · 6 replies · bot version 3 · /m);
    expect(text).not.toContain("secret");
    const asked = at("show", "demo/test/c 1", "--state-data", "--payload");
    await asked.code;
    expect(asked.stdout()).toContain('{"said":"secret-state"}');
    expect(asked.stdout()).toContain('charge#0 = "secret-result"');
    const json = at("show", "demo/test/c 1", "--json");
    await json.code;
    expect(jsonLines(json.stdout())[0]).toMatchObject({ state: "halted", turn: { attempts: 5 }, record: { seq: 4 } });
  });

  test("what nobody knows ends with 1, what is no conversation with 2", async () => {
    const unknown = at("show", "demo/test/nobody");
    expect(await unknown.code).toBe(1);
    expect(unknown.stderr()).toContain("nothing is known of this conversation");
    for (const name of ["demo", "demo/test", "demo/test/", "Demo/test/c1"]) expect(await at("show", name).code).toBe(2);
  });
});

describe("retry and skip", () => {
  test("V1: without a terminal nothing is done unless --yes is said", async () => {
    world.halt("c1");
    const refused = at("retry", "--all");
    expect(await refused.code).toBe(2);
    expect(refused.stderr()).toContain("--yes: is needed where nobody can be asked; nothing was done");
    expect(world.asked).toEqual([]);
    world.work();
    const done = at("retry", "--all", "--yes");
    expect(await done.code).toBe(0);
    expect(done.stderr()).toBe("colloquy: 1 conversation went on\n");
  });

  test.each([
    ["y\n", 0, ["retry c0", "retry c1"]],
    ["n\n", 1, []],
    ["\n", 1, []],
    ["", 1, []],
  ])("V1: at a terminal it asks once, with the number; %j", async (answer, code, asked) => {
    world.halt("c0");
    world.halt("c1");
    const told = run(["retry", "--all", "--no-wait", "--url", url], { isTTY: true, isTyped: true, stdin: [answer] });
    expect(await told.code).toBe(code);
    expect(told.stderr()).toContain("Run the message once more that halts 2 halted conversations? [y/N] ");
    expect(world.asked).toEqual(asked);
    expect(told.stderr()).toContain(code === 0 ? "2 conversations asked to run" : "called off; nothing was done");
  });

  test("a dry run needs no yes, says which, and does nothing", async () => {
    world.halt("c1");
    world.hold("c2");
    const dry = at("skip", "--where", "reason=poison", "--dry-run");
    expect(await dry.code).toBe(0);
    expect(dry.stdout()).toBe("demo/test/c1  poison: TypeError after 5 attempts\n");
    expect(dry.stderr()).toContain("1 halted conversation would be asked to set the halting message aside");
    expect(world.asked).toEqual([]);
  });

  test("many go page by page, and it waits until all are through", async () => {
    for (let i = 0; i < 1_234; i += 1) world.halt(`c${i}`);
    world.work();
    const done = at("retry", "--where", "error~typeerror", "--yes", "--json");
    expect(await done.code).toBe(0);
    const events = jsonLines(done.stdout());
    expect(events.filter(({ event }) => event === "asked")).toHaveLength(1_234);
    expect(events.at(-1)).toEqual({
      event: "summary",
      verb: "retry",
      dryRun: false,
      count: 1_234,
      refused: 0,
      left: 0,
      again: 0,
    });
    const left = events.filter(({ event }) => event === "progress").map((event) => event.left);
    expect(left).toEqual([...left].sort((a, b) => b - a));
    expect(left[0]).toBe(1_234);
  });

  test("named ones: those that are not halted are refused, and the code says so", async () => {
    world.halt("c1");
    world.halt("a/b");
    world.hold("c2");
    world.work();
    const done = at("skip", "demo/test/c1", "demo/test/c2", "demo/test/a/b", "--yes");
    expect(await done.code).toBe(1);
    expect(lines(done.stderr())).toEqual([
      "colloquy: demo/test/c2: it is held, not halted",
      "colloquy: 2 conversations went on",
    ]);
  });

  test("one that halts again is told apart from one that has not moved", async () => {
    for (const name of ["c1", "c2", "c3"]) world.halt(name);
    world.work(["c2"]);
    const done = at("retry", "--all", "--yes");
    expect(await done.code).toBe(1);
    expect(done.stderr()).toBe("colloquy: 2 conversations went on; 1 halted again (colloquy ls --state halted)\n");
  });

  test("when the time is over it says what is left, and that it is not lost", async () => {
    world.halt("c1");
    const done = at("retry", "--all", "--yes", "--timeout", "1");
    expect(await done.code).toBe(1);
    expect(done.stderr()).toContain("0 conversations went on; 1 not yet: what was asked is on disk");
    expect(world.asked).toEqual(["retry c1"]);
  });

  test.each<[string, string[], string]>([
    ["nothing named", ["retry", "--yes"], "retry: names nothing; nothing was done"],
    ["two ways", ["retry", "demo/test/c1", "--all", "--yes"], "takes names, or --where, or --all"],
    ["a filter with a slip", ["skip", "--where", "stat=halted", "--yes"], 'did you mean "state"'],
    ["no conversation", ["retry", "c1", "--yes"], "is no conversation; nothing was done"],
    ["no dead letter", ["redrive", "5", "--yes"], "is no dead letter; nothing was done"],
    ["a time that is none", ["retry", "--all", "--timeout", "0"], "not a whole number from 1 to 86400"],
    ["a state that is none", ["ls", "--state", "halt"], 'did you mean "halted"'],
    ["a limit that is none", ["ls", "--limit", "none"], "not a whole number from 1 to"],
    ["a filter of the other kind", ["ls", "--dead-letters", "--where", "waiting>1"], 'have no "waiting"'],
  ])("%s exits 2 with one line, and nothing is done", async (_, argv, line) => {
    world.halt("c1");
    const wrong = at(...argv);
    expect(await wrong.code).toBe(2);
    expect(wrong.stderr()).toContain(line);
    expect(lines(wrong.stderr())).toHaveLength(1);
    expect(world.asked).toEqual([]);
  });
});

describe("lanes", () => {
  const HOUR_MS = 3_600_000;
  const retrying = { state: "retrying", reason: "HTTP 503", attempts: 4 } as const;

  test("shows those that stand, who waits for somebody first, and what to do next", async () => {
    const nowMs = Date.now();
    world.lane("c1", { ...retrying, firstFailedAtMs: nowMs - 2 * HOUR_MS, nextAtMs: nowMs + 100_000 });
    world.lane("c2", { firstFailedAtMs: nowMs - HOUR_MS });
    world.lane("c3", { state: "closed", reason: "HTTP 410", firstFailedAtMs: nowMs - 3 * HOUR_MS });
    const listed = at("lanes");
    expect(await listed.code).toBe(0);
    const [title, ...rows] = lines(listed.stdout());
    expect(title).toMatch(/^STATE +SINCE +ATTEMPTS +NEXT +WAITING +LANE +WHY$/);
    expect(rows).toEqual([
      expect.stringMatching(/^halted +1h +2 +- +7 +demo\/test\/c2 +HTTP 400, 2 attempts; it was refused for good$/),
      expect.stringMatching(/^closed +3h +2 +- +7 +demo\/test\/c3 +HTTP 410, 2 attempts; the recipient is gone/),
      expect.stringMatching(/^retrying +2h +4 +in 1m +7 +demo\/test\/c1 +HTTP 503, 4 attempts$/),
    ]);
    expect(listed.stderr()).toBe(
      "1 halted, 1 closed, 1 retrying; mend what refused them, then colloquy lanes retry --where state=halted, or skip what never arrives\n",
    );
  });

  test("filters by state and by every --where, page after page, and says that there is nothing", async () => {
    for (let i = 0; i < 450; i += 1) world.lane(`c${i}`, { attempts: i });
    world.lane("r", retrying);
    const json = at(
      "lanes",
      "--state",
      "halted",
      "--where",
      "attempts>=10",
      "--where",
      "attempts<400",
      "--limit",
      "999",
      "--json",
    );
    expect(await json.code).toBe(0);
    expect(new Set(jsonLines(json.stdout()).map(({ conversation }) => conversation)).size).toBe(390);
    expect(json.stderr()).toBe("");
    const going = at("lanes", "--state", "retrying");
    await going.code;
    expect(going.stderr()).toBe(
      "1 retrying; they go on by themselves; colloquy lanes retry --all does not wait for that\n",
    );
    const nothing = at("lanes", "--state", "closed");
    expect(await nothing.code).toBe(0);
    expect([nothing.stdout(), nothing.stderr()]).toEqual(["", "no lane is closed\n"]);
  });

  test("show tells of a lane why, what waits, and what to type", async () => {
    world.lane("c 1", { part: 2, firstFailedAtMs: Date.now() - 2 * HOUR_MS });
    const shown = at("show", "demo/test/c 1");
    expect(await shown.code).toBe(0);
    expect(shown.stdout()).toMatch(
      /^ {2}lane +halted for 2h at reply 4, part 2: HTTP 400, 2 attempts; it was refused for good · 7 replies, 700 B, not delivered$/m,
    );
    expect(shown.stdout()).toContain(
      "resolve it: colloquy lanes retry 'demo/test/c 1', or colloquy lanes skip 'demo/test/c 1'",
    );
    const json = at("show", "demo/test/c 1", "--json");
    await json.code;
    expect(jsonLines(json.stdout())[0].lane).toMatchObject({ state: "halted", halt: "terminal", head: { part: 2 } });
  });

  test("retry asks them all, and waits until they went on", async () => {
    for (let i = 0; i < 600; i += 1) world.lane(`c${i}`);
    world.lane("r", retrying);
    world.work();
    const done = at("lanes", "retry", "--all", "--yes");
    expect(await done.code).toBe(0);
    expect(done.stderr()).toBe("colloquy: 601 lanes went on\n");
  });

  test("one that is blocked again, and one whose reply was not tried yet, are told apart", async () => {
    world.lane("c1");
    world.lane("c2");
    world.lane("waits", { ...retrying, attempts: 0 });
    world.work(["c2", "waits"]);
    const done = at("lanes", "retry", "--all", "--yes", "--timeout", "1");
    expect(await done.code).toBe(1);
    expect(done.stderr()).toBe(
      "colloquy: 1 lane went on; 1 blocked again (colloquy lanes); 1 not yet: what was asked is on disk, and is done once their shard is open and their account has a place\n",
    );
  });

  test("skip takes halted ones by name and refuses the others, with the reply that is meant", async () => {
    world.lane("c1", { part: 3 });
    world.lane("c2", { ...retrying, nextAtMs: 1_600_000_600_000 });
    const done = at("lanes", "skip", "demo/test/c1", "demo/test/c2", "--yes", "--no-wait");
    expect(await done.code).toBe(1);
    expect(lines(done.stderr())).toEqual([
      "colloquy: demo/test/c2: its lane is retrying, not halted; it goes on by itself, next at 2020-09-13T12:36:40.000Z",
      "colloquy: 1 lane asked to set the reply at their head aside and go on; they do so in their order",
    ]);
    expect(world.lanesAsked).toEqual(["lane-skip c1 k0-0-0.4.3"]);
  });

  test("a dry run says which and why, and does nothing; a question names the number", async () => {
    world.lane("c1");
    const dry = at("lanes", "skip", "--where", "reason=terminal", "--dry-run");
    expect(await dry.code).toBe(0);
    expect(dry.stdout()).toBe("demo/test/c1  HTTP 400, 2 attempts; it was refused for good\n");
    expect(dry.stderr()).toContain("1 halted lane would be asked to set the reply at their head aside");
    const told = run(["lanes", "retry", "--all", "--url", url], { isTTY: true, isTyped: true, stdin: ["n\n"] });
    expect(await told.code).toBe(1);
    expect(told.stderr()).toContain("at the head of 1 blocked lane? [y/N] ");
    expect(world.lanesAsked).toEqual([]);
  });

  test.each<[string, string[], string]>([
    ["nothing named", ["lanes", "retry", "--yes"], "lanes retry: names nothing; nothing was done"],
    ["nobody to ask", ["lanes", "skip", "--all"], "--yes: is needed where nobody can be asked"],
    ["a filter of the other kind", ["lanes", "skip", "--where", "reason=poison", "--yes"], "is no reason"],
    ["a state that is none", ["lanes", "--state", "halt"], 'did you mean "halted"'],
    ["a verb that is none", ["lanes", "retyr"], "too many arguments for 'lanes'"],
  ])("%s exits 2, and nothing is done", async (_, argv, line) => {
    world.lane("c1");
    const wrong = at(...argv);
    expect(await wrong.code).toBe(2);
    expect(wrong.stderr()).toContain(line);
    expect(world.lanesAsked).toEqual([]);
  });
});

describe("redrive", () => {
  test("brings messages and replies back by name and by filter, and waits until they have left", async () => {
    const first = world.letter("c1");
    world.letter("c2", { reason: "late" });
    const reply = world.deadReply("c3");
    const rotten = world.deadReply("c4", { born: null });
    world.work();
    const named = at("redrive", first, reply, rotten, "--yes");
    expect(await named.code).toBe(1);
    expect(lines(named.stderr())).toEqual([
      `colloquy: ${rotten}: its bytes are no reply that could be sent; it stays where it is`,
      "colloquy: 2 dead letters redriven",
    ]);
    const filtered = at("redrive", "--where", "reason=late,age>1m", "--yes", "--json");
    expect(await filtered.code).toBe(0);
    expect(jsonLines(filtered.stdout()).at(-1)).toMatchObject({ event: "summary", count: 1, left: 0 });
  });

  test("those whose conversation halts are told apart, and not waited for", async () => {
    world.letter("c1");
    world.letter("c2");
    world.halt("c2");
    world.work(["c2"], ["c2"]);
    const told = at("redrive", "--all", "--yes");
    expect(await told.code).toBe(1);
    expect(told.stderr()).toBe(
      "colloquy: 1 dead letter redriven; 1 wait in halted conversations (colloquy ls --state halted)\n",
    );
  });

  test("a reply waits for no conversation", async () => {
    const reply = world.deadReply("c1");
    world.halt("c1");
    const asked = at("redrive", reply, "--yes", "--timeout", "1");
    expect(await asked.code).toBe(1);
    expect(asked.stderr()).toContain("0 dead letters redriven; 1 not yet: what was asked is on disk");
    expect(world.lanesAsked).toEqual([`lane-redrive c1 ${reply.slice(3)}`]);
  });

  test("a dry run says whose they are", async () => {
    const name = world.letter("c1");
    const dry = at("redrive", "--all", "--dry-run");
    expect(await dry.code).toBe(0);
    expect(dry.stdout()).toBe(`${name}  demo/test/c1 poison\n`);
    expect(world.redriven).toEqual([]);
  });
});

test("a node that cannot reach Redis is exit 3, one that is not there exit 1", async () => {
  await world.stop();
  const gone = at("ls");
  expect(await gone.code).toBe(1);
  expect(gone.stderr()).toContain(`nothing answered at ${url}`);
  world = new AdminWorld();
  const away = (): never => {
    throw new StoreNotReadyError("away");
  };
  url = await world.start({ inspector: away, operator: away });
  for (const argv of [
    ["ls"],
    ["lanes"],
    ["lanes", "skip", "--all", "--yes"],
    ["show", "demo/test/c1"],
    ["retry", "--all", "--yes"],
    ["redrive", "--all", "--yes"],
  ]) {
    const told = at(...argv);
    expect(await told.code).toBe(3);
    expect(told.stderr()).toContain("the store does not answer now");
  }
});

test("each act is a line of the node's log with who asked for it; a look is none", async () => {
  world.halt("c1");
  world.work();
  await at("ls").code;
  await at("retry", "--all", "--dry-run").code;
  expect(world.recording.at("info")).toEqual([]);
  await at("retry", "--where", "bot=demo", "--yes").code;
  const [line, ...more] = world.recording.at("info").map((text) => JSON.parse(text));
  expect(more).toEqual([]);
  expect(line).toMatchObject({ verb: "retry", by: "127.0.0.1", where: "bot=demo", asked: 1, refused: 0 });
});
