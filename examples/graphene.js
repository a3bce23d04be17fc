// graphene-pk11 on a group: Module receives the class for virtual slots; the other code is unchanged.
//
//   npm install pkcs11-ha pkcs11js graphene-pk11
//   GROUP=group.yaml PIN=… node graphene.js    form the group first: see createGroup in the README
import graphene from 'graphene-pk11';
import { PKCS11 } from 'pkcs11-ha/pkcs11js';

const { GROUP = 'group.yaml', PIN = '' } = process.env;
const module = new graphene.Module(new PKCS11(GROUP));
module.initialize();
const slot = module.getSlots(0);
console.log(`${slot.getToken().label.trim()}: ${slot.getMechanisms().length} mechanisms`);

const session = slot.open(graphene.SessionFlag.SERIAL_SESSION | graphene.SessionFlag.RW_SESSION);
session.login(PIN);
// Returns when every member has the keys.
const keys = session.generateKeyPair(
  graphene.KeyGenMechanism.EC,
  { token: true, label: 'example', verify: true, paramsEC: graphene.NamedCurve.getByName('secp256r1').value },
  { token: true, label: 'example', sign: true },
);
const hash = session.createDigest('SHA256').once(Buffer.from('text'));
// Signs and verifies on any member.
const signature = session.createSign('ECDSA', keys.privateKey).once(hash);
console.log(`verified: ${session.createVerify('ECDSA', keys.publicKey).once(hash, signature)}`);

keys.privateKey.destroy();
keys.publicKey.destroy();
session.close();
module.finalize();
