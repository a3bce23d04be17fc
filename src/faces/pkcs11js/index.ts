import pkcs11js from '#pkcs11js';
import { PKCS11 } from './pkcs11.js';

/** All exports of pkcs11js, with the class on virtual slots in place of its own. */
const api: Omit<typeof pkcs11js, 'PKCS11'> & { PKCS11: typeof PKCS11 } = { ...pkcs11js, PKCS11 };

// Types of pkcs11js that applications name.
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
// Exports for `require` and `import x from`, as in pkcs11js's own module.
// biome-ignore lint/style/noDefaultExport: pkcs11js has one
export { api as default, api as 'module.exports', PKCS11 };
