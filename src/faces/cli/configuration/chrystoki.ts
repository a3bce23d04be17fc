import { Failure } from '../failure.js';

/** Settings of a Luna client's Chrystoki.conf (or crystoki.ini), by section and name. */
export type ChrystokiSections = ReadonlyMap<string, ReadonlyMap<string, string>>;

/** HA group of a Luna client. */
export interface ChrystokiGroup {
  readonly label: string;
  readonly serial: string | undefined;
  /** Serials of the members, in their order. */
  readonly members: readonly string[];
  /** Serials of the standby members. */
  readonly standby: ReadonlySet<string>;
  /** True if HASynchronize is set; undefined if the file does not say. */
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

const splitList = (value: string | undefined): readonly string[] =>
  (value ?? '')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '');

/** Reads the HA groups of the VirtualToken section. */
export function groupsIn(sections: ChrystokiSections): readonly ChrystokiGroup[] {
  const tokens = sections.get('VirtualToken') ?? new Map<string, string>();
  const groups: ChrystokiGroup[] = [];
  for (const name of [...tokens.keys()].sort()) {
    const prefix = /^(VirtualToken\d+)Label$/u.exec(name)?.[1];
    const label = tokens.get(name);
    if (prefix === undefined || label === undefined || label === '') continue;
    const synchronized = sections.get('HASynchronize')?.get(label);
    const members = splitList(tokens.get(`${prefix}Members`));
    if (members.length === 0)
      throw new Failure(
        `the group ${label} has no members (${prefix}Members)`,
        'add the members to the file, or remove the group from it',
      );
    groups.push({
      label,
      serial: tokens.get(`${prefix}SN`),
      members,
      standby: new Set(splitList(sections.get('HAConfiguration')?.get(`${label}StandbyMembers`))),
      isSynchronized: synchronized === undefined ? undefined : synchronized !== '0',
    });
  }
  return groups;
}
