// SPDX-License-Identifier: Apache-2.0
// Guest: a session of a test's server, with a tensor [1, 2].
// Threading: one thread.
#pragma once

#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/test_server.h"

namespace djinn::testing {

struct Guest {
  explicit Guest(TestServer& server, std::string_view token = "")
      : Guest(server.unix_socket, token) {}
  // With nothing on the server when `greeted` is false.
  explicit Guest(const transport::Address& server, std::string_view token = "") : client(server) {
    codec::Hello hello = WireClient::usual_hello();
    hello.token = token;
    greeted = client.hello(hello).has_value();
    if (!greeted) return;
    tensor = make_tensor(client, 2);
    client.submit(
        [&](graph::PlanWriter& writer) {
          record_upload(writer, tensor, graph::UploadForm::kInline);
        },
        to_bytes(std::vector<float>{1, 2}));
    EXPECT_EQ(ask(), kTensor);
  }
  // Whether it is still served, and has what it had.
  std::vector<float> ask() {
    return client.fetch([&](graph::PlanWriter& writer) { record_fetch(writer, tensor); });
  }
  // So many operators that take so long, one by one.
  void record_sleeps(graph::PlanWriter& writer, int times, int64_t each_ms) {
    for (int i = 0; i < times; ++i) record_sleep(client, writer, each_ms);
  }
  // A job that takes so long and fetches the tensor. Its number.
  uint32_t sleep(int64_t ms) {
    return client.submit([&](graph::PlanWriter& writer) {
      record_sleep(client, writer, ms);
      record_fetch(writer, tensor);
    });
  }

  // What was refused, and what came behind it, is to be sent again.
  void begin_epoch(const codec::Refused& refused) {
    client.forget_plans();
    client.next_job = refused.job;
    client.epoch = refused.epoch;
  }

  static inline const std::vector<float> kTensor{1, 2};
  WireClient client;
  Tensor tensor;
  bool greeted = false;
};

}  // namespace djinn::testing
