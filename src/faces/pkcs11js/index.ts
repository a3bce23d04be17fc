import pkcs11js from '#pkcs11js';
import { PKCS11 } from './pkcs11.js';

/** All that pkcs11js exports, with the class that works on virtual slots. */
const api: Omit<typeof pkcs11js, 'PKCS11'> & { PKCS11: typeof PKCS11 } = { ...pkcs11js, PKCS11 };

// The types that an application names, as pkcs11js has them.
export type Attribute = pkcs11js.Attribute;
export type Handle = pkcs11js.Handle;
export type KeyPair = pkcs11js.KeyPair;
export type Mechanism = pkcs11js.Mechanism;
export type MechanismInfo = pkcs11js.MechanismInfo;
export type ModuleInfo = pkcs11js.ModuleInfo;
export type SessionInfo = pkcs11js.SessionInfo;
export type SlotInfo = pkcs11js.SlotInfo;
export type Template = pkcs11js.Template;
export type TemplateResult = pkcs11js.TemplateResult;
export type TokenInfo = pkcs11js.TokenInfo;
// What `require` gives, and `import x from`: as pkcs11js's own module.
// biome-ignore lint/style/noDefaultExport: pkcs11js has one
export { api as default, api as 'module.exports', PKCS11 };
