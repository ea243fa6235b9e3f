import { describe, expect, test } from "vitest";
import { checkLanes, formatLanes, LANE_RULES, type LaneHistory, type LaneRule } from "../system/support/check-lanes.ts";
import { isAccepting, TREATMENTS, type Treatment } from "../system/support/provider-behaviour.ts";
import type { ProviderAttempt } from "../system/support/provider-log.ts";
import { seededRandom } from "../system/support/random.ts";

const MS = 1_000;
const keyOf = (conversation: string, sequence: number): string => `fold~http~${conversation}~b0.${sequence}`;

function statusOf(gave: Treatment): number {
  if (gave === "ok" || gave === "slow") return 200;
  return Number(gave) || 0;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

function attempt(sequence: number, atMs: number, gave: Treatment, more: Partial<ProviderAttempt> = {}) {
  const conversation = more.conversation ?? "c1";
  const isUnread = gave === "reset-unread";
  const made: Mutable<ProviderAttempt> = {
    kind: "request",
    account: "a",
    key: keyOf(conversation, sequence),
    attempt: 1,
    bot: "fold",
    channel: "http",
    conversation,
    sequence,
    bodyHash: isUnread ? null : `hash of ${sequence}`,
    bytes: 10,
    inReplyTo: `m${sequence}`,
    text: "",
    isRedriven: false,
    gave,
    isAccepted: isAccepting(gave),
    status: statusOf(gave),
    retryAfterS: gave === "429" ? 1 : null,
    receivedUs: atMs * MS,
    answeredUs: (atMs + 10) * MS,
    ...more,
  };
  return made;
}

type Mutated = {
  attempts: Mutable<ProviderAttempt>[];
  kills: LaneHistory["kills"][number][];
  stops: LaneHistory["stops"][number][];
  lateUs: number;
};

/** Two conversations that keep every rule: failures of each kind, a kill over an open acknowledgement. */
function kept(): Mutated {
  return {
    attempts: [
      attempt(1, 0, "ok"),
      attempt(1, 5, "ok", { conversation: "c2" }),
      attempt(2, 100, "503"),
      attempt(2, 400, "reset-taken"),
      attempt(2, 800, "ok"),
      attempt(3, 900, "429"),
      attempt(3, 2_000, "reset-unread"),
      attempt(3, 2_300, "hang", { answeredUs: 3_300 * MS }),
      attempt(3, 3_500, "ok"),
      attempt(4, 3_600, "ok"),
      // the runtime dies at 3,650 and is back at 4,000: what was not acknowledged comes again
      attempt(4, 4_100, "ok"),
      attempt(5, 4_200, "ok"),
    ],
    kills: [{ atUs: 3_650 * MS, restartedUs: 4_000 * MS, unacknowledged: new Set([keyOf("c1", 4)]) }],
    stops: [],
    lateUs: 500 * MS,
  };
}

const rulesOf = (history: LaneHistory): LaneRule[] => [
  ...new Set(checkLanes(history).violations.map(({ rule }) => rule)),
];

describe("a history that keeps every rule", () => {
  test("has no violation, and each reply that was accepted again is listed with its cause", () => {
    const report = checkLanes(kept());
    expect(report.violations).toEqual([]);
    expect(report).toMatchObject({ replies: 6, attempts: 12, ambiguous: 3, unacknowledged: 1 });
    expect(report.duplicates.map(({ reply, cause }) => [reply, cause])).toEqual([
      ["c1 2", "ambiguous (reset-taken)"],
      ["c1 3", "ambiguous (hang)"],
      ["c1 4", "unacknowledged at runtime kill 1 (200)"],
    ]);
    const text = formatLanes(report);
    for (const { reply, cause } of report.duplicates) expect(text).toContain(`${cause}: ${reply} after `);
  });

  test("an answer that came late, and one to a runtime that stood still, may be missed", () => {
    const late = { ...kept(), kills: [] as Mutated["kills"] };
    late.attempts = [attempt(1, 0, "slow", { answeredUs: 600 * MS }), attempt(1, 700, "ok")];
    expect(rulesOf(late)).toEqual([]);
    const stopped = { ...late, attempts: [attempt(1, 0, "ok"), attempt(1, 700, "ok")] };
    expect(rulesOf(stopped)).toEqual(["duplicate", "surplus"]);
    expect(rulesOf({ ...stopped, stops: [{ fromUs: 5 * MS, toUs: 600 * MS }] })).toEqual([]);
  });

  test("what an operator sent again is no duplicate", () => {
    const history = {
      ...kept(),
      kills: [],
      attempts: [attempt(1, 0, "ok"), attempt(1, 50, "ok", { isRedriven: true })],
    };
    expect(rulesOf(history)).toEqual([]);
  });

  test("200 seeds of lanes that obey what they are answered", () => {
    for (let seed = 0; seed < 200; seed += 1) {
      const report = checkLanes(obedient(seed));
      expect(report.violations, `seed ${seed}\n${formatLanes(report)}`).toEqual([]);
    }
  });
});

/** Lanes that do what they should, whatever a provider that draws its treatments gives them. */
function obedient(seed: number): LaneHistory {
  const random = seededRandom(seed, "obedient");
  const attempts: ProviderAttempt[] = [];
  for (const conversation of ["a", "b", "c"]) {
    let atMs = random.below(50);
    for (let sequence = 1; sequence <= 5; ) {
      const gave = random.pick(TREATMENTS);
      const made = attempt(sequence, atMs, gave, { conversation });
      if (gave === "hang") made.answeredUs = (atMs + 1_000) * MS;
      attempts.push(made);
      if (statusOf(gave) === 200) sequence += 1;
      atMs = made.answeredUs / MS + (gave === "429" ? 1_000 : 0) + random.below(20);
    }
  }
  attempts.sort((a, b) => a.receivedUs - b.receivedUs);
  return { attempts, kills: [], stops: [], lateUs: 500 * MS };
}

const CORRUPTIONS: readonly (readonly [
  what: string,
  rules: readonly LaneRule[],
  corrupt: (history: Mutated) => void,
])[] = [
  [
    "another key for the same reply",
    ["key"],
    ({ attempts }) => {
      attempts[3]!.key = keyOf("c1", 22);
    },
  ],
  [
    "the key of another conversation's reply",
    ["key"],
    ({ attempts }) => {
      attempts[1]!.key = keyOf("c1", 1);
    },
  ],
  [
    "other bytes at the second attempt",
    ["bytes"],
    ({ attempts }) => {
      attempts[4]!.bodyHash = "another";
    },
  ],
  [
    "a reply that never came",
    ["gap"],
    (history) => {
      history.attempts = history.attempts.filter(({ sequence }) => sequence !== 3);
    },
  ],
  [
    "a first reply that never came",
    ["gap"],
    (history) => {
      history.attempts = history.attempts.filter(({ sequence }) => sequence !== 1);
    },
  ],
  [
    "a last reply that nobody took",
    ["undelivered"],
    ({ attempts }) => {
      attempts.at(-1)!.status = 503;
    },
  ],
  [
    "a lane that goes on after a 503",
    ["undelivered", "order"],
    (history) => {
      history.attempts = history.attempts.filter((each) => each.sequence !== 2 || each.gave === "503");
    },
  ],
  [
    "a lane that takes a cut connection for a yes",
    ["undelivered", "order"],
    (history) => {
      history.attempts = history.attempts.filter((each) => each.sequence !== 2 || each.gave !== "ok");
    },
  ],
  [
    "a reply that overtakes the attempts before it",
    ["order"],
    (history) => {
      history.attempts.splice(2, 0, attempt(3, 50, "503"));
    },
  ],
  [
    "the next reply before the answer to the one before it",
    ["order", "overlap"],
    ({ attempts }) => {
      attempts[8]!.answeredUs = 3_605 * MS;
    },
  ],
  [
    "two attempts at one reply at once",
    ["overlap"],
    ({ attempts }) => {
      attempts[2]!.answeredUs = 450 * MS;
    },
  ],
  [
    "a Retry-After that is not waited for",
    ["too-early"],
    ({ attempts }) => {
      attempts[6]!.receivedUs = 1_900 * MS;
    },
  ],
  [
    "a reply accepted again after a clear yes",
    ["duplicate"],
    (history) => {
      history.attempts.splice(1, 0, attempt(1, 30, "ok"));
    },
  ],
  [
    "a reply accepted again over a kill, though it was acknowledged before",
    ["duplicate"],
    ({ kills }) => {
      kills[0] = { ...kills[0]!, unacknowledged: new Set() };
    },
  ],
  [
    "a reply accepted again before the kill that should explain it",
    ["duplicate"],
    ({ kills }) => {
      kills[0] = { ...kills[0]!, atUs: 4_150 * MS, restartedUs: 4_180 * MS };
    },
  ],
  [
    "more duplicates than answers that could be missed",
    ["duplicate", "surplus"],
    (history) => {
      history.kills = [];
      history.attempts = [0, 100, 200].map((atMs) => attempt(1, atMs, "ok"));
    },
  ],
];

describe("a corrupted history is caught", () => {
  test.each(CORRUPTIONS)("%s", (_what, rules, corrupt) => {
    const history = kept();
    corrupt(history);
    history.attempts.sort((a, b) => a.receivedUs - b.receivedUs);
    expect(rulesOf(history).toSorted()).toEqual([...rules].toSorted());
  });

  test("every rule has one", () => {
    const caught = new Set(CORRUPTIONS.flatMap(([, rules]) => rules));
    expect(LANE_RULES.filter((rule) => !caught.has(rule))).toEqual([]);
  });
});
