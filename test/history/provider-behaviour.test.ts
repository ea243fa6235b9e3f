import { test as property } from "@fast-check/vitest";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { idempotencyKey } from "../../src/domain/ids.ts";
import {
  type Behaviour,
  isAccepting,
  TREATMENTS,
  type Treatment,
  treat,
  WELL_BEHAVED,
} from "../system/support/provider-behaviour.ts";
import { parseReplyKey, stableName } from "../system/support/provider-log.ts";

const HARSH: Behaviour = {
  shares: { slow: 0.1, "429": 0.1, "500": 0.1, "503": 0.1, "reset-unread": 0.1, "reset-taken": 0.1, hang: 0.1 },
  refusesFirst: 0,
  faultsMax: 4,
  answerMsMax: 20,
  slowMsMin: 100,
  slowMsMax: 300,
  retryAfterS: 2,
};

const seeds = fc.nat();
const attempts = fc.integer({ min: 1, max: 10 });

describe("how an attempt is treated", () => {
  property.prop([seeds, fc.string(), attempts])(
    "follows from seed, reply and attempt alone",
    (seed, reply, attempt) => {
      expect(treat(seed, HARSH, reply, attempt)).toEqual(treat(seed, HARSH, reply, attempt));
    },
  );

  property.prop([seeds, fc.string(), attempts])("is well after so many faults", (seed, reply, more) => {
    expect(treat(seed, HARSH, reply, HARSH.faultsMax + more).treatment).toBe("ok");
    expect(treat(seed, WELL_BEHAVED, reply, more)).toEqual({ treatment: "ok", afterMs: 0, retryAfterS: null });
  });

  property.prop([seeds, fc.string(), attempts])(
    "is a refusal as often as asked for, then not by that",
    (seed, reply, n) => {
      const behaviour = { ...HARSH, shares: {}, refusesFirst: 3 };
      expect(treat(seed, behaviour, reply, n).treatment).toBe(n <= 3 ? "503" : "ok");
    },
  );

  property.prop([seeds, fc.string(), attempts])(
    "keeps its times, and tells when to come again",
    (seed, reply, attempt) => {
      const { treatment, afterMs, retryAfterS } = treat(seed, HARSH, reply, attempt);
      const isSlow = treatment === "slow";
      expect(afterMs).toBeGreaterThanOrEqual(isSlow ? HARSH.slowMsMin : 0);
      expect(afterMs).toBeLessThanOrEqual(isSlow ? HARSH.slowMsMax : HARSH.answerMsMax);
      if (treatment === "429") expect(retryAfterS).toBe(2);
      else if (treatment !== "503") expect(retryAfterS).toBeNull();
    },
  );

  test("comes in the shares that were asked for, and differs from attempt to attempt and from seed to seed", () => {
    const counts = new Map<Treatment, number>();
    let changes = 0;
    for (let i = 0; i < 20_000; i += 1) {
      const { treatment } = treat(7, HARSH, `fold/http/c${i} 1`, 1);
      counts.set(treatment, (counts.get(treatment) ?? 0) + 1);
      if (treat(7, HARSH, `fold/http/c${i} 1`, 2).treatment !== treatment) changes += 1;
    }
    for (const treatment of TREATMENTS) {
      const wanted = 20_000 * (treatment === "ok" ? 0.3 : 0.1);
      expect(Math.abs(counts.get(treatment)! - wanted), treatment).toBeLessThan(250);
    }
    expect(changes).toBeGreaterThan(10_000);
    const ofSeed = (seed: number) => Array.from({ length: 50 }, (_, i) => treat(seed, HARSH, `r${i}`, 1).treatment);
    expect(ofSeed(1)).not.toEqual(ofSeed(2));
  });

  test("accepts what it took, whether or not it says so", () => {
    expect(TREATMENTS.filter(isAccepting)).toEqual(["ok", "slow", "reset-taken", "hang"]);
  });
});

describe("a reply's key", () => {
  const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 });

  property.prop([text, fc.integer({ min: 1, max: 1e9 })])(
    "is read back, with and without a part",
    (conversation, n) => {
      const id = { bot: "fold", channel: "http", conversation };
      const key = idempotencyKey(id, "mwt8ogll-0-0", n);
      expect(parseReplyKey(key)).toEqual({ ...id, born: "mwt8ogll-0-0", sequence: n, part: null });
      expect(parseReplyKey(`${key}.2`)).toEqual({ ...id, born: "mwt8ogll-0-0", sequence: n, part: 2 });
    },
  );

  test("names its reply the same in each run", () => {
    const named = (born: string) => stableName(parseReplyKey(`fold~http~a%20b~${born}.3`)!);
    expect(named("x-0-0")).toBe("fold/http/a b 3");
    expect(named("y-1-2")).toBe(named("x-0-0"));
  });

  test.each(["", "undefined", "a~b~c", "a~b~c~d", "a~b~c~d.0", "a~b~c~d.1.0", "a~b~c~d.1~e", "a~b~%~d.1"])(
    "that is none is told: %j",
    (key) => expect(parseReplyKey(key)).toBeUndefined(),
  );
});
