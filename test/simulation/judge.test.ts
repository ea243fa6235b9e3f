// The judge finds what is wrong: histories of real runs are sound, and each corruption of one is found by its rule.

import { beforeAll, describe, expect, test } from "vitest";
import { conversationKey, shardOf } from "../../src/domain/ids.ts";
import type { CommittedTurns, StoreEvent } from "../../src/verify/history.ts";
import type { AppliedCommit, Effect, ReceivedDelivery, SimulatedHistory } from "./history.ts";
import { formatViolations, judge, type Rule } from "./judge.ts";
import { runWorld } from "./world.ts";

let history!: SimulatedHistory;
/** A conversation with at least three replies and five turns. */
let name: string;
let replies: readonly ReceivedDelivery[];

beforeAll(async () => {
  for (let seed = 1; !isRich(history); seed += 1) history = (await runWorld(seed)).history;
  const firsts = history.final.records.map(({ conversation }) => firstsOf(conversation));
  replies = firsts.sort((a, b) => b.length - a.length)[0]!;
  name = replies[0]!.conversation;
});

/** Everything that a corruption needs happens in it. */
function isRich(found: SimulatedHistory | undefined): boolean {
  if (found === undefined || judge(found).length > 0) return false;
  const { final, effects, sends, commits } = found;
  const texts = new Map<string, number>();
  for (const { from, conversation } of sends)
    texts.set(`${from} ${conversation}`, (texts.get(`${from} ${conversation}`) ?? 0) + 1);
  const journaled = commits.flatMap(({ records }) => records.flatMap(({ journal }) => journal));
  return final.transcripts.length > 0 && effects.length > 5 && journaled.length > 0 && Math.max(...texts.values()) > 1;
}

function firstsOf(conversation: string): ReceivedDelivery[] {
  return history.deliveries.filter((each) => each.conversation === conversation && each.isAccepted);
}

/** Of a process that owned its shard. */
function ownEffect() {
  const rulesWith = (effect: Effect): Set<Rule> =>
    rulesOf({ ...history, effects: [...history.effects, { ...effect, number: 9_999 }] });
  return history.effects.find((effect) => rulesWith(effect).has("effect"))!;
}

function journaledEffect(): Effect {
  const journaled = new Set(history.commits.flatMap(({ records }) => records.flatMap(({ journal }) => journal)));
  const owners = new Set(history.acquisitions.map(({ by }) => by));
  const effect = history.effects.findLast(({ number, by }) => journaled.has(number) && owners.has(by))!;
  const [bot, channel, conversation] = effect.conversation.split(" ") as [string, string, string];
  const shard = shardOf(conversationKey({ bot, channel, conversation }), history.shards);
  return { ...effect, by: history.acquisitions.findLast((each) => each.shard === shard)!.by };
}

const rulesOf = (corrupted: SimulatedHistory): Set<Rule> => new Set(judge(corrupted).map(({ rule }) => rule));

function withState(change: (state: { n: number; h: string; seen: string[] }) => void): SimulatedHistory {
  const records = history.final.records.map((record) => {
    if (record.conversation !== name) return record;
    const state = JSON.parse(record.stateJson) as { n: number; h: string; seen: string[] };
    change(state);
    return { ...record, stateJson: JSON.stringify(state) };
  });
  return { ...history, final: { ...history.final, records } };
}

const withTranscripts = (change: (lines: readonly string[]) => readonly string[]): SimulatedHistory => ({
  ...history,
  final: {
    ...history.final,
    transcripts: history.final.transcripts.map((each) => ({ ...each, lines: change(each.lines) })),
  },
});

const withLog = (change: (event: StoreEvent) => StoreEvent): SimulatedHistory => ({
  ...history,
  log: { ...history.log, events: history.log.events.map(change) },
});

const isRecord = (event: StoreEvent): event is CommittedTurns & { record: object } =>
  event.kind === "committed" && typeof event.record === "object" && event.record !== null;

const withDeliveries = (deliveries: readonly ReceivedDelivery[]): SimulatedHistory => ({ ...history, deliveries });

const mapDelivery = (
  of: ReceivedDelivery,
  change: (delivery: ReceivedDelivery) => ReceivedDelivery,
): SimulatedHistory =>
  withDeliveries(history.deliveries.map((delivery) => (delivery === of ? change(delivery) : delivery)));

