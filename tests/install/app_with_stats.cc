// SPDX-License-Identifier: Apache-2.0
// app_with_stats: the installed headers, and what the session cost. Exit status 1 if the server ran
// nothing.
#include <djinn/djinn.h>
#include <djinn/ghost.h>

#include <cstdio>

#include <ATen/ATen.h>

int main() {
  const at::Tensor a = at::ones({4, 4}).to(at::Device("djinn"));
  const float sum = a.mm(a).sum().item<float>();
  std::printf("sum %g, %llu bytes sent, %llu operators run by the server\n", sum,
              static_cast<unsigned long long>(djinn::stats().bytes_sent),
              static_cast<unsigned long long>(djinn::server_stats().ops_executed));
  return sum == 64.0F && djinn::server_stats().ops_executed > 0 ? 0 : 1;
}
