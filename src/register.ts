import pkcs11js from '#pkcs11js';
import { PKCS11 } from './faces/pkcs11js/index.js';

// Puts the class on virtual slots in the place of pkcs11js.PKCS11, for all code of this process that makes one later:
// graphene-pk11, node-webcrypto-p11, the application itself.
Object.assign(pkcs11js, { PKCS11 });
