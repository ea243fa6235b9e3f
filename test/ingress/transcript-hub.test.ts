import { expect, test } from "vitest";
import { conversationKey } from "../../src/domain/ids.ts";
import { TranscriptHub } from "../../src/ingress/transcript-hub.ts";

const key = (conversation: string) => conversationKey({ bot: "b", channel: "web", conversation });

test("a follower is told of its own conversation only, until it stops", () => {
  const hub = new TranscriptHub();
  const told: string[] = [];
  const stop = hub.follow(key("c1"), () => told.push("c1"));
  hub.follow(key("c2"), () => told.push("c2"));
  hub.tell(key("c1"));
  hub.tell(key("nobody"));
  stop();
  hub.tell(key("c1"));
  expect(told).toEqual(["c1"]);
});

test("U2: followers of one conversation stop one by one, and the last leaves nothing behind", () => {
  const hub = new TranscriptHub();
  let told = 0;
  const count = (): void => {
    told += 1;
  };
  const stops = [hub.follow(key("c"), count), hub.follow(key("c"), count)];
  hub.tell(key("c"));
  expect(told).toBe(2);
  stops[0]!();
  stops[0]!();
  hub.tell(key("c"));
  expect([told, hub.size]).toEqual([3, 1]);
  stops[1]!();
  expect(hub.size).toBe(0);
  const again = hub.follow(key("c"), count);
  stops[1]!(); // of an earlier life of the entry: harmless
  hub.tell(key("c"));
  expect([told, hub.size]).toEqual([4, 1]);
  again();
});
