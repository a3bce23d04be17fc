import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { parse } from 'yaml';
import { withMember, withoutMember, withSetting } from '../../../../src/faces/cli/configuration/configuration-edit.js';

const yaml = `# Ours.
label:   otp   # odd spaces

members: # both of them
  # hsm1 is in rack 4
  - name: hsm1
    module: /usr/lib/a.so   # the vendor's
    token: {serial: "0001",  label: x}

  # in rack 5
  - name: 'hsm2'
    module: "/usr/lib/b.so"
    env: &common
      A: |
        text
    # PORT: 1

  - name: hsm3
    module: /usr/lib/c.so
    env: { <<: {B: x}, C: y } # all of it
# the rest
policy: {hangAfter: 1s}
`;

const added = { name: 'new', module: '/x.so', token: { serial: '09' } };

describe('a member in a list with dashes', () => {
  test('is added behind the others', () => {
    const at = yaml.indexOf('# the rest');
    const lines = '  - name: new\n    module: /x.so\n    token: { serial: "09" }\n';
    expect(withMember(yaml, added)).toBe(yaml.slice(0, at) + lines + yaml.slice(at));
  });

  test('is removed with its own comments only', () => {
    const from = yaml.indexOf('  # in rack 5');
    const to = yaml.indexOf('  - name: hsm3');
    expect(withoutMember(yaml, 'hsm2')).toBe(yaml.slice(0, from) + yaml.slice(to));
  });

  test('that is first is removed with the comment that names it', () => {
    const from = yaml.indexOf('  # hsm1 is');
    const to = yaml.indexOf('\n  # in rack 5');
    expect(withoutMember(yaml, 'hsm1')).toBe(yaml.slice(0, from) + yaml.slice(to));
  });

  test('that is first is removed without the comment about all members', () => {
    const text = yaml.replace('# hsm1 is in rack 4', '# the first is right');
    expect(withoutMember(text, 'hsm1')).toContain('members: # both of them\n  # the first is right\n');
  });

  test('gets a new setting behind its others, and a changed one in its place', () => {
    const reserve = withSetting(yaml, 'hsm1', 'standby', true);
    const line = '    token: {serial: "0001",  label: x}\n';
    expect(reserve).toBe(yaml.replace(line, `${line}    standby: true\n`));
    expect(withSetting(reserve, 'hsm1', 'standby', false)).toBe(yaml.replace(line, `${line}    standby: false\n`));
  });

  test('is added to a file without a last newline', () => {
    const text = 'label: x\nmembers:\n- name: a\n  module: b';
    expect(withMember(text, { name: 'c', module: 'd' })).toBe(`${text}\n- name: c\n  module: d`);
    expect(withSetting(text, 'a', 'standby', true)).toBe(`${text}\n  standby: true`);
  });

  test('is added with the line ends of the file', () => {
    const text = 'members:\r\n  - name: a\r\n    module: b\r\n';
    expect(withMember(text, { name: 'c', module: 'd' })).toBe(`${text}  - name: c\r\n    module: d\r\n`);
  });
});

describe('a member in a list in brackets', () => {
  const flow = `{"label": "x", "members": [{"name": "a", "n": 1}, {"name": "b"}]}`;
  const long = `members: [
  {name: a},  # first
  # then
  {name: b},
  {name: c}   # last
]
`;

  test('is added on one line', () => {
    expect(withMember(flow, { name: 'c' })).toBe(flow.replace('"b"}', '"b"}, {"name":"c"}'));
    expect(withoutMember(flow, 'a')).toBe('{"label": "x", "members": [{"name": "b"}]}');
    expect(withoutMember(flow, 'b')).toBe('{"label": "x", "members": [{"name": "a", "n": 1}]}');
    expect(withSetting(flow, 'b', 'standby', true)).toBe(flow.replace('"b"', '"b", "standby": true'));
    expect(withSetting(flow, 'a', 'n', 2)).toBe(flow.replace('1', '2'));
  });

  test('is added on a line of its own', () => {
    expect(withMember(long, { name: 'd' })).toBe(long.replace('}   # last', '},   # last\n  {"name":"d"}'));
    expect(withoutMember(long, 'a')).toBe(long.replace('  {name: a},  # first\n', ''));
    expect(withoutMember(long, 'b')).toBe(long.replace('  {name: b},\n', ''));
    expect(withoutMember(long, 'c')).toBe(long.replace('{name: b},\n  {name: c}   # last\n', '{name: b}\n'));
  });
});

