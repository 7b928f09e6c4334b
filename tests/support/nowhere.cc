// SPDX-License-Identifier: Apache-2.0
// A library that a fake plugin is linked with and does not find when it is loaded (plugin_test.cc).
extern "C" __attribute__((visibility("default"))) int djinn_nowhere();
extern "C" int djinn_nowhere() { return 0; }
