// SPDX-License-Identifier: Apache-2.0
// Whether this is a sanitizer's build: memory, descriptors and pipes are not what they are outside.
#pragma once

namespace djinn::testing {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

}  // namespace djinn::testing
