// Server address: which running colloquy a command of this machine talks to. Pure.

import { problem, shown } from "../config-problems.ts";

export interface AddressFlags {
  readonly url: string;
  /** Of a server on this machine; then `url` does not count. */
  readonly port?: string;
}

const PORT_MAX = 65_535;

/** @throws ConfigError with the flag's name as key */
export function serverAddress({ url, port }: AddressFlags): URL {
  if (port !== undefined) {
    const number = /^\d{1,5}$/.test(port) ? Number(port) : 0;
    if (number < 1 || number > PORT_MAX)
      throw problem("--port", `is ${shown(port)}, not a whole number from 1 to ${PORT_MAX}`, "default 4000");
    return new URL(`http://127.0.0.1:${number}`);
  }
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
    throw problem("--url", `is ${shown(url)}, not the address of a server`, "as http://127.0.0.1:4000");
  return new URL(url);
}
