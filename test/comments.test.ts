import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const root = resolve(__dirname, '..');
const code = /\.(?:ts|js|cjs|cts|cc|h|c)$/u;

/** Words that leave open what a comment speaks of: a comment begins with a noun or a verb. */
const riddles =
  /^(?:What|It|Its|One|Ones|Those|These|This|That|Of|The same|Whoever|Whatever|Whichever|Who|Whom|Whose|Which|So|And|But|Or|Where|Whether|How|Why|Here|There|Nobody|Nothing|Everybody|Everything|Somebody|Something)\b/u;

/** Units and kinds of quantities: the comment of a numeric constant names one. */
const unit =
  /\((?:ms|µs|ns|s|min|bytes|bits|MiB|KiB|characters|%)|\b(?:number|count|share|factor|multiple|bits|bytes|ms|flags?|handle|index|mask|code|version|revision|ratio|times|signal|mode|permission|port|tag|limit)\b/iu;

interface Comment {
  readonly at: string;
  /** The first line of it, without its marks. */
  readonly start: string;
  readonly text: string;
  /** The first line of code after it. */
  readonly next: string;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (['node_modules', 'dist', 'build'].includes(name)) return [];
    if (statSync(path).isDirectory()) return filesBelow(path);
    return code.test(name) ? [path] : [];
  });
}

const unmarked = (line: string): string =>
  line.replace(/^\s*(?:\/\*\*?|\/\/|\*\/|\*)?\s?/u, '').replace(/\s*\*\/$/u, '');

/** The comments that stand on lines of their own; lines that follow each other are one comment. */
function commentsIn(path: string): Comment[] {
  const lines = readFileSync(path, 'utf8').split('\n');
  const comments: Comment[] = [];
  for (let index = 0; index < lines.length; index += 1) {
    const first = lines[index] ?? '';
    const isBlock = /^\s*\/\*/u.test(first);
    if (!isBlock && !/^\s*\/\//u.test(first)) continue;
    const begin = index;
    while (isBlock ? !(lines[index] ?? '').includes('*/') : /^\s*\/\//u.test(lines[index + 1] ?? '')) index += 1;
    const text = lines.slice(begin, index + 1).map(unmarked);
    const start = text.find((line) => line !== '') ?? '';
    comments.push({
      at: `${relative(root, path)}:${begin + 1}`,
      start,
      text: text.join(' '),
      next: lines[index + 1] ?? '',
    });
  }
  return comments;
}

const folders = ['src', 'native', 'bench', 'docker', 'examples', 'scripts', 'test'];
const comments = folders.flatMap((folder) => filesBelow(join(root, folder))).flatMap(commentsIn);

describe('comments', () => {
  it('are read: there are many', () => {
    expect(comments.length).toBeGreaterThan(2000);
  });

  it('begin with a noun or a verb', () => {
    expect(comments.filter(({ start }) => riddles.test(start)).map(({ at, start }) => `${at} ${start}`)).toEqual([]);
  });

  it('of a numeric constant of src name its unit', () => {
    const isConstant = /^(?:export )?const [A-Z][A-Z_\d]+(?:: number)? = [\d_.]+;$/u;
    const constants = comments.filter(({ at, next }) => at.startsWith('src/') && isConstant.test(next));
    expect(constants.length).toBeGreaterThan(50);
    expect(constants.filter(({ text }) => !unit.test(text)).map(({ at, text }) => `${at} ${text}`)).toEqual([]);
  });
});

describe('the files of src', () => {
  it('have at most 300 lines', () => {
    const lengths = filesBelow(join(root, 'src')).map(
      (path) => [relative(root, path), readFileSync(path, 'utf8').split('\n').length - 1] as const,
    );
    expect(lengths.filter(([, length]) => length > 300)).toEqual([]);
  });
});
