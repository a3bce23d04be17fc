import { isDeepStrictEqual } from 'node:util';
import {
  type CST,
  type Document,
  isMap,
  isScalar,
  isSeq,
  type ParsedNode,
  parse,
  parseDocument,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import { quoted } from './configuration-text.js';

// A configuration is changed by cutting and pasting in its text, where the parser says that things are: whatever is not
// concerned stays as it is to the byte, however its writer has laid it out.

type TextRange = readonly [from: number, to: number];

/** Where the list of members is not one that can be changed in its place. */
export class NotEditable extends Error {}

interface Members {
  readonly text: string;
  readonly list: YAMLSeq;
  /** Its items as the parser has met them, with what stands before each. */
  readonly tokens: readonly CST.CollectionItem[];
  readonly isFlow: boolean;
  /** Where there is a comma behind the last item of a list in brackets. */
  readonly lastComma: number | undefined;
}

function membersIn(text: string): Members {
  const document: Document.Parsed = parseDocument(text, { keepSourceTokens: true });
  const list = document.get('members');
  if (!isSeq(list) || list.items.length === 0) throw new NotEditable('it has no list of members of its own');
  const token = list.srcToken as CST.BlockSequence | CST.FlowCollection;
  // A comma or a comment behind the last item is one more token without a value.
  const tokens = token.items.filter(({ value }) => value !== undefined);
  if (tokens.length !== list.items.length) throw new NotEditable('its list of members has an empty place');
  const last = token.items.find(({ value }) => value === undefined);
  const lastComma = last?.start.find(({ type }) => type === 'comma')?.offset;
  return { text, list, tokens, isFlow: token.type === 'flow-collection', lastComma };
}

function placeOf(node: unknown): TextRange {
  const [from, to] = (node as ParsedNode).range;
  return [from, to];
}

const newlineOf = (text: string): string => (text.includes('\r\n') ? '\r\n' : '\n');
const lineStart = (text: string, at: number): number => text.lastIndexOf('\n', at - 1) + 1;

/** Behind the line that has what ends at `to`, where a block scalar has ended its line already. */
function lineEnd(text: string, to: number): number {
  if (to > 0 && text[to - 1] === '\n') return to;
  const end = text.indexOf('\n', to);
  return end < 0 ? text.length : end + 1;
}

const lineAt = (text: string, at: number): string => text.slice(at, lineEnd(text, at + 1));
const isBlank = (line: string): boolean => line.trim() === '';
const isComment = (line: string): boolean => line.trimStart().startsWith('#');
const indentOf = (line: string): number => line.length - line.trimStart().length;

/** Behind the lines of an item whose dash is in `column`, with the comments that are indented more than that. */
function endOfItem(text: string, valueEnd: number, column: number): number {
  let to = lineEnd(text, valueEnd);
  while (to < text.length && isComment(lineAt(text, to)) && indentOf(lineAt(text, to)) > column)
    to += lineAt(text, to).length;
  return to;
}

function splice(text: string, [from, to]: TextRange, put = ''): string {
  return text.slice(0, from) + put + text.slice(to);
}

/** Puts a whole line behind the line that ends at `to`. */
function addLines(text: string, to: number, lines: readonly string[]): string {
  const newline = newlineOf(text);
  const at = lineEnd(text, to);
  const isOpen = at > 0 && text[at - 1] !== '\n';
  const block = lines.join(newline);
  return splice(text, [at, at], isOpen ? newline + block : block + newline);
}

/** Puts an entry in brackets behind the last one, on a line of its own where that has one. */
function addToFlow(text: string, last: number, [, to]: TextRange, entry: string, lastComma?: number): string {
  const line = lineStart(text, last);
  const indent = text.slice(line, last);
  // A comma behind the last one, where there is one, comes behind the new one too.
  const [at, before, after] = lastComma === undefined ? [to, ',', ''] : [lastComma + 1, '', ','];
  const rest = text.slice(at, lineEnd(text, at + 1));
  if (!isBlank(indent) || line === 0) return splice(text, [at, at], `${before} ${entry}${after}`);
  const newline = newlineOf(text);
  // A comment behind the last one stays with it.
  return isComment(rest)
    ? splice(text, [at, at + rest.length], `${before}${rest}${indent}${entry}${after}${newline}`)
    : splice(text, [at, at], `${before}${newline}${indent}${entry}${after}`);
}

/** Where an item begins: its dash, or in brackets its anchor, tag or value. */
function startOf({ start, value }: CST.CollectionItem, isFlow: boolean): number {
  const skipped: readonly string[] = ['space', 'newline', 'comment', 'comma'];
  const first = isFlow
    ? start.find(({ type }) => !skipped.includes(type))
    : start.find(({ type }) => type === 'seq-item-ind');
  return (first ?? value)?.offset ?? 0;
}

type Meaning = { readonly members: readonly Readonly<Record<string, unknown>>[] };

/** Refuses a change that something else in the file depends on, as on an anchor: afterwards it has to mean what was wanted. */
function checked(before: string, after: string, change: (members: Meaning['members']) => Meaning['members']): string {
  const meant = parse(before) as Meaning;
  const wanted = { ...meant, members: change(meant.members) };
  if (!isDeepStrictEqual(meaningOf(after), wanted)) throw new NotEditable('something else in it depends on that place');
  return after;
}

function meaningOf(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

/** The text with a member behind the others. */
export function withMember(text: string, member: Readonly<Record<string, unknown>>): string {
  return checked(text, addMember(text, member), (members) => [...members, member]);
}

function addMember(text: string, member: Readonly<Record<string, unknown>>): string {
  const { list, tokens, isFlow, lastComma } = membersIn(text);
  const place = placeOf(list.items.at(-1));
  const start = startOf(tokens.at(-1) as CST.CollectionItem, isFlow);
  if (isFlow) return addToFlow(text, start, place, JSON.stringify(member), lastComma);
  const indent = text.slice(lineStart(text, start), start);
  const lines = Object.entries(member).map(
    ([name, value], index) => `${indent}${index === 0 ? '- ' : '  '}${name}: ${quoted(value)}`,
  );
  return addLines(text, endOfItem(text, place[1], indent.length), lines);
}

/** The item of a member. Items that are aliases or no maps cannot be its. */
function indexOf({ list }: Members, name: string): number {
  return list.items.findIndex((item) => isMap(item) && item.get('name') === name);
}

export function hasMember(text: string, name: string): boolean {
  return indexOf(membersIn(text), name) >= 0;
}

/**
 * The lines of an item of a list with dashes. The comment right above belongs to it; above the first item it may be
 * about the whole list, and goes only where it names the member.
 */
function linesOf(members: Members, index: number, name: string): TextRange {
  const { text, list, tokens } = members;
  const dash = startOf(tokens[index] as CST.CollectionItem, false);
  let from = lineStart(text, dash);
  const column = dash - from;
  const above: string[] = [];
  let top = from;
  while (top > 0) {
    const start = lineStart(text, top - 1);
    const line = text.slice(start, top);
    if (!isComment(line) || indentOf(line) !== column) break;
    above.unshift(line);
    top = start;
  }
  if (index > 0 || above.some((line) => line.includes(name))) from = top;
  let to = endOfItem(text, placeOf(list.items[index])[1], column);
  const isAfterBlank = from > 0 && isBlank(text.slice(lineStart(text, from - 1), from));
  while (isAfterBlank && to < text.length && isBlank(lineAt(text, to))) to += lineAt(text, to).length;
  return [from, to];
}

function withoutInFlow({ text, list, tokens, lastComma }: Members, index: number): string {
  const commaBefore = (at: number): number => tokens[at]?.start.find(({ type }) => type === 'comma')?.offset ?? -1;
  const isFinal = index === tokens.length - 1;
  const isLast = isFinal && lastComma === undefined;
  const start = startOf(tokens[index] as CST.CollectionItem, true);
  const commaBehind = isFinal ? lastComma : commaBefore(index + 1);
  const end = commaBehind === undefined ? placeOf(list.items[index])[1] : commaBehind + 1;
  const line = lineStart(text, start);
  const rest = text.slice(end, lineEnd(text, end + 1));
  const hasLines = isBlank(text.slice(line, start)) && (isBlank(rest) || isComment(rest));
  // The space that parts it from its neighbour goes too.
  const before = isFinal ? /[ \t]*$/u.exec(text.slice(line, start))?.[0].length : 0;
  const after = isFinal ? 0 : rest.length - rest.trimStart().length;
  const cut = splice(text, hasLines ? [line, end + rest.length] : [start - (before ?? 0), end + after]);
  const comma = commaBefore(index);
  return isLast && comma >= 0 ? splice(cut, [comma, comma + 1]) : cut;
}

/** The text without a member, and without the comments that are about it. */
export function withoutMember(text: string, name: string): string {
  const members = membersIn(text);
  const index = indexOf(members, name);
  if (index < 0) throw new NotEditable(`it has no member ${name}`);
  if (members.list.items.length === 1) throw new NotEditable(`${name} is its only member`);
  const after = members.isFlow ? withoutInFlow(members, index) : splice(text, linesOf(members, index, name));
  return checked(text, after, (all) => all.filter((_member, at) => at !== index));
}

type Setting = boolean | number | string;

/** The text with a member's setting changed where it is, or added behind the others. */
export function withSetting(text: string, name: string, setting: string, value: Setting): string {
  return checked(text, setInMember(text, name, setting, value), (members) =>
    members.map((member) => (member.name === name ? { ...member, [setting]: value } : member)),
  );
}

function setInMember(text: string, name: string, setting: string, value: Setting): string {
  const members = membersIn(text);
  const member = members.list.items[indexOf(members, name)] as YAMLMap | undefined;
  if (member === undefined) throw new NotEditable(`it has no member ${name}`);
  const written = JSON.stringify(value);
  const { items } = member;
  const present = items.find(({ key }) => isScalar(key) && key.value === setting);
  if (present?.value != null) return splice(text, placeOf(present.value), written);
  if (present !== undefined) throw new NotEditable(`${setting} of ${name} has no value`);
  const last = items.at(-1);
  const [start] = placeOf(last?.key);
  const end = placeOf(last?.value ?? last?.key);
  if ((member.srcToken as CST.Token).type === 'flow-collection')
    return addToFlow(text, start, end, `"${setting}": ${written}`);
  const [first] = placeOf(items[0]?.key);
  return addLines(text, end[1], [`${' '.repeat(first - lineStart(text, first))}${setting}: ${written}`]);
}