test('a comma behind the last one of a list in brackets stays behind the last one', () => {
  const text = 'members: [\n  {name: a}, # rack 1\n  {name: b}, # rack 2\n]\n';
  expect(withoutMember(text, 'b')).toBe('members: [\n  {name: a}, # rack 1\n]\n');
  expect(withMember(text, { name: 'c' })).toBe(text.replace('rack 2\n', 'rack 2\n  {"name":"c"},\n'));
  expect(withMember('members: [{name: a},]', { name: 'c' })).toBe('members: [{name: a}, {"name":"c"},]');
  expect(withoutMember('members: [{name: a}, {name: b},]', 'b')).toBe('members: [{name: a},]');
});

test('a member that another place depends on is not removed', () => {
  const text = 'members:\n  - name: a\n    standby: &s false\n  - name: b\n    standby: *s\n';
  expect(() => withSetting(text, 'a', 'standby', true)).toThrow('another part of the file');
  expect(() => withoutMember(text, 'a')).toThrow('another part of the file');
  expect(withSetting(text, 'b', 'standby', true)).toBe(text.replace('*s', 'true'));
});

test('a file of another form is refused', () => {
  const only = 'label: x\nmembers:\n  - name: a\n';
  expect(() => withoutMember(only, 'a')).toThrow('a is the only member');
  expect(() => withoutMember(yaml, 'nobody')).toThrow('the file has no member nobody');
  expect(() => withMember('all: &all [{name: a}]\nmembers: *all\n', added)).toThrow('no list of members of its own');
});

test('in random layouts the edit changes the members as asked, and nothing else', () => {
  const space = fc.constantFrom('', ' ', '  ');
  const comment = fc.constantFrom('', '', ' # a remark', ' # {, [, "');
  const blank = fc.constantFrom('', '', '\n', '# between\n', '  # inside\n', '      # deep\n');
  const item = fc.record({ flow: fc.boolean(), comment, blank, space });
  const layout = fc.record({
    indent: fc.constantFrom('', '  ', '    '),
    flow: fc.boolean(),
    items: fc.array(item, { minLength: 2, maxLength: 4 }),
    tail: fc.constantFrom('', 'policy: { hangAfter: 1s } # end\n', '# end\n'),
  });
  const render = ({ indent, flow, items, tail }: typeof layout extends fc.Arbitrary<infer T> ? T : never): string => {
    const lines = items.map((each, index) => {
      const last = index === items.length - 1;
      if (flow)
        return `  {name: m${index},${each.space} n: ${index}}${each.space}${last ? '' : ','}${each.comment}\n${each.blank}`;
      if (each.flow) return `${indent}-${each.space} {name: m${index}, n: ${index}}${each.comment}\n${each.blank}`;
      return `${indent}- name: m${index}${each.comment}\n${indent}  n: ${index}${each.comment}\n${each.blank}`;
    });
    return `label: x\nmembers:${flow ? ' [' : ''}\n${lines.join('')}${flow ? ']\n' : ''}${tail}`;
  };
  fc.assert(
    fc.property(layout, fc.nat(), (shape, pick) => {
      const text = render(shape);
      const before = parse(text) as { members: { name: string; n: number }[] };
      const at = pick % before.members.length;
      const name = `m${at}`;
      const more = withMember(text, { name: 'new', n: 9 });
      expect(parse(more)).toEqual({ ...before, members: [...before.members, { name: 'new', n: 9 }] });
      expect(withoutMember(more, 'new').replaceAll(/\s/gu, '')).toBe(text.replaceAll(/\s/gu, ''));
      const less = withoutMember(text, name);
      expect(parse(less)).toEqual({ ...before, members: before.members.filter((each) => each.name !== name) });
      const set = withSetting(text, name, 'n', 7);
      expect(set).toBe(text.replace(new RegExp(`(m${at}[^]*?n: )${at}`, 'u'), '$17'));
    }),
    { numRuns: 500 },
  );
});
