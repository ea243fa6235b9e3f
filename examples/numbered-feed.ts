// Numbered feed: the goals of a match, which their source numbers from 1. They count in the order of the numbers,
// whatever the order they come in; what is missing for too long is said, and not waited for. docs/order.md walks
// through it.
//
//   colloquy start numbered-feed.ts --order contiguous --first-sequence 1

import { defineBot } from "colloquy";

export interface Score {
  readonly home: number;
  readonly away: number;
  /** Goals that did not come, so far. */
  readonly missing: number;
}

export default defineBot<Score>({
  name: "numbered-feed",
  version: 1,
  ordering: "available",
  initialState: () => ({ home: 0, away: 0, missing: 0 }),
  onMessage(score, { text, late }, ctx) {
    if (text !== "home" && text !== "away") return score;
    const next = { ...score, [text]: score[text] + 1, missing: score.missing - (late ? 1 : 0) };
    ctx.reply(`${next.home}:${next.away}${next.missing > 0 ? `, without ${next.missing} of the goals` : ""}`);
    return next;
  },
  onNotice: {
    gap(score, { from, to }, ctx) {
      ctx.reply(from === to ? `Goal ${from} did not come.` : `Goals ${from} to ${to} did not come.`);
      return { ...score, missing: score.missing + to - from + 1 };
    },
  },
});
