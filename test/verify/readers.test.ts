import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { verify } from "../../src/cli/verify/verify-command.ts";
import { VerifyInputError } from "../../src/errors.ts";
import { isEmptyRdb } from "../../src/verify/aof-folder.ts";
import { parseLine } from "../../src/verify/client-lines.ts";
import { RespReader } from "../../src/verify/resp.ts";
import { bytesOf, EMPTY_RDB, type Run, RunWriter, smallRun } from "./support/generated-run.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "colloquy-verify-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function written(run: Run, base?: Buffer): string {
  const writer = new RunWriter(folder, base);
  writer.write(run);
  writer.close();
  return join(folder, "data", "appendonlydir", "appendonly.aof.1.incr.aof");
}

async function run(flags: { json?: boolean; fold?: boolean; dedupe?: string } = {}) {
  const said = { out: "", err: "" };
  const terminal = {
    argv: [],
    environment: {},
    stdin: process.stdin,
    stdout: { write: (text: string) => (said.out += text) },
    stderr: { write: (text: string) => (said.err += text) },
  };
  const code = await verify(folder, { dedupe: "10", ...flags }, terminal);
  return { code, ...said };
}

describe("the command", () => {
  test("exits 0 for a run that kept its promise, with one JSON object if asked for", async () => {
    written(smallRun());
    expect((await run({ fold: true })).code).toBe(0);
    const { code, out, err } = await run({ fold: true, json: true });
    expect({ code, err, ok: JSON.parse(out).ok }).toEqual({ code: 0, err: "", ok: true });
  });

  test("exits 1 for one that did not, and shows what broke", async () => {
    const broken = smallRun();
    broken.steps.push({ kind: "acquire", epoch: 1, node: "n9" });
    written(broken);
    const { code, out } = await run();
    expect(code).toBe(1);
    expect(out).toMatch(/I10 +fencing +violated/);
  });

  test("exits 2 for a folder without history, one that is not there, and a log in another format", async () => {
    expect(await run()).toMatchObject({ code: 2, out: "" });
    writeFileSync(join(folder, "clients.ndjson"), '{"kind":"message","bot":"b","conversation":"c"}\n');
    const { code, err } = await run();
    expect(code).toBe(2);
    expect(err).toMatch(/clients\.ndjson:1: id is missing/);
    rmSync(folder, { recursive: true });
    expect((await run()).code).toBe(2);
  });

  test("refuses a number of minutes that is none", async () => {
    await expect(run({ dedupe: "soon" })).rejects.toThrow(/no number of minutes/);
  });
});

describe("the append-only file", () => {
  test("may be cut at any byte of its last command: that transaction never happened", async () => {
    const good = smallRun();
    const aof = written(good);
    const whole = readFileSync(aof).length;
    const last = bytesOf(good.steps.at(-1)!).length;
    for (let cut = 1; cut < last; cut += 7) {
      truncateSync(aof, whole - cut);
      const { code, out } = await run({ fold: true });
      expect({ cut, code }, out).toEqual({ cut, code: 0 }); // it only acknowledged what the sink has
      written(good);
    }
  });

  test("that is damaged in the middle is an error that names the byte", async () => {
    const aof = written(smallRun());
    const bytes = readFileSync(aof);
    bytes[bytes.indexOf("*3\r\n", 200)] = 0x21;
    writeFileSync(aof, bytes);
    const { code, err } = await run();
    expect(code).toBe(2);
    expect(err).toMatch(/is damaged at byte \d+/);
  });

  test("that begins with a snapshot proves only what comes after it", async () => {
    const base = Buffer.concat([EMPTY_RDB.subarray(0, -9), Buffer.from([0xfe, 0x00])]);
    expect([isEmptyRdb(EMPTY_RDB), isEmptyRdb(base)]).toEqual([true, false]);
    written(smallRun(), base);
    const { code, out } = await run();
    expect(code).toBe(0);
    expect(out).toMatch(/I1 +no loss +not checked +\(the append-only file was rewritten/);
  });

  test("comes out as the same commands, whatever the chunks", () => {
    const bytes = Buffer.concat(smallRun().steps.map(bytesOf));
    const commands = (chunkBytes: number): string[] => {
      const reader = new RespReader("test");
      const found: string[] = [];
      for (let at = 0; at < bytes.length; at += chunkBytes) {
        for (const { offset, name, args } of reader.push(bytes.subarray(at, at + chunkBytes))) {
          found.push(`${offset} ${name} ${args.map((arg) => arg.toString("hex")).join(" ")}`);
        }
      }
      expect(reader.tornBytes).toBe(0);
      return found;
    };
    const whole = commands(bytes.length);
    expect(whole.length).toBeGreaterThan(20);
    for (const chunkBytes of [1, 2, 3, 7, 64, 1_000]) expect(commands(chunkBytes)).toEqual(whole);
  });
});

test.each([
  ["not JSON", "{", /it is not JSON/],
  ["no kind", "{}", /kind is none of message, attempt, delivery, fault/],
  ["a kind of Object's", '{"kind":"constructor"}', /kind is none of/],
  ["a list", "[]", /kind is none of/],
  ["a fault without a time", '{"kind":"fault","fault":"kill"}', /atUs is missing/],
])("a line that is %s is an error", (_what, text, message) => {
  expect(() => parseLine(text, "log:1")).toThrow(VerifyInputError);
  expect(() => parseLine(text, "log:1")).toThrow(message);
});
