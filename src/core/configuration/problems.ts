import type { z } from 'zod';
import { kindOf } from '../../spec/input.js';

/** Returns a setting's path as people write it, such as `members[0].name`. */
export function pathText(path: readonly PropertyKey[]): string {
  const joined = path.map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`)).join('');
  return joined.replace(/^\./u, '') || 'the configuration';
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((parent, part) => (parent as Record<PropertyKey, unknown> | undefined)?.[part], value);
}

/** Returns the text `expected …` of an issue. */
function expectedOf(issue: z.core.$ZodIssue): string {
  switch (issue.code) {
    case 'invalid_type':
      return `expected ${/^[aeiou]/u.test(issue.expected) ? 'an' : 'a'} ${issue.expected === 'record' ? 'map' : issue.expected}`;
    case 'invalid_value':
      return `expected one of ${issue.values.map(String).join(', ')}`;
    case 'invalid_union':
      return issue.errors
        .flat()
        .map(expectedOf)
        .filter((text, index, all) => all.indexOf(text) === index)
        .join(' or ')
        .replaceAll(' or expected', ' or');
    default:
      return issue.message;
  }
}

/** Returns the prefix of a problem at a path: `line 12: `, or nothing if the input has no lines. */
export type Locate = (path: readonly PropertyKey[]) => string;

/** Returns the problems that a schema found in an input, each with its place, setting and expectation. */
export function problemsOf(error: z.ZodError, input: unknown, locate: Locate): string[] {
  return error.issues.flatMap((issue) => {
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => {
        const path = [...issue.path, key];
        return `${locate(path)}${pathText(path)}: unknown setting`;
      });
    }
    const message = expectedOf(issue);
    const given =
      issue.code === 'custom' || message.includes('got ') ? '' : `, got ${kindOf(valueAt(input, issue.path))}`;
    return [`${locate(issue.path)}${pathText(issue.path)}: ${message}${given}`];
  });
}
