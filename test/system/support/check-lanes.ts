// Lane checker: decides from what a provider logged, and from what was done to the runtime meanwhile, whether the lanes kept
// their promise. Pure: it knows of the runtime what docs/channels.md says of deliveries, and trusts the provider's log alone.
// O(n) in the number of attempts, times the kills. Replies are of one part.
//
// Rules
//   key          two replies share a key, or a reply came under two
//   bytes        one key came with two bodies
//   gap          a sequence number of a conversation is missing below its highest
//   undelivered  a reply was never answered 2xx
//   order        a reply was attempted before the one before it had been answered 2xx
//   overlap      two attempts of one conversation were under way at once
//   too-early    an attempt came sooner than the Retry-After before it allows
//   duplicate    a reply was accepted again, and nothing explains it
//   surplus      more replies were accepted again than there were answers that could be missed
//
// What may explain a second acceptance, and is told with it
//   ambiguous       the provider took the attempt before, and its sender could not know: cut, hung, answered too late
//   unacknowledged  it was taken, and no acknowledgement of it was on disk when the runtime was killed

import type { ProviderAttempt } from "./provider-log.ts";

/** One end of the runtime by force. */
export interface RuntimeKill {
  readonly atUs: number;
  /** From when the next runtime can have sent something. */
  readonly restartedUs: number;
  /** Keys of the replies that were committed, and whose acknowledgement was not. */
  readonly unacknowledged: ReadonlySet<string>;
}

/** A while in which the runtime stood still: answers given to it were read too late. */
export interface RuntimeStop {
  readonly fromUs: number;
  readonly toUs: number;
}

export interface LaneHistory {
  /** In the order of their coming. */
  readonly attempts: readonly ProviderAttempt[];
  readonly kills: readonly RuntimeKill[];
  readonly stops: readonly RuntimeStop[];
  /** An answer that came later than this may have been missed, us. */
  readonly lateUs: number;
}

export const LANE_RULES = [
  "key",
  "bytes",
  "gap",
  "undelivered",
  "order",
  "overlap",
  "too-early",
  "duplicate",
  "surplus",
] as const;
export type LaneRule = (typeof LANE_RULES)[number];

export interface LaneViolation {
  readonly rule: LaneRule;
  readonly detail: string;
  /** The fewest attempts that show it. */
  readonly slice: readonly ProviderAttempt[];
}

/** A reply that was accepted again. */
export interface Duplicate {
  /** `<conversation> <sequence>` */
  readonly reply: string;
  readonly cause: string;
  readonly firstUs: number;
  readonly againUs: number;
}

export interface LaneReport {
  readonly violations: readonly LaneViolation[];
  readonly duplicates: readonly Duplicate[];
  readonly replies: number;
  readonly attempts: number;
  /** Attempts of which the sender could not know how they ended. */
  readonly ambiguous: number;
  /** Replies that were accepted, and not acknowledged at a kill. */
  readonly unacknowledged: number;
}

/** Of clocks that count whole ms. */
const CLOCK_SLACK_US = 2_000;

export function checkLanes(history: LaneHistory): LaneReport {
  const lanes = new Map<string, Lane>();
  for (const attempt of history.attempts) {
    const name = `${attempt.bot}/${attempt.channel}/${attempt.conversation}`;
    const lane: Lane = lanes.get(name) ?? { name, attempts: [], replies: new Map() };
    lanes.set(name, lane);
    lane.attempts.push(attempt);
    const reply = lane.replies.get(attempt.sequence);
    if (reply) reply.push(attempt);
    else lane.replies.set(attempt.sequence, [attempt]);
  }
  const violations: LaneViolation[] = sharedKeys(history.attempts);
  const duplicates: Duplicate[] = [];
  let replies = 0;
  for (const lane of lanes.values()) {
    replies += lane.replies.size;
    for (const rule of PER_LANE) violations.push(...rule(lane, history));
    for (const attempts of lane.replies.values()) {
      for (const rule of PER_REPLY) violations.push(...rule(attempts, history));
      for (const found of acceptedAgain(attempts, history)) {
        if ("rule" in found) violations.push(found);
        else duplicates.push(found);
      }
    }
  }
  const ambiguous = history.attempts.filter((attempt) => whyAmbiguous(attempt, history) !== null).length;
  const unacknowledged = history.kills.reduce((sum, kill) => sum + acceptedAndOpen(kill, history.attempts), 0);
  const again = duplicates.length + violations.filter(({ rule }) => rule === "duplicate").length;
  if (again > ambiguous + unacknowledged) {
    const detail = `${again} replies were accepted again; ${ambiguous} answers were ambiguous and ${unacknowledged} acknowledgements were open at kills`;
    violations.push({ rule: "surplus", detail, slice: [] });
  }
  const attempts = history.attempts.length;
  return { violations, duplicates, replies, attempts, ambiguous, unacknowledged };
}

