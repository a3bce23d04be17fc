import pkcs11js = require('pkcs11js');
export = pkcs11js;
