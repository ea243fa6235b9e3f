import { describe, expect, test } from "vitest";
import { encodeOutboxEntry, type OutboxReply } from "../../src/codec/outbox-codec.ts";
import { conversationKey, idempotencyKey } from "../../src/domain/ids.ts";
import type { Command } from "../../src/verify/resp.ts";
import { Unacknowledged } from "../system/support/unacknowledged.ts";

const SHARD = "colloquy:{00}";
const idOf = (conversation: string) => ({ bot: "fold", channel: "http", conversation });
const nameOf = (conversation: string, outSeq: number): string => idempotencyKey(idOf(conversation), "b0", outSeq);

function reply(conversation: string, outSeq: number, channel = "http"): OutboxReply {
  const key = conversationKey({ ...idOf(conversation), channel });
  return { key, born: "b0", outSeq, body: Buffer.from(`${conversation} ${outSeq}`) };
}

function command(name: string, ...args: readonly (string | Buffer)[]): Command {
  return { offset: 0, name, args: args.map((arg) => Buffer.from(arg)) };
}

const add = (stream: string, id: string, replies: readonly OutboxReply[]): Command =>
  command("XADD", `${SHARD}:${stream}`, id, "b", encodeOutboxEntry(replies));

function openAfter(...transactions: readonly (readonly Command[])[]): string[] {
  const fold = new Unacknowledged();
  for (const [i, commands] of transactions.entries()) fold.add({ at: i + 1, commands });
  return [...fold.keys()].sort();
}

const three = add("outbox", "5-0", [reply("a", 1), reply("b", 1), reply("b", 2)]);

describe("a reply is unacknowledged", () => {
  test("from the commit that contains it", () => {
    expect(openAfter([three])).toEqual([nameOf("a", 1), nameOf("b", 1), nameOf("b", 2)]);
  });

  test("until its bit is set", () => {
    const acks = command("HSET", `${SHARD}:acks`, "5-0", Buffer.from([0b011]));
    expect(openAfter([three], [acks])).toEqual([nameOf("b", 2)]);
  });

  test("until its entry goes", () => {
    const gone = command("XDEL", `${SHARD}:outbox`, "5-0");
    expect(openAfter([three], [gone])).toEqual([]);
    expect(openAfter([three], [command("XDEL", `${SHARD}:outbox`, "6-0")])).toHaveLength(3);
  });

  test("on the list of its lane, until it leaves that or the list goes", () => {
    const list = `out:${conversationKey(idOf("b"))}`;
    const moved = [add(list, "1-0", [reply("b", 1)]), add(list, "2-0", [reply("b", 2)])];
    const gone = command("XDEL", `${SHARD}:outbox`, "5-0");
    expect(openAfter([three], [...moved, gone])).toEqual([nameOf("b", 1), nameOf("b", 2)]);
    const left = command("XDEL", `${SHARD}:${list}`, "1-0");
    expect(openAfter([three], [...moved, gone], [left])).toEqual([nameOf("b", 2)]);
    expect(openAfter([three], [...moved, gone], [command("DEL", `${SHARD}:${list}`)])).toEqual([]);
  });

  test("under the name of its part, and a send to another shard is none", () => {
    expect(openAfter([add("outbox", "7-0", [reply("1", 1, "!transfer")])])).toEqual([]);
  });

  test("and what else stands in the store does not matter", () => {
    const others = [
      command("XADD", `${SHARD}:inbox`, "5-0", "b", "x"),
      command("HSET", "colloquy:meta", "outbox", "x"),
      command("XDEL", `${SHARD}:inbox`, "5-0"),
      command("PING"),
    ];
    expect(openAfter([three, ...others])).toHaveLength(3);
  });
});
