import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { describe, expect, it } from '@jest/globals';

const root = resolve(__dirname, '..');
const source = join(root, 'src');

/** Folders of src/core in order: each may import itself and the folders before it. */
const floors = [
  'base',
  'configuration',
  'objects',
  'records',
  'coordination',
  'group',
  'jobs',
  'joining',
  'replicas',
  'call',
  'wrapping',
  'replication',
  'recovery',
  'health',
  'administration',
  'pin',
  'backup',
  'sessions',
  'status',
];

const layers = ['spec', 'core', 'runtime', 'faces', 'bin'];

interface Import {
  readonly from: string;
  readonly to: string;
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return filesBelow(path);
    return name.endsWith('.ts') ? [path] : [];
  });
}

/** Returns every import and re-export of a file, of values and types, as paths below src. */
function importsOf(file: string): Import[] {
  const found = readFileSync(file, 'utf8').matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)\.js'/gu);
  return [...found].map(([, path = '']) => ({
    from: relative(source, file),
    to: relative(source, `${resolve(file, '..', path)}.ts`),
  }));
}

const files = filesBelow(source);
const imports = files.flatMap(importsOf);

describe('the layers of src', () => {
  it('are all in the list', () => {
    const found = readdirSync(source).filter((name) => statSync(join(source, name)).isDirectory());
    expect(found.filter((name) => !layers.includes(name))).toEqual([]);
  });

  it('import only themselves and the layers before them', () => {
    const layerOf = (path: string): number => layers.indexOf(path.split('/')[0] ?? '');
    const upward = imports.filter(({ from, to }) => layerOf(from) >= 0 && layerOf(to) > layerOf(from));
    expect(upward).toEqual([]);
  });
});

describe('the folders of src/core', () => {
  const floorOf = (path: string): number => floors.indexOf(path.split('/')[1] ?? '');
  const inCore = imports.filter(({ from, to }) => from.startsWith('core/') && to.startsWith('core/'));

  it('are those of the list, and no file is outside them', () => {
    expect(readdirSync(join(source, 'core')).sort()).toEqual([...floors].sort());
  });

  it('have imports between them, so that the next test checks something', () => {
    expect(inCore.filter(({ from, to }) => floorOf(from) > floorOf(to)).length).toBeGreaterThan(500);
  });

  it('import themselves and the folders before them, values and types alike', () => {
    expect(inCore.filter(({ from, to }) => floorOf(to) > floorOf(from))).toEqual([]);
  });
});

describe('the files of src', () => {
  it('[Rule 1] use promises in faces and the runtime only: core has tasks', () => {
    const found = files
      .filter((file) => relative(source, file).startsWith('core/'))
      .filter((file) => {
        const code = readFileSync(file, 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$|'[^'\n]*'|`[^`]*`/gmu, '');
        return /\b(?:async|await|Promise|setTimeout|setInterval|setImmediate)\b/u.test(code);
      });
    expect(found.map((file) => relative(source, file))).toEqual([]);
  });

  it('form no circle of imports, types included', () => {
    const next = new Map<string, string[]>();
    for (const { from, to } of imports) next.set(from, [...(next.get(from) ?? []), to]);
    const done = new Set<string>();
    const circles: string[] = [];
    const visit = (path: string, way: readonly string[]): void => {
      if (way.includes(path)) circles.push([...way.slice(way.indexOf(path)), path].join(' > '));
      if (way.includes(path) || done.has(path)) return;
      for (const each of next.get(path) ?? []) visit(each, [...way, path]);
      done.add(path);
    };
    for (const path of next.keys()) visit(path, []);
    expect(circles).toEqual([]);
  });
});
