// docs/lanes.md says what the code says: states, reasons and filters, and the output that the commands give for such lanes.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseWhere, type WhereSubject, whereFields } from "../../src/admin/where.ts";
import { DEAD_REPLY_REASONS, LANE_HALTS, LANE_STATES } from "../../src/domain/lane.ts";
import { run } from "../cli/support/fake-terminal.ts";
import { AdminWorld } from "../support/admin-world.ts";
import { addDeadReply, addLane, idOf, LANE_HALTED } from "../support/unfinished.ts";
import { ROOT } from "./support/markdown.ts";

const page = readFileSync(join(ROOT, "docs/lanes.md"), "utf8");
const section = page.split("\n## Seeing and resolving\n")[1]!.split("\n## ")[0]!;

/** First cells of the rows of the table whose first title is that. */
function cells(title: string): readonly string[] {
  const table = section.split(`\n| ${title} |`)[1]!.split("\n\n")[0]!;
  return [...table.matchAll(/^\| (.+?) \|/gm)].map(([, cell]) => cell!).filter((cell) => !/^-+$/.test(cell));
}

const codes = (text: string): readonly string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => code!);

test("it has each state, each reason and each kind of dead letter, and no other", () => {
  expect(cells("state").flatMap(codes)).toEqual([...LANE_STATES]);
  expect(cells("reason").flatMap(codes)).toEqual([...LANE_HALTS]);
  expect(cells("dead letter").flatMap(codes)).toEqual([...DEAD_REPLY_REASONS]);
});

test("its conditions are understood, and all fields have one", () => {
  const named = new Set<string>();
  for (const condition of cells("condition").flatMap(codes)) {
    const parsed = parseWhere(condition, "lanes");
    expect(parsed.kind, condition).toBe("where");
    if (parsed.kind === "where") named.add(parsed.where[0]!.field);
  }
  expect([...named].sort()).toEqual([...whereFields("lanes")].sort());
});

test("the filters of its commands are understood", () => {
  const commands = section.split("\n").filter((line) => /^colloquy .*--where/.test(line));
  expect(commands.length).toBe(4);
  for (const command of commands) {
    const subject: WhereSubject = command.startsWith("colloquy redrive") ? "dead letters" : "lanes";
    const [, filter] = /--where '([^']+)'/.exec(command)!;
    expect(parseWhere(filter!, subject), command).toMatchObject({ kind: "where" });
  }
});

describe("what it shows is what is printed for such lanes", () => {
  const fenced = [...section.matchAll(/^```(\w*)\n(.*?)^```$/gms)];
  const blocks = fenced.filter(([, language]) => language === "").map(([, , text]) => text!);
  const [listed, counted, shown, dry, letters] = blocks;
  const HOUR_MS = 3_600_000;
  const SHARDS = 2;
  let world: AdminWorld;
  let url: string;

  beforeAll(async () => {
    world = new AdminWorld();
    url = await world.start();
    const nowMs = Date.now();
    const orders = (conversation: string) => idOf(conversation, "orders", "http");
    const { halt: _, ...standing } = { ...LANE_HALTED, attempts: 1, list: { nextId: 13, count: 12, bytes: 1_229 } };
    const { list: __, ...empty } = standing;
    addLane(world.data, SHARDS, orders("c1"), { ...standing, halt: "terminal", firstFailedAtMs: nowMs - 3 * HOUR_MS });
    addLane(world.data, SHARDS, orders("c9"), {
      ...empty,
      state: "closed",
      reason: "HTTP 410",
      firstFailedAtMs: nowMs - 50 * HOUR_MS,
    });
    addLane(world.data, SHARDS, orders("c77"), {
      ...standing,
      state: "retrying",
      reason: "HTTP 503",
      attempts: 9,
      firstFailedAtMs: nowMs - HOUR_MS / 3,
      nextAtMs: nowMs + 299_000,
      list: { nextId: 4, count: 3, bytes: 300 },
    });
    const letter = { reason: "exhausted", error: "HTTP 503", attempts: 212, part: 2, parts: 3 };
    addDeadReply(world.data, SHARDS, orders("c77"), { ...letter, atMs: nowMs - 5 * HOUR_MS });
  });
  afterAll(() => world.stop());

  const printed = async (...argv: readonly string[]) => {
    const command = run([...argv, "--url", url]);
    expect(await command.code).toBe(0);
    return { stdout: command.stdout(), stderr: command.stderr() };
  };

  test("five blocks, all of them compared", () => {
    expect(blocks).toHaveLength(5);
  });

  test("lanes", async () => {
    expect(await printed("lanes")).toEqual({ stdout: listed, stderr: counted });
  });

  test("show", async () => {
    const { stdout } = await printed("show", "orders/http/c1");
    const lines = stdout.split("\n");
    const at = lines.findIndex((line) => line.startsWith("  lane "));
    expect(`${lines.slice(at, at + 2).join("\n")}\n`).toBe(shown);
  });

  test("a dry run", async () => {
    const { stdout } = await printed("lanes", "skip", "--where", "reason=terminal", "--dry-run");
    expect(stdout).toBe(dry);
  });

  test("dead letters", async () => {
    const { stdout } = await printed("ls", "--dead-letters");
    expect(stdout.replace(/^\d{2}:/m, "00:")).toBe(letters); // in whichever shard it is
  });
});
