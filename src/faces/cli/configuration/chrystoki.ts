import { Failure } from '../failure.js';

/** Settings by the names of their sections, as a Luna client's Chrystoki.conf (or crystoki.ini) has them. */
export type ChrystokiSections = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** An HA group of a Luna client. */
export interface ChrystokiGroup {
  readonly label: string;
  readonly serial: string | undefined;
  /** Serials of its members, in their order. */
  readonly members: readonly string[];
  /** Those that wait in reserve. */
  readonly standby: ReadonlySet<string>;
  /** HASynchronize; undefined where nothing is said. */
  readonly isSynchronized: boolean | undefined;
}

/** Reads `Section = { name = value; }` as well as `[Section]` with `name=value`. */
export function readChrystoki(text: string): ChrystokiSections {
  const sections = new Map<string, Map<string, string>>();
  let current: Map<string, string> | undefined;
  const open = (name: string): void => {
    current = sections.get(name) ?? new Map();
    sections.set(name, current);
  };
  for (const raw of text.split(/\r?\n/u)) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const braced = /^([^={}]+?)\s*=\s*\{$/u.exec(line);
    const bracketed = /^\[(.+)\]$/u.exec(line);
    const setting = /^([^={}]+?)\s*=\s*(.*?)\s*;?$/u.exec(line);
    if (braced?.[1] !== undefined) open(braced[1]);
    else if (bracketed?.[1] !== undefined) open(bracketed[1].trim());
    else if (line === '}') current = undefined;
    else if (setting?.[1] !== undefined) current?.set(setting[1], (setting[2] ?? '').replace(/^"(.*)"$/u, '$1'));
  }
  return sections;
}

const listed = (value: string | undefined): readonly string[] =>
  (value ?? '')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '');

/** The HA groups of its VirtualToken section. */
export function groupsIn(sections: ChrystokiSections): readonly ChrystokiGroup[] {
  const tokens = sections.get('VirtualToken') ?? new Map<string, string>();
  const groups: ChrystokiGroup[] = [];
  for (const name of [...tokens.keys()].sort()) {
    const prefix = /^(VirtualToken\d+)Label$/u.exec(name)?.[1];
    const label = tokens.get(name);
    if (prefix === undefined || label === undefined || label === '') continue;
    const synchronized = sections.get('HASynchronize')?.get(label);
    const members = listed(tokens.get(`${prefix}Members`));
    if (members.length === 0)
      throw new Failure(
        `the group ${label} has no members (${prefix}Members)`,
        'complete the file, or leave the group out',
      );
    groups.push({
      label,
      serial: tokens.get(`${prefix}SN`),
      members,
      standby: new Set(listed(sections.get('HAConfiguration')?.get(`${label}StandbyMembers`))),
      isSynchronized: synchronized === undefined ? undefined : synchronized !== '0',
    });
  }
  return groups;
}
