// Trace: the language that Erlang's traces, the model and the code have in common. It knows nothing of either.

/** A worker is a line of words, a supervisor a list: its own line, then its children. */
export type TreeWords = string | readonly [string, ...TreeWords[]];

export interface Traits {
  readonly restart: "permanent" | "transient" | "temporary";
  readonly shutdown: number | "brutal_kill" | "infinity";
  readonly significant: boolean;
  /** Does not stop when it is asked to. */
  readonly stubborn: boolean;
}

export interface WorkerNode extends Traits {
  readonly kind: "worker";
  readonly id: string;
}

export interface SupNode extends Traits {
  readonly kind: "supervisor";
  readonly id: string;
  readonly strategy: "one_for_one" | "one_for_all" | "rest_for_one" | "simple_one_for_one";
  readonly intensity: number;
  readonly autoShutdown: "never" | "any_significant" | "all_significant";
  /** Of a simple_one_for_one supervisor: one, the template. */
  readonly children: readonly TreeNode[];
}

export type TreeNode = WorkerNode | SupNode;

/** How the next starts of a worker go; `hang` never settles. */
export type StartFailure = "error" | "ignore" | "hang";

export type Action =
  | { readonly kind: "exit"; readonly id: string; readonly reason: ExitWord }
  | { readonly kind: "fail_next"; readonly id: string; readonly times: number; readonly how: StartFailure }
  | { readonly kind: "start_new"; readonly node: TreeNode }
  /** Of a simple_one_for_one supervisor. */
  | { readonly kind: "start"; readonly id: string }
  | { readonly kind: "terminate" | "restart" | "delete"; readonly id: string }
  | { readonly kind: "which" | "count" }
  | { readonly kind: "wait"; readonly ms: number };

export type ExitWord = "normal" | "shutdown" | "shutdown_term" | "error" | "kill";

/** What a step led to. */
export interface Outcome {
  /** One for each action; empty for what has no answer. */
  readonly answers: readonly string[];
  /** `+id` started, `!id` failed to, `?id` ignored, `-id` ended, `~id` gone because a supervisor above it was killed. */
  readonly events: readonly string[];
  /** The whole tree as its supervisors list it: `over` when the root ended. */
  readonly shape: string;
}

/** Erlang's recordings, the model and the code are all driven in this way. */
export interface TraceSubject {
  start(tree: SupNode, periodMs: number, failing: readonly Extract<Action, { kind: "fail_next" }>[]): Promise<Outcome>;
  /** All actions reach the supervisor `on` before it handles the first. */
  step(on: string, actions: readonly Action[]): Promise<Outcome>;
  /** The parent of the root stops it. */
  end(): Promise<Outcome>;
}

export interface Trace {
  readonly seed: number;
  readonly periodMs: number;
  readonly tree: TreeWords;
  readonly failing: readonly string[];
  readonly start: string;
  readonly steps: readonly TraceStep[];
}

export interface TraceStep {
  readonly on?: string;
  readonly do?: readonly string[];
  readonly events: string;
  /** Only where it differs from the step before. */
  readonly after?: string;
}

export function parseNode(words: TreeWords): TreeNode {
  if (typeof words === "string") return parseWorker(words);
  const [line, ...children] = words;
  const [id, strategy, intensity, autoShutdown, ...traits] = line.split(" ");
  return {
    kind: "supervisor",
    id: id!,
    strategy: strategy as SupNode["strategy"],
    intensity: Number(intensity),
    autoShutdown: autoShutdown as SupNode["autoShutdown"],
    ...parseTraits(traits.length === 0 ? ["permanent", "infinity"] : traits),
    children: children.map(parseNode),
  };
}

function parseWorker(line: string): WorkerNode {
  const [id, ...traits] = line.split(" ");
  return { kind: "worker", id: id!, ...parseTraits(traits) };
}

function parseTraits([restart, shutdown, ...flags]: string[]): Traits {
  return {
    restart: restart as Traits["restart"],
    shutdown: shutdown === "brutal_kill" || shutdown === "infinity" ? shutdown : Number(shutdown),
    significant: flags.includes("significant"),
    stubborn: flags.includes("stubborn"),
  };
}

/** `exit w3 error`, or `which = w4 w3-` with the answer that was given. */
export function parseAction(text: string): { action: Action; answer: string } {
  const [what, answer = ""] = text.split(" = ") as [string, string?];
  const [kind, id, ...rest] = what.split(" ") as [Action["kind"], string, ...string[]];
  switch (kind) {
    case "exit":
      return { action: { kind, id, reason: rest[0] as ExitWord }, answer };
    case "fail_next":
      return { action: { kind, id, times: Number(rest[0]), how: rest[1] as StartFailure }, answer };
    case "start_new":
      return { action: { kind, node: parseNode(JSON.parse(what.slice("start_new ".length)) as TreeWords) }, answer };
    case "wait":
      return { action: { kind, ms: Number(id) }, answer };
    case "which":
    case "count":
      return { action: { kind }, answer };
    default:
      return { action: { kind, id }, answer: answer || (what.endsWith(" =") ? "" : answer) };
  }
}

/** The children of a simple_one_for_one supervisor end in no particular order: runs of them are sorted. */
export function normalOrder(events: readonly string[]): string[] {
  const ordered: string[] = [];
  for (let i = 0; i < events.length; ) {
    let end = i + 1;
    const family = familyOf(events[i]!);
    while (family !== null && end < events.length && familyOf(events[end]!) === family) end += 1;
    ordered.push(...events.slice(i, end).sort());
    i = end;
  }
  return ordered;
}

const familyOf = (event: string): string | null => /^-(\w+)\.d/.exec(event)?.[1] ?? null;
