// SPDX-License-Identifier: Apache-2.0
// Machine: what a reader must know of the machine to believe a figure: processor, kernel, LibTorch
// and how fast its matrix product is on one thread.
//
// Threading: one thread; sets LibTorch's threads to one for as long as it measures.
#pragma once

#include "benchmarks/harness/report.h"

namespace djinn::benchmarks {

// GF/s of a 1024 x 1024 x 1024 product on one thread, the median of some.
[[nodiscard]] double gemm_gflops(bool bfloat16);

void describe_machine(Report& report);

}  // namespace djinn::benchmarks
