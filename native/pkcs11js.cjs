// Application's own copy of pkcs11js; '#pkcs11js' within this package.
module.exports = require(require('./original.cjs').folder);
