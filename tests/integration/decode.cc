// SPDX-License-Identifier: Apache-2.0
// decode DEVICE TOKENS [cat | static]: a small decoder with random weights reads the logits of each
// step, and prints the likeliest token and the sum of all. A program for tests that run it in a
// process of its own.
#include <cstdio>
#include <cstdlib>
#include <string>

#include <ATen/Parallel.h>

#include "examples/generation.h"

int main(int argc, char** argv) {
  using namespace djinn::examples;  // NOLINT(google-build-using-namespace)
  if (argc < 3) {
    std::fputs("decode: see the top of decode.cc\n", stderr);
    return 2;
  }
  at::set_num_threads(1);
  try {
    const Llama model = Llama::random(LlamaConfig::tiny(), 7, at::Device(argv[1]));
    const bool fixed = argc > 3 && std::string(argv[3]) == "static";
    const int64_t tokens = std::atoll(argv[2]);
    Decoder decoder(model, fixed ? KvKind::kStatic : KvKind::kCat, 6 + tokens);
    decoder.start(std::vector<int64_t>{3, 1, 4, 1, 5, 9});
    for (int64_t i = 0; i < tokens; ++i) {
      if (i > 0) decoder.advance();
      const at::Tensor logits = decoder.logits().cpu();
      std::printf("%lld %.17g\n", static_cast<long long>(decoder.token().item<int64_t>()),
                  logits.to(at::kDouble).sum().item<double>());
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "decode: %s\n", error.what());
    return 1;
  }
  return 0;
}
