# Libraries from Debian's packages (`./dev setup` installs them). A room names the targets it uses in its DEPS:
# CapnProto::capnp, PkgConfig::uring, spdlog::spdlog, PkgConfig::xxhash, OpenSSL::Crypto, PkgConfig::zstd, CLI11::CLI11,
# PkgConfig::toml, nlohmann_json::nlohmann_json, PkgConfig::pcre2. tl/expected.hpp needs no target.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(CapnProto REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(uring REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(toml REQUIRED IMPORTED_TARGET tomlplusplus)
find_package(spdlog REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
if(DJINN_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()
