// Where pkcs11js itself is: the application's own copy. This package may be installed in its place, under its name
// (npm overrides), so that the first that goes by it need not be it.
const { existsSync, readFileSync } = require('node:fs');
const { join } = require('node:path');

/** The folder of pkcs11js, seen from a file. */
function findOriginal(from) {
  for (const folder of require('node:module').createRequire(from).resolve.paths('pkcs11js')) {
    const file = join(folder, 'pkcs11js', 'package.json');
    if (existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).name === 'pkcs11js') return join(folder, 'pkcs11js');
  }
  throw new Error('pkcs11js is not installed: pkcs11-ha needs it (a peer dependency)');
}

const folder = findOriginal(__filename);

module.exports = { folder, headers: join(folder, 'includes', 'pkcs11') };
