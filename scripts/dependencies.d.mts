export interface LockEntry {
  readonly version?: string;
  readonly license?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
}

export type LockPackages = Readonly<Record<string, LockEntry>>;

export interface DependencyReport {
  /** The whole of docs/dependencies.md. */
  readonly page: string;
  /** Places in the lock of what is beyond the foundation. */
  readonly further: readonly string[];
  readonly missingReasons: readonly string[];
  readonly staleReasons: readonly string[];
}

export const FOUNDATION: readonly string[];
export const FURTHER_MAX: number;
export function closureOf(packages: LockPackages, names: readonly string[]): Set<string>;
export function dependencyReport(
  manifest: { readonly dependencies: Readonly<Record<string, string>> },
  lock: { readonly packages: LockPackages },
): DependencyReport;
