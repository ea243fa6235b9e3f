// Terminal: what the command line knows of the process it runs in.

import type { EnvironmentVariables } from "../config.ts";

export interface TextStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export interface Terminal {
  /** Without node and the script. */
  readonly argv: readonly string[];
  readonly environment: EnvironmentVariables;
  readonly stdin: NodeJS.ReadableStream & { readonly isTTY?: boolean };
  readonly stdout: TextStream;
  readonly stderr: TextStream;
}