/** The report as a test prints it. */
export function formatLanes(report: LaneReport, shown = 5): string {
  const { violations, duplicates, replies, attempts, ambiguous, unacknowledged } = report;
  const figures = `${replies} replies, ${attempts} attempts, ${ambiguous} ambiguous, ${unacknowledged} accepted and unacknowledged at kills, ${duplicates.length} accepted again`;
  const again = [...byCause(duplicates)].map(([cause, names]) => `  accepted again, ${cause}: ${names.join(", ")}`);
  const broken = violations.slice(0, shown).flatMap(({ rule, detail, slice }) => {
    return [
      `${rule}: ${detail}`,
      ...slice.slice(0, 6).map((attempt) => `    ${JSON.stringify(attempt).slice(0, 400)}`),
    ];
  });
  return [figures, ...again, `${violations.length} violations`, ...broken].join("\n");
}

/** Which replies were accepted again, `<conversation> <sequence> after <ms>`, by cause. */
function byCause(duplicates: readonly Duplicate[]): Map<string, string[]> {
  const causes = new Map<string, string[]>();
  for (const { cause, reply, firstUs, againUs } of duplicates) {
    const name = `${reply} after ${((againUs - firstUs) / 1_000).toFixed(0)} ms`;
    const names = causes.get(cause);
    if (names) names.push(name);
    else causes.set(cause, [name]);
  }
  return causes;
}

interface Lane {
  readonly name: string;
  /** In the order of their coming, as are those of each reply. */
  readonly attempts: ProviderAttempt[];
  readonly replies: Map<number, ProviderAttempt[]>;
}

type LaneCheck = (lane: Lane, history: LaneHistory) => Iterable<LaneViolation>;
type ReplyCheck = (attempts: readonly ProviderAttempt[], history: LaneHistory) => Iterable<LaneViolation>;

const PER_LANE: readonly LaneCheck[] = [noGap, inOrder, oneAtATime];
const PER_REPLY: readonly ReplyCheck[] = [oneKey, sameBytes, delivered, notTooEarly];

const is2xx = ({ status }: ProviderAttempt): boolean => status >= 200 && status < 300;

function sharedKeys(attempts: readonly ProviderAttempt[]): LaneViolation[] {
  const owners = new Map<string, ProviderAttempt>();
  const found: LaneViolation[] = [];
  for (const attempt of attempts) {
    const owner = owners.get(attempt.key);
    if (!owner) owners.set(attempt.key, attempt);
    else if (owner.conversation !== attempt.conversation || owner.sequence !== attempt.sequence) {
      const detail = `two replies share the key ${attempt.key}`;
      found.push({ rule: "key", detail, slice: [owner, attempt] });
    }
  }
  return found;
}

function* noGap({ name, replies }: Lane): Iterable<LaneViolation> {
  const highest = Math.max(...replies.keys());
  for (let sequence = 1; sequence < highest; sequence += 1) {
    if (replies.has(sequence)) continue;
    yield { rule: "gap", detail: `${name}: reply ${highest} came, reply ${sequence} never did`, slice: [] };
  }
}

function* inOrder({ name, replies }: Lane): Iterable<LaneViolation> {
  for (const [sequence, attempts] of replies) {
    const before = replies.get(sequence - 1);
    const first = attempts[0]!;
    if (!before || before.some((attempt) => is2xx(attempt) && attempt.answeredUs <= first.receivedUs)) continue;
    const detail = `${name}: reply ${sequence} was attempted before reply ${sequence - 1} had been delivered`;
    yield { rule: "order", detail, slice: [...before, first] };
  }
}

/** Of an attempt that nobody waits for any more, the provider may see the end late. */
function* oneAtATime({ name, attempts }: Lane, history: LaneHistory): Iterable<LaneViolation> {
  for (let i = 1; i < attempts.length; i += 1) {
    const [former, next] = [attempts[i - 1]!, attempts[i]!];
    if (former.answeredUs <= next.receivedUs || whyAmbiguous(former, history) !== null) continue;
    if (history.kills.some((kill) => isBetween(kill, former, next))) continue;
    yield { rule: "overlap", detail: `${name}: two attempts were under way at once`, slice: [former, next] };
  }
}

