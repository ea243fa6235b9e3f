// Doctor command: looks, judges, prints. What is found stands in the output; the exit code is the worst of it.

import { type ConfigFlags, resolveConfig } from "../../config.ts";
import { systemEnvironment } from "../../environment.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Terminal } from "../terminal.ts";
import { type Check, type DoctorFacts, doctorText, findings } from "./findings.ts";
import { lookAround } from "./look.ts";

export interface DoctorFlags extends ConfigFlags {
  readonly json?: boolean;
}

/** @throws ConfigError for settings that cannot be used: then there is nothing to look at */
export async function doctor({ json, ...flags }: DoctorFlags, terminal: Terminal): Promise<ExitCode> {
  const config = resolveConfig({}, terminal.environment, flags);
  const facts = await lookAround(config, systemEnvironment);
  const checks = findings(facts);
  const code = doctorExitCode(facts, checks);
  terminal.stdout.write(json ? `${JSON.stringify({ ok: code === EXIT.ok, checks })}\n` : doctorText(checks));
  return code;
}

/** A store that cannot be reached outweighs every other failure; warnings count as well. Pure. */
export function doctorExitCode({ redis }: Pick<DoctorFacts, "redis">, checks: readonly Check[]): ExitCode {
  if (redis.kind === "silent" || redis.kind === "refuses") return EXIT.store;
  return checks.some(({ status }) => status === "fail") ? EXIT.failed : EXIT.ok;
}
