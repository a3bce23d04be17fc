import { type Attribute, attributeOf, encodeAttribute } from './attribute.js';
import { InputError } from './input.js';

/** Types of attributes that are templates: CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE and CKA_DERIVE_TEMPLATE. */
export const nestedTypes: ReadonlySet<number> = new Set([0x4000_0211, 0x4000_0212, 0x4000_0213]);

/** Template in pkcs11js's form: `[{ type: CKA_LABEL, value: 'x' }]`. */
export type RawTemplate = readonly { readonly type: number; readonly value?: unknown }[];
/** Template in graphene's form: `{ label: 'x', class: 'SECRET_KEY' }`. */
export type FriendlyTemplate = Readonly<Record<string, unknown>>;
/** Template in either form. */
export type Template = RawTemplate | FriendlyTemplate;

/** Encodes a template; InputError for an attribute that is unknown, given twice or a template itself. */
export function encodeTemplate(field: string, template: unknown): readonly Attribute[] {
  if (template === undefined || template === null) return [];
  if (typeof template !== 'object') throw new InputError(field, 'a template (an object or an array)', template);
  const attributes = Array.isArray(template) ? encodeRaw(field, template) : encodeFriendly(field, template);
  const seen = new Set<number>();
  for (const { type } of attributes) {
    if (nestedTypes.has(type)) {
      throw new InputError(`${field}.${attributeOf(field, type).name}`, 'no template within a template', template);
    }
    if (seen.has(type))
      throw new InputError(`${field}.${attributeOf(field, type).name}`, 'the attribute only once', template);
    seen.add(type);
  }
  return attributes;
}

function encodeRaw(field: string, template: readonly unknown[]): Attribute[] {
  return template.map((entry, index) => {
    const at = `${field}[${index}]`;
    if (typeof entry !== 'object' || entry === null) throw new InputError(at, 'an object { type, value }', entry);
    const { type, value } = entry as { type?: unknown; value?: unknown };
    if (typeof type !== 'number' || !Number.isSafeInteger(type) || type < 0)
      throw new InputError(`${at}.type`, 'a CKA number', type);
    if (value === undefined || value === null) return { type, value: new Uint8Array() };
    return encodeAttribute(`${at}.value`, attributeOf(at, type), value);
  });
}

function encodeFriendly(field: string, template: object): Attribute[] {
  return Object.entries(template)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => encodeAttribute(`${field}.${name}`, attributeOf(`${field}.${name}`, name), value));
}