const corruptions: readonly [what: string, rule: Rule, corrupt: () => SimulatedHistory][] = [
  [
    "an acknowledged message that no turn consumed",
    "lost",
    () =>
      withState(
        ({ seen }) =>
          void seen.splice(
            seen.findLastIndex((entry) => entry.startsWith("m")),
            1,
          ),
      ),
  ],
  [
    "an acknowledged message of a conversation without a record",
    "lost",
    () => ({
      ...history,
      requests: [...history.requests, { conversation: "gone c", ids: ["m1"], firstSentAt: 1, ackedAt: 2 }],
      messages: [...history.messages, { conversation: "gone c", id: "m1", text: "" }],
    }),
  ],
  ["an entry that is left in the inbox", "stuck", () => ({ ...history, final: { ...history.final, inboxEntries: 1 } })],
  [
    "a reply that never arrived",
    "stuck",
    () => withDeliveries(history.deliveries.filter(({ key }) => key !== replies.at(-1)!.key)),
  ],
  [
    "a reply that is still in the outbox",
    "stuck",
    () => ({ ...history, final: { ...history.final, undelivered: [{ conversation: name, sequence: 1 }] } }),
  ],
  [
    "a lane that still waits for a retry",
    "stuck",
    () => ({ ...history, final: { ...history.final, retryingLanes: [{ conversation: name, sequence: 1 }] } }),
  ],
  [
    "a dead letter that no commit wrote",
    "phantom",
    () => ({
      ...history,
      final: { ...history.final, dead: [...history.final.dead, { conversation: name, sequence: 1 }] },
    }),
  ],
  ["a message consumed twice", "doubled", () => withState(({ seen }) => void seen.push(seen[0]!))],
  ["a message that nobody sent", "phantom", () => withState(({ seen }) => void seen.push("m-1"))],
  [
    "messages consumed in another order than they were sent and acknowledged in",
    "order",
    () => withState(({ seen }) => void seen.reverse()),
  ],
  [
    "two messages of one request the other way round",
    "order",
    () => ({
      ...history,
      requests: history.requests.map((request) =>
        request.conversation === name ? { ...request, ids: [...request.ids].reverse() } : request,
      ),
    }),
  ],
  ["a reply before its commit", "early", () => mapDelivery(replies[0]!, (delivery) => ({ ...delivery, at: 0 }))],
  [
    "a reply before the one before it",
    "delivery",
    () => mapDelivery(replies[2]!, (delivery) => ({ ...delivery, at: replies[1]!.at - 1 })),
  ],
  [
    "a key with two bodies",
    "bytes",
    () => withDeliveries([...history.deliveries, { ...replies[0]!, body: `${replies[0]!.body} ` }]),
  ],
  [
    "a reply under two keys",
    "bytes",
    () => withDeliveries([...history.deliveries, { ...replies[0]!, key: `${replies[0]!.key}0` }]),
  ],
  [
    "a reply that its turn did not make",
    "reply",
    () => mapDelivery(replies[1]!, (delivery) => ({ ...delivery, body: replies[2]!.body })),
  ],
  [
    "a reply beyond the last one",
    "reply",
    () => withDeliveries([...history.deliveries, { ...replies.at(-1)!, sequence: 10_000, key: "k" }]),
  ],
  ["a line that a transcript lost", "transcript", () => withTranscripts((lines) => lines.slice(1))],
  [
    "a line that stands in a transcript twice",
    "transcript",
    () => withTranscripts((lines) => [...lines, lines.at(-1)!]),
  ],
  [
    "a state that is not the fold",
    "state",
    () => withState((state) => void Object.assign(state, { h: `${state.h}0` })),
  ],
  ["a state that has forgotten a turn", "state", () => withState(({ seen }) => void seen.shift())],
  [
    "a chain that is not that of its turns",
    "state",
    () =>
      withLog((event) =>
        isRecord(event) ? { ...event, record: { ...event.record, chain: { lo: 1, hi: 1 } } } : event,
      ),
  ],
  [
    "a record that is gone",
    "state",
    () => ({
      ...history,
      final: { ...history.final, records: history.final.records.filter(({ conversation }) => conversation !== name) },
    }),
  ],
  [
    "a commit that went back to an earlier state",
    "state",
    () => {
      const early = history.commits.find(({ records }) => records.some(({ conversation }) => conversation === name))!;
      return { ...history, commits: [...history.commits, { ...early, at: 1e9 }] };
    },
  ],
  [
    "a commit under an epoch that is over",
    "fence",
    () => ({ ...history, commits: [...history.commits, { ...history.commits[0]!, at: 1e9, epoch: 0, records: [] }] }),
  ],
  [
    "a commit by another than the owner",
    "fence",
    () => ({ ...history, commits: history.commits.map((commit, i) => (i === 3 ? { ...commit, by: "x9" } : commit)) }),
  ],
  [
    "a commit that is missing",
    "fence",
    () => {
      const { shard, epoch, n } = history.commits.findLast((commit) => commit.n > 1)!;
      const isMissing = (commit: AppliedCommit): boolean =>
        commit.shard === shard && commit.epoch === epoch && commit.n === n - 1;
      return { ...history, commits: history.commits.filter((commit) => !isMissing(commit)) };
    },
  ],
  [
    "an epoch that was taken twice",
    "fence",
    () => ({ ...history, acquisitions: [...history.acquisitions, { ...history.acquisitions[0]!, at: 1e9 }] }),
  ],
  [
    "a shard that goes to and fro without a fault",
    "duel",
    () => {
      const from = 1 + Math.max(...history.acquisitions.map(({ epoch }) => epoch));
      const more = Array.from({ length: 9 }, (_, i) => ({ at: 1e9 + i, shard: 0, epoch: from + i, by: `x${i}` }));
      return { ...history, acquisitions: [...history.acquisitions, ...more] };
    },
  ],
  [
    "a side effect that was made again by the owner that had made it",
    "effect",
    () => ({ ...history, effects: [...history.effects, { ...ownEffect(), number: 9_999 }] }),
  ],
  [
    "a side effect that was made again when its result was journaled",
    "effect",
    () => ({
      ...history,
      effects: [...history.effects, { ...journaledEffect(), number: 9_999, begunAt: 1e8, at: 1e9 }],
    }),
  ],
  [
    "two side effects under one key",
    "effect",
    () => {
      const [first, second] = history.effects.filter(({ step }) => step === 0);
      const effects = history.effects.map((effect) => (effect === second ? { ...effect, key: first!.key } : effect));
      return { ...history, effects };
    },
  ],
  [
    "a turn that goes by a result that no step had",
    "effect",
    () => {
      const used = history.final.records.flatMap(({ stateJson }) =>
        [...stateJson.matchAll(/=(\d+)/g)].map(([, n]) => Number(n)),
      );
      return { ...history, effects: history.effects.filter(({ number }) => number !== used[0]) };
    },
  ],
  ["a send that never came", "lost", () => ({ ...history, sends: history.sends.slice(1) })],
  ["a send that came twice", "doubled", () => ({ ...history, sends: [...history.sends, history.sends[0]!] })],
  [
    "a send of a turn that never was",
    "phantom",
    () => ({ ...history, sends: [...history.sends, { ...history.sends[0]!, text: "send 1 of nobody" }] }),
  ],
  ["sends that came in another order", "order", () => ({ ...history, sends: history.sends.toReversed() })],
  [
    "a message that left its waiting list undecided, says the store's log",
    "lost",
    () => {
      let hasLeft = false;
      return withLog((event) => {
        if (hasLeft || event.kind !== "committed" || !event.aside || event.aside.listed.length === 0) return event;
        hasLeft = true;
        const unlisted = [...event.aside.unlisted, ...event.aside.listed.map(({ id }) => id)];
        return { ...event, aside: { ...event.aside, unlisted } };
      });
    },
  ],
  ["an alarm of the runtime", "alarm", () => ({ ...history, alarms: ["a shard halted"] })],
];

