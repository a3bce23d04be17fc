import { describe, expect, test } from '@jest/globals';
import { awaitService } from '../../../src/core/health/opening.js';
import type { GroupRecord, MemberNote } from '../../../src/core/records/record.js';
import { recordTemplate } from '../../../src/core/records/record-template.js';
import { refreshForChange } from '../../../src/core/wrapping/group-record-reading.js';
import { type Behaviour, ScriptedToken, World } from '../../support/world.js';

const key = { label: 'key', secret: 'same' };
const noteOf = (name: string, serial: string): MemberNote => ({
  name,
  serial,
  modulus: '',
  publicExponent: '',
  transport: '',
});
const groupRecord: GroupRecord = {
  kind: 'group',
  id: 'abcd',
  label: 'world',
  revision: 1,
  salt: '00',
  members: [noteOf('a', 'A'), noteOf('b', 'B')],
  domain: { id: '00', proofs: {} },
  wrap: 0,
  wrapsOddLengths: true,
};

const slow =
  (delay: number): Behaviour =>
  (name) =>
    name === 'X_Load' ? { delay } : undefined;

/** Returns the states that a member has gone through. */
const wayOf = (world: World, name: string): string[] =>
  world.events.flatMap((event) => (event.type === 'member' && event.member === name ? [event.to] : []));

describe('a token without a group record', () => {
  test('does not serve while another member may still bring the record', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [])];
    a.records = [recordTemplate(groupRecord, true)];
    a.behave = slow(1500);
    const world = new World({ a, b });
    world.until(() => world.group.ledger.record !== undefined);
    world.pass(100);
    expect(wayOf(world, 'b')[0]).toBe('down');
    const reasons = world.events.flatMap((event) =>
      event.type === 'member' && event.member === 'b' ? [event.reason] : [],
    );
    expect(reasons.join()).toMatch(/no group record; the other members are of the group world/u);
  });

  test('serves as soon as no other member can bring a record', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [key])];
    a.behave = (name) => (name === 'X_Load' ? { silent: true } : undefined);
    const world = World.open({ a, b }, { hangAfter: 400 });
    expect(world.stateOf('b')).toBe('active');
    // Ends before the limit of a join, five times hangAfter; the other members get one second.
    expect(world.now).toBeLessThan(1500);
  });

  test('is tried less and less often, also while it needs recovery', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [])];
    a.records = [recordTemplate(groupRecord, true)];
    const world = new World({ a, b });
    world.until(() => world.stateOf('b') === 'down');
    const blank = world.group.members.find(({ name }) => name === 'b');
    if (blank !== undefined) blank.recovery.require();
    world.pass(20_000);
    expect(b.calls.filter((name) => name === 'X_Load').length).toBeLessThan(16);
  });

  test('serves at once if the other members have no record either', () => {
    const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [key])];
    const world = new World({ a, b });
    world.run(awaitService(world.group, 60_000));
    expect([world.stateOf('a'), world.stateOf('b')]).toEqual(['active', 'active']);
    expect(world.now).toBeLessThan(100);
  });
});

test('a member whose group record was removed takes no change', () => {
  const [a, b] = [new ScriptedToken('A', [key]), new ScriptedToken('B', [])];
  a.records = [recordTemplate(groupRecord, true)];
  const world = new World({ a, b });
  world.until(() => world.stateOf('a') === 'active');
  a.records = [];
  world.group.recordReadAt = Number.NEGATIVE_INFINITY;
  // Rereads the record, as every change does before it writes.
  world.run(refreshForChange(world.group, world.now + 1000));
  expect(world.stateOf('a')).not.toBe('active');
});
