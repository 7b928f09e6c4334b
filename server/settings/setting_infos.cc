// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "scheduler/policy.h"
#include "server/settings/settings.h"

namespace djinn::server {
namespace {

constexpr std::string_view kPolicy = "policy";  // The policies say themselves what they do.

constexpr auto kInfos = std::to_array<SettingInfo>({
    {"listen", "ADDRESS",
     "Where to accept clients: tcp://host:port (port 0: any free one) or unix:///path. "
     "May be given several times. Default: tcp://127.0.0.1:7400",
     true},
    {"device", "DEVICE",
     "What runs the operators: cpu; cuda:0, a GPU by its number, through the plugin "
     "djinn_cuda.so; "
     "or auto, cuda:0 if it can be used and else cpu, and the log says why. Default: auto"},
    {"threads", "N", "Threads that work on one operator. Default: one per core"},
    {"device-memory", "SIZE",
     "Tensors of all clients together take at most this, as 2GiB or 512M; 0: no limit (of a GPU: "
     "all of its memory). On the device cpu, what does not fit waits in host memory. Default: 0"},
    {"tenant-memory", "SIZE",
     "What the tensors of one tenant, all of its sessions together, take of the device at most; "
     "0: no limit of its own. Default: 0"},
    {"host-memory", "SIZE",
     "Tensors that had to leave the device take at most this of the host's memory; 0: no limit. "
     "Default: half of the machine's memory"},
    {"policy", "POLICY", nullptr},
    {"chunk-us", "N",
     "A job gives way to others between two operators once it has run for so many microseconds, "
     "and goes on later; 0: it ends first. Not on a GPU yet. Default: 1000"},
    {"queue", "N",
     "So many jobs of all clients wait at most; more are refused, and their clients come again "
     "later. A tenant with less than its part of them gets in still. Default: 16384"},
    {"lockstep", "N",
     "Jobs of up to so many sessions that decode with the same program and the same shared "
     "weights run together, which reads the weights once for all of them; low bits of their "
     "results then depend on who else is there (docs/scheduling.md). 1: each runs alone. Not on "
     "a GPU yet. Default: 1"},
    {"memory-policy", "POLICY",
     "What leaves the device first: plan, what its plans use last, and it comes back before it "
     "is "
     "needed; lru, what was used least recently, back on demand; or none, nothing: what does not "
     "fit is refused. Default: plan"},
    {"link-rate", "SIZE",
     "For benchmarks: bytes per second between host and device, as on a machine with a slower "
     "link; 0: as fast as memory is. Default: 0"},
    {"artifact-cache", "SIZE",
     "Weights that nobody uses stay in memory for the next client, up to this. "
     "Default: half of host-memory, or 4GiB if device-memory has no limit"},
    {"cache-dir", "PATH",
     "Keep weights in this folder too, so that a server that starts again has them; it is made "
     "if "
     "it is not there, and serves one server at a time. Default: none, nothing is written"},
    {"disk-cache", "SIZE",
     "What is kept in cache-dir takes at most this; the largest and least recently used goes "
     "first. Default: 16GiB"},
    {"model-dir", "PATH",
     "A folder of .safetensors files, and the folders below it: a client that has the same "
     "weights "
     "need not send them. SIGHUP looks for new files. May be given several times. Default: none",
     true},
    {"pin", "FILE",
     "A file of model-dir, by its path below that: it is loaded when the server starts, and its "
     "weights stay in memory. May be given several times. Default: none",
     true},
    {"log-level", "LEVEL",
     "trace, debug, info, warn, error or off; logs go to stderr. "
     "Default: info"},
    {"allow-anonymous", nullptr,
     "Let clients without a token in from other machines too. Without it they may come over "
     "loopback and unix sockets only"},
    {"token-file", "FILE", "Lines of the form token=tenant; who has a token is that tenant"},
    {"port-file", "FILE", "Write the number of the first TCP port here, when it is open"},
    {"admin", "ADDRESS",
     "Show memory, tenants and sessions to this user and root on a socket unix:///path, for "
     "djinn-ctl and curl (docs/operations.md). Default: none"},
    {"metrics", "ADDRESS",
     "Show /metrics, for Prometheus, and /health to whoever reaches tcp://host:port, as "
     "tcp://127.0.0.1:9400. Default: none"},
});

}  // namespace

const std::vector<SettingInfo>& setting_infos() {
  static const std::string policy_help =
      "Whose job runs next: " + sched::policies_help() + " (docs/scheduling.md). Default: semantic";
  static const std::vector<SettingInfo> infos = [] {
    std::vector<SettingInfo> out(kInfos.begin(), kInfos.end());
    std::ranges::find(out, kPolicy, &SettingInfo::name)->help = policy_help.c_str();
    return out;
  }();
  return infos;
}

}  // namespace djinn::server
