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

// Changes a configuration by cutting and pasting in its text, at the positions that the parser reports. Unaffected
// parts keep every byte, whatever their layout.

type TextRange = readonly [from: number, to: number];

/** Error for a file that cannot be edited in place. */
export class NotEditable extends Error {}

interface Members {
  readonly text: string;
  readonly list: YAMLSeq;
  /** Tokens of the list's items, each with what precedes it. */
  readonly tokens: readonly CST.CollectionItem[];
  readonly isFlow: boolean;
  /** Position of a comma after the last item of a list in brackets, if there is one. */
  readonly lastComma: number | undefined;
}

function membersIn(text: string): Members {
  const document: Document.Parsed = parseDocument(text, { keepSourceTokens: true });
  const list = document.get('members');
  if (!isSeq(list) || list.items.length === 0) throw new NotEditable('the file has no list of members of its own');
  const token = list.srcToken as CST.BlockSequence | CST.FlowCollection;
  // Skips the token without a value that a comma or comment after the last item makes.
  const tokens = token.items.filter(({ value }) => value !== undefined);
  if (tokens.length !== list.items.length) throw new NotEditable('the list of members has an empty item');
  const last = token.items.find(({ value }) => value === undefined);
  const lastComma = last?.start.find(({ type }) => type === 'comma')?.offset;
  return { text, list, tokens, isFlow: token.type === 'flow-collection', lastComma };
}

function rangeOf(node: unknown): TextRange {
  const [from, to] = (node as ParsedNode).range;
  return [from, to];
}

const newlineOf = (text: string): string => (text.includes('\r\n') ? '\r\n' : '\n');
const lineStart = (text: string, at: number): number => text.lastIndexOf('\n', at - 1) + 1;

/** Returns the position after the line in which a value ends at `to`; a block scalar has ended its line already. */
function lineEnd(text: string, to: number): number {
  if (to > 0 && text[to - 1] === '\n') return to;
  const end = text.indexOf('\n', to);
  return end < 0 ? text.length : end + 1;
}

const lineAt = (text: string, at: number): string => text.slice(at, lineEnd(text, at + 1));
const isBlank = (line: string): boolean => line.trim() === '';
const isComment = (line: string): boolean => line.trimStart().startsWith('#');
const indentOf = (line: string): number => line.length - line.trimStart().length;

/** Returns the position after an item whose dash is in `column`, including comments that are indented further. */
function endOfItem(text: string, valueEnd: number, column: number): number {
  let to = lineEnd(text, valueEnd);
  while (to < text.length && isComment(lineAt(text, to)) && indentOf(lineAt(text, to)) > column)
    to += lineAt(text, to).length;
  return to;
}

function splice(text: string, [from, to]: TextRange, put = ''): string {
  return text.slice(0, from) + put + text.slice(to);
}

/** Adds whole lines after the line that ends at `to`. */
function addLines(text: string, to: number, lines: readonly string[]): string {
  const newline = newlineOf(text);
  const at = lineEnd(text, to);
  const isOpen = at > 0 && text[at - 1] !== '\n';
  const block = lines.join(newline);
  return splice(text, [at, at], isOpen ? newline + block : block + newline);
}

/** Adds an entry in brackets after the last one, on a line of its own if the last entry has one. */
function addToFlow(text: string, last: number, [, to]: TextRange, entry: string, lastComma?: number): string {
  const line = lineStart(text, last);
  const indent = text.slice(line, last);
  // Keeps a trailing comma: if the last entry had one, the new entry gets one too.
  const [at, before, after] = lastComma === undefined ? [to, ',', ''] : [lastComma + 1, '', ','];
  const rest = text.slice(at, lineEnd(text, at + 1));
  if (!isBlank(indent) || line === 0) return splice(text, [at, at], `${before} ${entry}${after}`);
  const newline = newlineOf(text);
  // Leaves a comment after the last entry with that entry.
  return isComment(rest)
    ? splice(text, [at, at + rest.length], `${before}${rest}${indent}${entry}${after}${newline}`)
    : splice(text, [at, at], `${before}${newline}${indent}${entry}${after}`);
}

/** Returns the position of an item: of its dash, or in brackets of its anchor, tag or value. */
function startOf({ start, value }: CST.CollectionItem, isFlow: boolean): number {
  const skipped: readonly string[] = ['space', 'newline', 'comment', 'comma'];
  const first = isFlow
    ? start.find(({ type }) => !skipped.includes(type))
    : start.find(({ type }) => type === 'seq-item-ind');
  return (first ?? value)?.offset ?? 0;
}

type Meaning = { readonly members: readonly Readonly<Record<string, unknown>>[] };

