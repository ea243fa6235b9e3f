// Verify command: reads a folder, prints the verdicts. What is wrong with the folder is one line on stderr and exit code 2.

import { ConfigError, VerifyInputError } from "../../errors.ts";
import { type VerifyReport, verifyFolder } from "../../verify/verify-folder.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import type { Terminal } from "../terminal.ts";
import { verifyText } from "./verify-text.ts";

export interface VerifyFlags {
  readonly fold?: boolean;
  readonly incomplete?: boolean;
  readonly dedupe: string;
  readonly contiguous?: boolean;
  readonly json?: boolean;
}

/** What `dedupeMax` is by default; a bot cannot set it lower. */
const DEDUPE_MAX = 4_096;
const MINUTE_MS = 60_000;

/** @throws ConfigError for a flag that cannot be used */
export async function verify(folder: string, flags: VerifyFlags, terminal: Terminal): Promise<ExitCode> {
  const minutes = Number(flags.dedupe);
  if (flags.dedupe.trim() === "" || !Number.isFinite(minutes) || minutes < 0) {
    throw new ConfigError("dedupe", `${JSON.stringify(flags.dedupe)} is no number of minutes`);
  }
  const { stderr } = terminal;
  const tell = (stage: string, done: number, of: number): void => {
    stderr.write(`\r\u001b[K${stage} ${Math.floor((100 * done) / Math.max(1, of))} %`);
  };
  let report: VerifyReport;
  try {
    report = verifyFolder(folder, {
      fold: flags.fold === true,
      complete: flags.incomplete !== true,
      dedupeMs: minutes * MINUTE_MS,
      dedupeMax: DEDUPE_MAX,
      contiguous: flags.contiguous === true,
      ...(stderr.isTTY ? { onProgress: tell } : {}),
    });
  } catch (error) {
    if (!(error instanceof VerifyInputError)) throw error;
    stderr.write(`${stderr.isTTY ? "\r\u001b[K" : ""}colloquy: ${error.message.replaceAll(/\p{Cc}/gu, "?")}\n`);
    return EXIT.usage;
  }
  if (stderr.isTTY) stderr.write("\r\u001b[K");
  terminal.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : verifyText(report));
  return report.ok ? EXIT.ok : EXIT.failed;
}
