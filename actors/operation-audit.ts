// Operation audit: the line of the log about each request of an operator (O4 of operations.ts).

import type { OperationReport, OperationRequest } from "../src/admin/operator.ts";
import { whereText } from "../src/admin/where.ts";
import { describeError, type Log } from "../src/log.ts";

/** Runs what was asked and says what came of it; one that fails half-way is a line, too. */
export async function audited<Done, Target, Place>(
  log: Log,
  verb: string,
  request: OperationRequest<unknown, unknown>,
  run: () => Promise<OperationReport<Done, Target, Place>>,
): Promise<OperationReport<Done, Target, Place>> {
  const { selection, dryRun, by } = request;
  const meant =
    selection.kind === "where" ? { where: whereText(selection.where) || "all" } : { named: selection.targets.length };
  const fields = { verb, by, ...meant, dryRun };
  try {
    const report = await run();
    const counts = { asked: report.done.length, refused: report.refused.length, hasMore: report.next !== null };
    if (dryRun) log.debug({ ...fields, ...counts }, "an operator asked what a verb would do");
    else log.info({ ...fields, ...counts }, "an operator's verb");
    return report;
  } catch (error) {
    log.warn(
      { ...fields, error: describeError(error) },
      "an operator's verb ended early: some of it may have been done; the same can be asked again, twice changes nothing",
    );
    throw error;
  }
}
