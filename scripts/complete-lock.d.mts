export interface LockEntry {
  readonly version?: string;
  readonly resolved?: string;
  readonly link?: boolean;
  readonly name?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}
export type LockPackages = Readonly<Record<string, LockEntry>>;
export interface Lock {
  readonly packages: LockPackages;
}
export function platformOf(name: string): Pick<LockEntry, "os" | "cpu" | "libc">;
export function resolveEntry(
  packages: LockPackages,
  from: string,
  name: string,
): { path: string; entry: LockEntry } | undefined;
export function completeLock(lock: Lock): { lock: Lock; added: string[]; unsolved: string[] };