function* oneKey(attempts: readonly ProviderAttempt[]): Iterable<LaneViolation> {
  const first = attempts[0]!;
  const other = attempts.find(({ key }) => key !== first.key);
  if (other) yield { rule: "key", detail: `a reply came as ${first.key} and as ${other.key}`, slice: [first, other] };
}

function* sameBytes(attempts: readonly ProviderAttempt[]): Iterable<LaneViolation> {
  const whole = attempts.filter(({ bodyHash }) => bodyHash !== null);
  const other = whole.find(({ bodyHash }) => bodyHash !== whole[0]!.bodyHash);
  if (other) yield { rule: "bytes", detail: `${other.key} came with two bodies`, slice: [whole[0]!, other] };
}

function* delivered(attempts: readonly ProviderAttempt[]): Iterable<LaneViolation> {
  if (attempts.some(is2xx)) return;
  yield { rule: "undelivered", detail: `${attempts[0]!.key} was never answered 2xx`, slice: attempts.slice(-2) };
}

/** After a kill the runtime may not know what it had been told. */
function* notTooEarly(attempts: readonly ProviderAttempt[], { kills }: LaneHistory): Iterable<LaneViolation> {
  for (let i = 1; i < attempts.length; i += 1) {
    const [former, next] = [attempts[i - 1]!, attempts[i]!];
    if (former.retryAfterS === null || kills.some((kill) => isBetween(kill, former, next))) continue;
    const waitedUs = next.receivedUs - former.answeredUs;
    if (waitedUs + CLOCK_SLACK_US >= former.retryAfterS * 1_000_000) continue;
    const detail = `${next.key} came again after ${(waitedUs / 1_000).toFixed(0)} ms, asked for ${former.retryAfterS} s`;
    yield { rule: "too-early", detail, slice: [former, next] };
  }
}

function* acceptedAgain(
  attempts: readonly ProviderAttempt[],
  history: LaneHistory,
): Iterable<Duplicate | LaneViolation> {
  const accepted = attempts.filter(({ isAccepted, isRedriven }) => isAccepted && !isRedriven);
  for (let i = 1; i < accepted.length; i += 1) {
    const [former, next] = [accepted[i - 1]!, accepted[i]!];
    const cause = whyAgain(former, next, history);
    const reply = `${next.conversation} ${next.sequence}`;
    if (cause !== null) yield { reply, cause, firstUs: former.receivedUs, againUs: next.receivedUs };
    else yield { rule: "duplicate", detail: `${next.key} was accepted again without a cause`, slice: [former, next] };
  }
}

function whyAgain(former: ProviderAttempt, next: ProviderAttempt, history: LaneHistory): string | null {
  const kill = history.kills.findIndex((each) => isBetween(each, former, next) && each.unacknowledged.has(next.key));
  if (kill >= 0) return `unacknowledged at runtime kill ${kill + 1} (${former.status || "no answer"})`;
  const why = whyAmbiguous(former, history);
  return why === null ? null : `ambiguous (${why})`;
}

/** Why its sender could not know how it ended; null if it could. */
function whyAmbiguous(attempt: ProviderAttempt, { stops, lateUs }: LaneHistory): string | null {
  const { gave, receivedUs, answeredUs } = attempt;
  if (gave === "reset-unread" || gave === "reset-taken" || gave === "hang" || gave === "cut off") return gave;
  if (answeredUs - receivedUs > lateUs) return `answered after ${((answeredUs - receivedUs) / 1_000).toFixed(0)} ms`;
  const isStopped = stops.some(({ fromUs, toUs }) => receivedUs <= toUs && answeredUs >= fromUs);
  return isStopped ? "the runtime stood still" : null;
}

/** Whether the first may be from before the kill, and the second from after it. What was sent may be received later. */
function isBetween(kill: RuntimeKill, former: ProviderAttempt, next: ProviderAttempt): boolean {
  return former.receivedUs <= kill.restartedUs && next.receivedUs >= kill.atUs;
}

function acceptedAndOpen(kill: RuntimeKill, attempts: readonly ProviderAttempt[]): number {
  const keys = attempts.filter(({ isAccepted, receivedUs }) => isAccepted && receivedUs <= kill.restartedUs);
  return new Set(keys.map(({ key }) => key).filter((key) => kill.unacknowledged.has(key))).size;
}