/**
 * Checks that the changed text means what was wanted; refuses it otherwise, for example if another part uses an anchor.
 */
function checkMeaning(
  before: string,
  after: string,
  change: (members: Meaning['members']) => Meaning['members'],
): string {
  const meant = parse(before) as Meaning;
  const wanted = { ...meant, members: change(meant.members) };
  if (!isDeepStrictEqual(meaningOf(after), wanted))
    throw new NotEditable('another part of the file depends on the changed lines');
  return after;
}

function meaningOf(text: string): unknown {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

/** Returns the text with a member added after the others. */
export function withMember(text: string, member: Readonly<Record<string, unknown>>): string {
  return checkMeaning(text, addMember(text, member), (members) => [...members, member]);
}

function addMember(text: string, member: Readonly<Record<string, unknown>>): string {
  const { list, tokens, isFlow, lastComma } = membersIn(text);
  const range = rangeOf(list.items.at(-1));
  const start = startOf(tokens.at(-1) as CST.CollectionItem, isFlow);
  if (isFlow) return addToFlow(text, start, range, JSON.stringify(member), lastComma);
  const indent = text.slice(lineStart(text, start), start);
  const lines = Object.entries(member).map(
    ([name, value], index) => `${indent}${index === 0 ? '- ' : '  '}${name}: ${quoted(value)}`,
  );
  return addLines(text, endOfItem(text, range[1], indent.length), lines);
}

/** Finds the index of a member's item; skips aliases and items that are not maps. */
function indexOf({ list }: Members, name: string): number {
  return list.items.findIndex((item) => isMap(item) && item.get('name') === name);
}

/** Returns true if the text lists a member of this name. */
export function hasMember(text: string, name: string): boolean {
  return indexOf(membersIn(text), name) >= 0;
}

/**
 * Returns the lines of an item of a list with dashes, including the comment right above. A comment above the first item
 * may concern the whole list, so it is included only if it names the member.
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
  let to = endOfItem(text, rangeOf(list.items[index])[1], column);
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
  const end = commaBehind === undefined ? rangeOf(list.items[index])[1] : commaBehind + 1;
  const line = lineStart(text, start);
  const rest = text.slice(end, lineEnd(text, end + 1));
  const hasLines = isBlank(text.slice(line, start)) && (isBlank(rest) || isComment(rest));
  // Removes the space between the item and its neighbour too.
  const before = isFinal ? /[ \t]*$/u.exec(text.slice(line, start))?.[0].length : 0;
  const after = isFinal ? 0 : rest.length - rest.trimStart().length;
  const cut = splice(text, hasLines ? [line, end + rest.length] : [start - (before ?? 0), end + after]);
  const comma = commaBefore(index);
  return isLast && comma >= 0 ? splice(cut, [comma, comma + 1]) : cut;
}

/** Returns the text without a member and the comments about that member. */
export function withoutMember(text: string, name: string): string {
  const members = membersIn(text);
  const index = indexOf(members, name);
  if (index < 0) throw new NotEditable(`the file has no member ${name}`);
  if (members.list.items.length === 1) throw new NotEditable(`${name} is the only member`);
  const after = members.isFlow ? withoutInFlow(members, index) : splice(text, linesOf(members, index, name));
  return checkMeaning(text, after, (all) => all.filter((_member, at) => at !== index));
}

type Setting = boolean | number | string;

/** Returns the text with a member's setting changed in place, or added after the member's other settings. */
export function withSetting(text: string, name: string, setting: string, value: Setting): string {
  return checkMeaning(text, setInMember(text, name, setting, value), (members) =>
    members.map((member) => (member.name === name ? { ...member, [setting]: value } : member)),
  );
}

function setInMember(text: string, name: string, setting: string, value: Setting): string {
  const members = membersIn(text);
  const member = members.list.items[indexOf(members, name)] as YAMLMap | undefined;
  if (member === undefined) throw new NotEditable(`the file has no member ${name}`);
  const written = JSON.stringify(value);
  const { items } = member;
  const present = items.find(({ key }) => isScalar(key) && key.value === setting);
  if (present?.value != null) return splice(text, rangeOf(present.value), written);
  if (present !== undefined) throw new NotEditable(`${setting} of ${name} has no value`);
  const last = items.at(-1);
  const [start] = rangeOf(last?.key);
  const end = rangeOf(last?.value ?? last?.key);
  if ((member.srcToken as CST.Token).type === 'flow-collection')
    return addToFlow(text, start, end, `"${setting}": ${written}`);
  const [first] = rangeOf(items[0]?.key);
  return addLines(text, end[1], [`${' '.repeat(first - lineStart(text, first))}${setting}: ${written}`]);
}
