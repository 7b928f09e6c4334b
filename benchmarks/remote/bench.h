// SPDX-License-Identifier: Apache-2.0
// bench_remote's parts: each measures some goals against one server and adds them to the report.
//
// All arms of a part run in this process (but for the server and, where said, a second client), in
// turn, in every round. Threading: one thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "benchmarks/harness/report.h"
#include "client/djinn.h"

namespace djinn::benchmarks {

struct Bench {
  std::filesystem::path model;  // A folder made by examples/convert_smollm2.py.
  std::string server;           // tcp://127.0.0.1:port
  pid_t server_pid = -1;        // -1: somebody else's server
  int rounds = 0;
  bool quick = false;
  Report& report;

  // New sessions; tensors of the old ones are lost.
  void connect(bool share) const { djinn::connect({.server = server, .share = share}); }
};

// decode_time_ratio, bytes_up_per_token, bytes_down_per_token, plan_bytes_per_op
void measure_decode(Bench& bench);
// roundtrip_ratio_p50
void measure_round_trip(Bench& bench);
// record_cost_ratio
void measure_recording(Bench& bench);
// upload_rate_ratio, upload_user_copies
void measure_upload(Bench& bench);
// second_attach_bytes, second_attach_ms
void measure_attach(Bench& bench);

// What a second process does, started by the parts above; prints one line of JSON.
int attach_child(const Bench& bench);
int upload_child(const Bench& bench, const std::string& counters);

// Runs this binary again with these arguments; its line of JSON. Throws std::runtime_error.
[[nodiscard]] nlohmann::json run_part(const Bench& bench, const std::string& part,
                                      const std::string& argument = {});

}  // namespace djinn::benchmarks
