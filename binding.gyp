{
  "variables": {
    "sanitize%": "",
    "pkcs11_headers": "<!(node -p \"require('./native/original.cjs').headers\")"
  },
  "target_defaults": {
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
    "cflags_cc": ["-std=c++20", "-fexceptions", "-frtti", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-cast-function-type", "-fvisibility-inlines-hidden"],
    "conditions": [
      ["sanitize!=''", {
        "cflags_cc": ["-fsanitize=<(sanitize)", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g", "-O1"],
        "ldflags": ["-fsanitize=<(sanitize)"]
      }]
    ]
  },
  "targets": [
    {
      "target_name": "pkcs11_ha",
      "sources": ["native/addon/unity.cc"],
      "include_dirs": ["native", "<!(node -p \"require('node-addon-api').include_dir\")"],
      # Without the last one, an exception in a worker that is being terminated would end the process.
      "defines": ["NAPI_VERSION=8", "NODE_ADDON_API_DISABLE_DEPRECATED", "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"],
      "cflags_cc": ["-fvisibility=hidden"],
      "ldflags": ["-Wl,-Bsymbolic"]
    },
    {
      "target_name": "pkcs11-ha-host",
      "type": "executable",
      "sources": ["native/host/unity.cc"],
      "include_dirs": ["native", "<(pkcs11_headers)"],
      "ldflags": ["-pthread"],
      "libraries": ["-ldl"]
    }
  ]
}