describe("of a run that kept the promise", () => {
  test("the history is sound", () => {
    expect(formatViolations(judge(history))).toBe("");
    expect(replies.length).toBeGreaterThanOrEqual(3);
    expect(history.commits.length).toBeGreaterThan(3);
    expect(history.final.transcripts.length).toBeGreaterThan(0);
  });

  test.each(corruptions)("%s is found as %s", (_what, rule, corrupt) => {
    expect(rulesOf(corrupt())).toContain(rule);
  });

  test("a reply that a commit set aside need not arrive, and one that waits at a halted lane may wait", () => {
    const last = replies.at(-1)!;
    const arrived = history.deliveries.filter(({ key }) => key !== last.key);
    const { sequence } = last;
    const commit = history.commits.at(-1)!;
    const dead = { ...commit, at: 1e9, n: commit.n + 1, records: [], dead: [{ conversation: name, sequence }] };
    const setAside = { ...history.final, dead: [...history.final.dead, { conversation: name, sequence }] };
    const commits = [...history.commits, dead];
    expect(rulesOf({ ...history, deliveries: arrived, commits, final: setAside })).toEqual(new Set());
    expect(rulesOf({ ...history, deliveries: arrived, commits })).toEqual(new Set(["lost"]));
    const waiting = [{ conversation: name, sequence }];
    const halted = { ...history.final, undelivered: waiting, haltedLanes: waiting };
    expect(rulesOf({ ...history, deliveries: arrived, final: halted })).toEqual(new Set());
  });
});
