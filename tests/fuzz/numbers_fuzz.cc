// SPDX-License-Identifier: Apache-2.0
// Patches against a plan: each is refused and changes nothing, or gives numbers on which all who
// heard the same agree, and which an encoder can say again.
//
// Input: how many numbers the plan has beside the first two and the kind of each; then steps: one
// byte that says what is packed meanwhile, and a patch.
#include <memory>

#include "serialization/graph/numbers.h"
#include "tests/fuzz/input.h"

namespace djinn::fuzz {
namespace {

using graph::NumberKind;
using graph::Numbers;
using graph::NumbersCoder;

constexpr size_t kNumbersMax = 48;  // More of them are only slower.

std::shared_ptr<const graph::Plan> plan_of(const std::vector<uint8_t>& kinds) {
  auto plan = std::make_shared<graph::Plan>();
  plan->kinds = {NumberKind::kInt, NumberKind::kInt};
  for (const uint8_t kind : kinds) plan->kinds.push_back(static_cast<NumberKind>(kind % 3));
  return plan;
}

void check(Input& input) {
  const auto plan = plan_of(input.bytes(input.u8() % kNumbersMax));
  NumbersCoder server(plan);  // Hears everything, and is packed now and then.
  NumbersCoder twin(plan);    // Hears only what was accepted.
  NumbersCoder client(plan);  // Says to `other` what was understood.
  NumbersCoder other(plan);
  while (!input.empty()) {
    const uint8_t idle = input.u8();
    if ((idle & 3) == 3) server.compact();
    if ((idle & 12) == 12) client.compact();
    const std::vector<uint8_t> patch = input.small_part();
    const auto got = server.decode(patch);
    if (!got) {
      hold(got.error().code == ErrorCode::kInvalid, "a patch is invalid and nothing else");
      continue;
    }
    const Numbers& numbers = **got;
    hold(numbers.size() == plan->kinds.size(), "there are as many numbers as the plan has");
    const auto same = twin.decode(patch);
    hold(same && **same == numbers, "a refused patch has changed nothing, and packing neither");
    if (idle >= 128) continue;  // The checksum was wrong: nobody keeps them.
    server.keep(*got);
    twin.keep(*same);
    graph::ByteString again;
    client.encode(std::make_shared<const Numbers>(numbers), again);
    const auto heard = other.decode(again);
    hold(heard && **heard == numbers, "what is encoded is decoded");
    other.keep(*heard);
  }
}

}  // namespace
}  // namespace djinn::fuzz

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer calls it by this name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  djinn::fuzz::Input input(data, size);
  djinn::fuzz::check(input);
  return 0;
}
