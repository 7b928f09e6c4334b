// SPDX-License-Identifier: Apache-2.0
#include "server/memory/artifact_name.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <cstdio>
#include <cstdlib>

namespace djinn::server {
namespace {

// Without these functions of OpenSSL nothing here could be trusted; they fail only when it is
// broken.
void must(bool good) {
  if (good) return;
  std::fputs("djinn: OpenSSL failed\n", stderr);
  std::abort();
}

}  // namespace

ArtifactKey random_artifact_key() {
  ArtifactKey key;
  must(RAND_bytes(key.data(), static_cast<int>(key.size())) == 1);
  return key;
}

ArtifactName artifact_name(const ArtifactKey& key, std::span<const std::byte> content) {
  std::array<uint8_t, 32> digest;
  unsigned length = 0;
  must(EVP_Digest(content.data(), content.size(), digest.data(), &length, EVP_sha256(), nullptr) ==
       1);
  ArtifactName name;
  must(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), digest.data(), digest.size(),
            name.data(), &length) != nullptr);
  return name;
}

}  // namespace djinn::server
