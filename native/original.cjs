// Location of the real pkcs11js, the application's own copy. By npm's overrides this package may be installed under the
// name pkcs11js, so the first package found by that name may be this one.
const { existsSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

/** Returns the folder of pkcs11js as seen from a file. Throws if pkcs11js is not installed. */
function findOriginal(from) {
  for (const folder of require('node:module').createRequire(from).resolve.paths('pkcs11js')) {
    const file = join(folder, 'pkcs11js', 'package.json');
    if (existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).name === 'pkcs11js') return join(folder, 'pkcs11js');
  }
  throw new Error('pkcs11js is not installed; run `npm install pkcs11js` (a peer dependency of pkcs11-ha)');
}

const folder = findOriginal(__filename);

module.exports = { folder, headers: join(folder, 'includes', 'pkcs11') };
