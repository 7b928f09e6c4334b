// SPDX-License-Identifier: Apache-2.0
#include "client/session/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace djinn::client {

Result<std::shared_ptr<const MappedFile>> MappedFile::open(const std::string& path) {
  const auto failed = [&path](ErrorCode code) {
    return Error{code, path + ": " + std::generic_category().message(errno)};
  };
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return failed(ErrorCode::kNotFound);
  struct stat info {};
  void* begin = MAP_FAILED;
  const bool regular = fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0;
  const auto length = static_cast<size_t>(info.st_size);
  if (regular) begin = mmap(nullptr, length, PROT_READ, MAP_SHARED, file, 0);
  const int error = errno;
  close(file);  // The mapping holds it.
  errno = error;
  if (!regular) return Error{ErrorCode::kInvalid, path + ": is no file with anything in it"};
  if (begin == MAP_FAILED) return failed(ErrorCode::kFailed);
  return std::shared_ptr<const MappedFile>(
      new MappedFile({static_cast<const std::byte*>(begin), length}));
}

MappedFile::~MappedFile() {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): it was mapped here
  munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace djinn::client
