import pkcs11js from '#pkcs11js';
import { PKCS11 } from './faces/pkcs11js/index.js';

// From here on whoever makes a pkcs11js.PKCS11 in this process gets one on virtual slots: graphene-pk11,
// node-webcrypto-p11, the application itself.
Object.assign(pkcs11js, { PKCS11 });
