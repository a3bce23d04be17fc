import type { Attribute } from '../../spec/attribute.js';
import { CKA } from '../../spec/codes.js';
import { RESERVED_LABEL } from '../objects/identity.js';
import { dataClass, privateOnToken, recordAttributes } from './record-template.js';

/** Label of position records, before the group's id and the time. */
const POSITION = `${RESERVED_LABEL}group-position `;
/** Form of a position record's label: id of the group and time, in hexadecimal. */
const positionForm = /^pkcs11-ha:group-position ([0-9a-f]{1,64}) ([0-9a-f]{1,13})$/u;
/** CKA_VALUE of position records: the label tells all, since tokens change it in place. */
const value: Attribute = { type: CKA.value, value: Buffer.from(JSON.stringify({ version: 1, kind: 'position' })) };

/** CKA_APPLICATION of position records. */
const application: Attribute = { type: CKA.application, value: Buffer.from('pkcs11-ha position') };

/** Template that finds the position record of a member. */
export const positionTemplate: readonly Attribute[] = [...recordAttributes, application];

/**
 * Returns the label that tells a member's position: the time of the latest change that the member has (see
 * Group.nextTimestamp). `group` is the id of the group.
 */
export function positionLabel(group: string, time: number): Attribute {
  return { type: CKA.label, value: Buffer.from(`${POSITION}${group} ${Math.floor(time).toString(16)}`) };
}

/** Returns the template that creates a position record. */
export function newPosition(group: string, time: number): readonly Attribute[] {
  return [dataClass, ...privateOnToken, application, positionLabel(group, time), value];
}

/** Returns the time that the label of a position record tells; undefined for another label, or that of another group. */
export function positionIn(label: Uint8Array | undefined, group: string): number | undefined {
  const [, own, time] = positionForm.exec(Buffer.from(label ?? []).toString('latin1')) ?? [];
  return time === undefined || own !== group ? undefined : Number.parseInt(time, 16);
}
